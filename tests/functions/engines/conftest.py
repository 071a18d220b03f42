"""The engines that the suite runs on, and the worker that a test talks to."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microcosmos.functions import deno

from .workers import COMPILED, Command, Function, Process, Worker, running, walled

ENGINES: dict[str, Command] = {
    "quickjs": lambda path: ([sys.executable, "-m", "microcosmos.functions.quickjs", path], {}),
    "monty": lambda path: ([sys.executable, "-m", "microcosmos.functions.monty", path], {}),
    "deno": lambda path: walled(
        path, *deno.command(Path(path), heap=256 << 20, folder=Path(path).parent)
    ),
    "wasm": lambda path: (
        [sys.executable, "-m", "microcosmos.functions.wasm", path, str(COMPILED)],
        {},
    ),
}
"""How a worker of each engine is started. An engine joins the suite by its line here …"""

FLAVOURS: dict[str, list[tuple[str, str, str]]] = {
    "javascript": [
        *(("quickjs", "handler", "javascript"), ("deno", "handler", "javascript")),
        ("wasm", "handler", "javascript"),
    ],
    "script": [
        *(("quickjs", "script", "javascript"), ("deno", "script", "javascript")),
        ("wasm", "script", "javascript"),
    ],
    "module": [("deno", "module", "javascript")],
    "typescript": [("deno", "handler", "typescript")],
    "python": [("monty", "handler", "python")],
}
"""… and here says what it runs: by the name of a source, (engine, form, language)."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "runs(options={}, javascript=…, script=…, module=…, python=…): the same function in each "
        "of the ways to write it; the test gets it as `function`, loaded",
    )
    config.addinivalue_line("markers", "engines(*names): a test that is not for all engines")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "function" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("runs")
        assert marker, f"{metafunc.function.__name__} wants a function: say @pytest.mark.runs"
        sources = {name: code for name, code in marker.kwargs.items() if name != "options"}
        ways = [
            pytest.param((*way, code), id=f"{way[0]}-{name}")
            for name, code in sources.items()
            for way in FLAVOURS[name]
            if way[0] in _engines(metafunc)
        ]
        metafunc.parametrize("way", ways)
    elif {"worker", "own_worker"} & set(metafunc.fixturenames):
        ways = [pytest.param((name, "", "", ""), id=name) for name in _engines(metafunc)]
        metafunc.parametrize("way", ways)


def _engines(metafunc: pytest.Metafunc) -> list[str]:
    marker = metafunc.definition.get_closest_marker("engines")
    return [name for name in ENGINES if marker is None or name in marker.args]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that has a worker with the line open, and its function loaded."""
    if "worker" not in pyfuncitem.funcargs or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    marker = pyfuncitem.get_closest_marker("runs")

    async def run() -> None:
        given = {name: pyfuncitem.funcargs[name] for name in names}
        async with pyfuncitem.funcargs["worker"] as worker:
            if "function" in given:
                assert marker
                given["function"] = await _loaded(worker, pyfuncitem, marker)
            await pyfuncitem.obj(**given)

    asyncio.run(run())
    return True


async def _loaded(worker: Worker, item: pytest.Function, marker: pytest.Mark) -> Function:
    _, form, language, code = item.funcargs["way"]
    return await worker.load(code, form=form, language=language, **marker.kwargs.get("options", {}))


@pytest.fixture(scope="session")
def processes() -> Iterator[Callable[[str], Process]]:
    """A process per engine that all tests share: none may leave it worse than it was."""
    started: dict[str, Process] = {}

    def of(engine: str) -> Process:
        if engine not in started:
            started[engine] = Process(ENGINES[engine])
        return started[engine]

    yield of
    for process in started.values():
        process.stop()


@pytest.fixture
def worker(way: tuple[str, str, str, str], processes: Callable[[str], Process]) -> Worker:
    """The line to a worker, open while the test runs."""
    return Worker(processes(way[0]), way[0])


@pytest.fixture
def function(worker: Worker) -> None:
    """The function of the test's `runs`, loaded."""


@pytest.fixture
def own_worker(way: tuple[str, str, str, str]) -> Iterator[Worker]:
    """A worker that the test may end; to be opened by the test."""
    with running(ENGINES[way[0]]) as process:
        yield Worker(process, way[0])
