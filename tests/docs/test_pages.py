"""The pages are true: programs run, sessions print what they show, commands and links exist.

How a block is marked says what is done with it:

- ``python test``: the blocks of a page are one program; it is run, and so is every ``test_…`` in
  it, on a platform in memory.
- ``python file=NAME``: written where the session of the page finds it.
- ``python``: it compiles, and what it imports is there.
- ``console``: typed into a shell, line by line; what it prints must be what the page shows, but
  for ids, ports and times. A line that is ``…`` stands for any lines.
- none: lines that begin with ``micro`` name commands and flags that there are.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import itertools
import re
import shlex
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import pytest

from microcosmos.base import names
from microcosmos.cli import flags
from microcosmos.cli.dynamic import Dynamic
from microcosmos.cli.main import micro
from microcosmos.cli.session import Session
from microcosmos.gateway.front.blocklist import ApiService
from microcosmos.registry import Service as Registered
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.runtime.service import RuntimeService
from microcosmos.service import Service
from microcosmos.service.records import record
from microcosmos.testing import memory

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

WORDS = ["service", "rpc", "registry", "store", "runtime", "gateway", "proxy", "server", "cli"]
WORDS += ["config", "auth", "broker", "events", "functions", "ledger"]
WORDS += ["profiles", "openapi", "testing", "errors", "limits"]
HEADINGS = ["Idea", "Five lines", "Options", "Backends", "Command line", "When it fails"]
DECISION = ["Context", "Decision", "Consequences"]


# Programs.


def _program(page: Any, mark: str = "python test") -> types.ModuleType:
    """The marked blocks of a page as one module, run."""
    module = types.ModuleType(f"page_{page.path.stem}")
    # Type hints are looked up in the module that a class says it is from.
    sys.modules[module.__name__] = module
    for fence in page.fences():
        if fence.info == mark:
            lines = "\n" * (fence.line - 1) + fence.text
            exec(compile(lines, str(page.path), "exec"), module.__dict__)
    return module


async def test_programs_do_what_they_say(page: Any) -> None:
    module = _program(page)
    for name, function in list(vars(module).items()):
        if name.startswith("test_"):
            async with memory() as platform:
                asked = inspect.signature(function).parameters
                answer = function(**({"platform": platform} if asked else {}))
                if inspect.isawaitable(answer):
                    await answer


def test_programs_that_are_not_run_compile_and_find_what_they_import(page: Any) -> None:
    for fence in page.fences():
        if fence.info == "python" or fence.info.startswith("python file="):
            tree = compile(
                fence.text,
                f"{page.path}:{fence.line}",
                "exec",
                ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            for node in ast.walk(tree):
                _import(node)


def _import(node: ast.AST) -> None:
    if isinstance(node, ast.Import):
        for name in node.names:
            importlib.import_module(name.name)
    elif isinstance(node, ast.ImportFrom) and node.module != "main":
        module = importlib.import_module(node.module or "")
        for name in node.names:
            assert hasattr(module, name.name), f"{node.module} has no {name.name}"


# Commands.


def _services(page: Any) -> dict[str, Registered]:
    """The services that pages call: the examples, a page's own, and the core's."""
    hosted = [RegistryService(MemoryRegistry()).hosted()]
    hosted.append(RuntimeService(cast("Any", None)).hosted())
    hosted.append(ApiService(cast("Any", None)).hosted())
    programs = [_loaded(path) for path in (ROOT / "examples").rglob("main.py")]
    written = {fence.info for fence in page.fences() if fence.info.endswith("/main.py")}
    programs += [_program(page, mark) for mark in ("python test", *sorted(written))]
    for program in programs:
        for service in vars(program).values():
            if isinstance(service, Service):
                hosted.append(service.hosted())
                if service.name == "helloworld":
                    # What `micro new service greeter` writes, and `micro run --name` makes of it.
                    hosted += [service.hosted("greeter"), service.hosted("hello")]
                    # The foreign examples take the same.
                    hosted += [service.hosted("node"), service.hosted("plain")]
    return {one.name: record(one, "node", {}) for one in hosted}


def _loaded(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def _typed(page: Any) -> Iterator[tuple[int, list[str]]]:
    """The words after ``micro`` of every command line of a page, with its line."""
    for number, text in _lines(page):
        for part in re.split(r"&&|;|\|", text):
            words = shlex.split(part, comments=True)
            words = list(itertools.dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words))
            if words and words[0] in ("micro", ".venv/bin/micro"):
                yield number, list(itertools.takewhile(_is_argument, words[1:]))


def _lines(page: Any) -> Iterator[tuple[int, str]]:
    """The lines to be typed; in a session not those that are shown to be refused."""
    for fence in page.fences():
        if fence.info == "console":
            for number, command, shown in _commands(fence):
                if "micro: " not in shown:
                    yield number, command
        elif not fence.info:
            yield from enumerate(fence.text.splitlines(), fence.line)


def _is_argument(word: str) -> bool:
    return not re.match(r"[12]?>|&$", word)


def test_commands_and_their_flags_exist(page: Any) -> None:
    services = _services(page)
    for number, words in _typed(page):
        try:
            _parse(words, services)
        except (click.ClickException, KeyError, AssertionError) as exc:
            told = exc.format_message() if isinstance(exc, click.ClickException) else repr(exc)
            pytest.fail(f"{page.name}:{number}: micro {shlex.join(words)}: {told}")


def _parse(words: list[str], services: dict[str, Registered]) -> None:
    try:
        with micro.make_context("micro", list(words), obj=Session()) as ctx:
            command: click.Command = micro
            rest = [*ctx._protected_args, *ctx.args]
            while isinstance(command, click.Group) and rest:
                name, command, rest = command.resolve_command(ctx, rest)  # type: ignore[assignment]
                ctx = command.make_context(name, rest, parent=ctx)
                rest = [*ctx._protected_args, *ctx.args]
            if isinstance(command, Dynamic):
                _parse_call(services[command.word], rest)
    except click.exceptions.Exit:
        return  # --help and --version are answered as they are read


def _parse_call(service: Registered, words: list[str]) -> None:
    if "--help" in words:
        return
    at = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    name = names.endpoint_name(service.name, ".".join(words[:at]) or "Call")
    endpoint = service.endpoint(name)
    assert endpoint is not None, f"no endpoint {name}"
    flags.request(endpoint.request, words[at:])


# Sessions.


@pytest.mark.e2e
def test_sessions_print_what_they_show(session: Any, shell: Any) -> None:
    fences = [f for f in session.fences() if f.info == "console" or "file=" in f.info]
    if _wants_a_server(fences):
        shell.run("micro server --detach")
    for fence in fences:
        if fence.info == "console":
            for number, command, shown in _commands(fence):
                said = shell.run(command)
                # Rules hold at every gateway a moment after they were changed; to read can wait.
                end = time.monotonic() + 10
                while not _matches(shown, said) and command.startswith("curl -s '"):
                    if time.monotonic() > end:
                        break
                    said = shell.run(command)
                where = f"{session.name}:{number}: {command}"
                assert _matches(shown, said), f"{where}\nshows:\n{shown}\nprints:\n{said}"
        else:
            shell.write(fence.info.partition("file=")[2], fence.text)


def _wants_a_server(fences: list[Any]) -> bool:
    """Whether a session takes a running server for granted."""
    commands = [command for fence in fences for _, command, _ in _commands(fence)]
    starts = any("micro server --detach" in command for command in commands)
    return not starts and not all(command.startswith("micro new ") for command in commands)


def _commands(fence: Any) -> Iterator[tuple[int, str, str]]:
    """The line, the command and the output of every command of a session."""
    for part in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", fence.text, re.MULTILINE):
        yield fence.line + fence.text.count("\n", 0, part.start()), part[1], part[2]


_CHANGING = [
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\bPID \d+ \(\S+\)|\bPID \d+", "PID"),
    (r"\bport \d+", "port PORT"),
    (r"ready in [\d.]+ s", "ready"),
    (r"\bin [\d.]+s\b", "in SECONDS"),
    (r"(?<![\d.])\d+\.\d+\.\d+(?![\d.])", "VERSION"),
    (r"\b(\d+h)?(\d+m)?\d+s ago", "AGO"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b\d{10}\.\d+", "SECONDS"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\b[0-9a-f]{32}\b", "TRACE"),
    (r"-[0-9a-f]{8}-(\d+)-[0-9a-f]{6}\b", r"-\1"),
    (r"\b[0-9a-f]{8}\.sock\b", "SOCK"),
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r" {2,}", "  "),
]


def _plain(text: str) -> str:
    for pattern, instead in _CHANGING:
        text = re.sub(pattern, instead, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _matches(shown: str, said: str) -> bool:
    pattern = re.escape(_plain(shown)).replace("…", "(?:.*\n)*?.*")
    return re.fullmatch(pattern, _plain(said)) is not None


# The shape of pages.


def test_links_lead_somewhere(page: Any) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.prose):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.path.parent / path) if path else page.path
        assert there.exists(), f"{page.name}: {target} leads nowhere"
        if anchor:
            assert anchor in _anchors(there), f"{page.name}: {target}: no such heading"


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("word", WORDS)
def test_pages_of_words_have_the_same_headings(word: str) -> None:
    found = re.findall(r"^## (.+)$", _prose(DOCS / f"{word}.md"), re.MULTILINE)
    assert [heading for heading in HEADINGS if heading in found] == found
    assert set(HEADINGS) - set(found) <= {"Backends"}


def test_decisions_have_the_same_headings() -> None:
    records = sorted((DOCS / "design").glob("*.md"))
    assert records
    for path in records:
        assert re.findall(r"^## (.+)$", _prose(path), re.MULTILINE) == DECISION, path.name


def test_the_map_names_every_page() -> None:
    linked = re.findall(r"\]\(([^)#\s]+)\)", (DOCS / "index.md").read_text("utf-8"))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}
    assert pages <= set(linked)


def _prose(path: Path) -> str:
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


# The limits.

_TIMES = {"ms": 0.001, "s": 1, "min": 60, "h": 3600}
_UNITS = {"": 1, **_TIMES, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def _limits() -> list[tuple[str, str]]:
    """The value and the constant of every row of the table."""
    rows = re.findall(r"^\|.*\|$", (DOCS / "limits.md").read_text("utf-8"), re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [(row[1], row[-1].strip("`")) for row in cells if row[-1].startswith("`")]


@pytest.mark.parametrize(("shown", "constant"), _limits())
def test_a_limit_is_what_the_code_says(shown: str, constant: str) -> None:
    number, _, unit = shown.replace(",", "").partition(" ")
    assert float(number) * _UNITS[unit] == pytest.approx(_value(constant))


def _value(constant: str) -> float:
    """The number of ``rpc.interface:MAX_BODY``, or of ``server.tree:Backoff.FIRST``."""
    module, _, path = constant.partition(":")
    value: Any = importlib.import_module(f"microcosmos.{module}")
    for at, part in enumerate(path.split(".")):
        # A field of a settings struct has its default in an instance only.
        struct = isinstance(value, type) and hasattr(value, "__struct_fields__")
        owner = value() if at and struct else value
        value = getattr(owner, part)
    return float(value)


def test_the_table_has_the_published_limits() -> None:
    published = {constant for _, constant in _limits()}
    assert {
        "rpc.interface:MAX_BODY",
        "rpc.interface:DEFAULT_TIMEOUT",
        "rpc.middleware.limit:DEFAULT_CONCURRENCY",
        "registry.interface:TTL",
        "registry.interface:REFRESH",
        "runtime.folder:MAX_SIZE",
        "runtime.folder:MAX_FILES",
        "gateway.app:LONGEST_TIMEOUT",
        "store.interface:MAX_KEY",
        "store.interface:MAX_VALUE",
        "base.names:MAX_LENGTH",
    } <= published
