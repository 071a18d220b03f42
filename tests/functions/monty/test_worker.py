"""The worker of Python functions: limits, deaths, its lines, its end."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import time

import psutil
import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits
from microcosmos.functions.monty import pool
from microcosmos.monitor.ledger.interface import SUMMED
from microcosmos.rpc import frames

from ..engines.workers import Answer, Process, Worker
from .test_handlers import body, load


def sandboxes(process: Process) -> list[psutil.Process]:
    """The processes in which functions run."""
    children = psutil.Process(process.pid).children()
    # Not the one that looks at their memory.
    return [one for one in children if one.name().startswith("monty")]


def ended(processes: list[psutil.Process]) -> bool:
    """Whether all of them have ended, though nobody may have asked how."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if all(_over(one) for one in processes):
            return True
        time.sleep(0.01)
    return False


def _over(process: psutil.Process) -> bool:
    try:
        if sys.platform != "linux":
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        # The first thread of one is a zombie while others still end.
        held = os.pidfd_open(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return True
    try:
        return bool(select.select([held], [], [], 0)[0])
    finally:
        os.close(held)


# What it checks and loads.


@pytest.mark.parametrize(
    ("code", "line", "column", "message"),
    [
        ("x = 1\ndef handler(:\n  pass", 2, 13, "parameter"),
        ("y = = 3", 1, 5, "expression"),
        ("def handler(r, e):\n    yield 1", 2, 5, "yield expressions cannot be used"),
        ("\n\nclass A(B):\n    pass", 3, 1, "class inheritance"),
        ("x = 1", 0, 0, "no handler"),
        ("-" * 5000 + "1", 1, 201, "nested"),
        ("def handler(r, e): return '", 1, 27, "quote"),
    ],
)
async def test_errors_of_syntax_are_found(
    worker: Worker, code: str, line: int, column: int, message: str
) -> None:
    async with worker:
        found = await worker.check(code, file="a.py", language="python")
        assert (found.line, found.column, found.form) == (line, column, "")
        assert message in found.message


@pytest.mark.parametrize(
    "code",
    [
        "def handler(request, env): pass",
        "async  def handler(request, env): pass",
        "handler = lambda request, env: 1",
        "def consume(event, env): pass",
        "def scheduled(event, env): pass",
        "while True: pass\ndef handler(r, e): pass",
        "'''\ntext'''\ndef handler(r, e): pass",
    ],
)
async def test_what_is_good_is_not_run_to_be_checked(worker: Worker, code: str) -> None:
    async with worker:
        found = await worker.check(code, file="a.py", language="python")
        assert (found.form, found.message) == ("handler", "")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def handler(:", "probe.py:1:13: "),
        ("x = 1", "no handler"),
        ("x = 1\n\nboom()\ndef handler(r, e): pass", "probe.py:3:1: NameError"),
        ("import nothing\ndef handler(r, e): pass", "nothing"),
    ],
)
async def test_code_that_fails_when_loaded_is_refused(worker: Worker, code: str, why: str) -> None:
    async with worker:
        with pytest.raises(errors.InternalServerError) as refused:
            await load(worker, code)
        assert refused.value.id == "functions.load"
        assert why in refused.value.detail
        assert "\n" not in refused.value.detail


async def test_a_key_is_loaded_once(worker: Worker) -> None:
    async with worker:
        code = "def handler(request, env):\n    return 1"
        one, two = await asyncio.gather(*(load(worker, code, key="same") for _ in range(2)))
        assert one.slot == two.slot
        counts = await one.counts(0)
        assert counts.cold_starts <= 1
        await worker.drop(one)
        assert (await one.get()).id == "functions.unloaded"
        assert (await load(worker, code, key="same")).slot != one.slot


# Limits.


async def test_what_computes_for_too_long_is_ended(worker: Worker) -> None:
    async with worker:
        limits = Limits(cpu=0.05)
        function = await body(
            worker,
            "if request.path:\n    while True:\n        try:\n            pass\n"
            "        except BaseException:\n            pass\nreturn 'fine'",
            limits=limits,
        )
        begun = time.monotonic()
        assert (await function.get("x")).id == "functions.limit.cpu"
        assert time.monotonic() - begun < 5
        assert (await function.get()).text == "fine"


async def test_waiting_is_not_computing(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker, "import time\ntime.sleep(0.15)\nreturn 'x'", limits=Limits(cpu=0.05)
        )
        assert (await function.get()).text == "x"


@pytest.mark.parametrize(
    ("lines", "limits", "id"),
    [
        ("while True:\n    pass", Limits(cpu=0.05), "cpu"),
        ("'ab' * (1 << 28)", Limits(heap=16 << 20), "memory"),
        ("a = []\nwhile True:\n    a.append('x' * 1000)", Limits(heap=8 << 20, cpu=9), "memory"),
        ("def down():\n    return down()\ndown()", Limits(), "stack"),
        ("import time\ntime.sleep(9)", Limits(wall=1.0), "wall"),
        ("return 'x' * 1001", Limits(response=1000), "output"),
        ("for at in range(4):\n    fetch('http://a/')", Limits(fetches=3), "fetches"),
    ],
)
async def test_limits_are_kept_and_the_next_request_is_served(
    worker: Worker, lines: str, limits: Limits, id: str
) -> None:
    async with worker:
        worker.sites["http://a/"] = Answer(status=200)
        indented = "\n".join(f"    {line}" for line in lines.splitlines())
        function = await body(
            worker, f"if not request.path:\n{indented}\nreturn 'fine'", limits=limits
        )
        answer = await function.get()
        assert (answer.status, answer.id) == (503, f"functions.limit.{id}")
        assert (await function.get("x")).text == "fine"
        counts = await function.counts(2)
        assert counts.errors == 1
        assert all(getattr(counts, name) >= 0 for name in SUMMED)
        if id == "cpu":
            assert counts.cpu_ns >= 40_000_000


async def test_a_body_that_is_too_large_is_refused(worker: Worker) -> None:
    async with worker:
        function = await body(worker, "return len(request.bytes())", limits=Limits(request=1000))
        assert (await function.post(body=b"x" * 1000)).json == 1000
        assert (await function.post(body=b"x" * 1001)).id == "functions.body"
        upload = function.open()
        await upload.send(b"x" * 600)
        await upload.send(b"y" * 600)
        assert (await upload.answer()).status == 413


async def test_a_body_that_streams_in_is_read_whole(worker: Worker) -> None:
    async with worker:
        function = await body(worker, "return len(request.bytes())")
        upload = function.open()
        for _ in range(50):
            await upload.send(b"x" * 30_000)
        upload.end()
        assert (await upload.answer()).json == 1_500_000


async def test_too_many_requests_of_one_function_are_refused(worker: Worker) -> None:
    async with worker:
        release = asyncio.Event()

        async def site(fetch: wire.Fetch) -> Answer:
            await release.wait()
            return Answer(status=200)

        worker.sites["http://a/"] = site
        function = await body(
            worker, "fetch('http://a/')\nreturn 'x'", limits=Limits(concurrency=2)
        )
        begun = [function.begin() for _ in range(3)]
        assert (await begun[2].answer()).id == "functions.limit.concurrency"
        release.set()
        assert [(await one.answer()).text for one in begun[:2]] == ["x", "x"]


# Sandboxes.


async def test_a_sandbox_that_dies_is_replaced(own: Worker) -> None:
    async with own:
        function = await body(
            own, "import time\nif request.path:\n    time.sleep(9)\nreturn 'fine'"
        )
        waiting = function.begin(path="x")
        await function.get()
        killed = sandboxes(own.process)
        for sandbox in killed:
            sandbox.kill()
        assert ended(killed)
        assert (await waiting.answer()).id == "functions.lost"
        assert (await function.get()).text == "fine"


async def test_no_more_sandboxes_than_there_may_be(own: Worker) -> None:
    async with own:
        waiting = 0
        full, release = asyncio.Event(), asyncio.Event()

        async def site(fetch: wire.Fetch) -> Answer:
            nonlocal waiting
            waiting += 1
            if waiting == pool.SANDBOXES:
                full.set()
            await release.wait()
            return Answer(status=200)

        own.sites["http://a/"] = site
        function = await body(own, "fetch('http://a/')\nreturn 'x'")
        other = await body(own, "return 'other'")
        begun = [function.begin() for _ in range(pool.SANDBOXES + 5)]
        late = other.begin()
        await asyncio.wait_for(full.wait(), 60)
        assert len(sandboxes(own.process)) <= pool.SANDBOXES + 1
        assert not late.begun.done()
        release.set()
        assert {(await one.answer()).text for one in begun} == {"x"}
        assert (await late.answer()).text == "other"


async def test_many_functions_share_few_sandboxes(own: Worker) -> None:
    async with own:
        functions = [await body(own, f"return {at}") for at in range(pool.SANDBOXES + 6)]
        answers = [(await function.get()).json for function in functions]
        assert answers == list(range(len(functions)))
        assert len(sandboxes(own.process)) <= pool.SANDBOXES + 1


async def test_nobody_waits_for_an_answer_that_nobody_wants(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker, "import time\nif request.path:\n    time.sleep(9)\nreturn 'fine'"
        )
        stream = function.begin(path="x")
        await function.get()
        stream.cancel()
        assert (await function.get()).text == "fine"
        # What nobody waited for was run all the same.
        assert (await function.counts(3)).requests == 3


async def test_a_sandbox_whose_worker_was_killed_ends_itself(own: Worker) -> None:
    async with own:
        function = await body(own, "while True:\n    pass", limits=Limits(cpu=0.05))
        function.begin()
        other = await body(own, "return 1")
        await other.get()
        left = sandboxes(own.process)
        own.kill()
        await own.gone()
    assert left
    assert left
    assert ended(left)


# Lines.


async def test_a_beat_is_answered_while_functions_compute(worker: Worker) -> None:
    async with worker:
        function = await body(worker, "while True:\n    pass", limits=Limits(cpu=0.5))
        stream = function.begin()
        worker.line.send(frames.BEAT, 7, b"here")
        await worker.until(lambda: worker.beats == [b"here"])
        assert not stream.begun.done()
        assert (await stream.answer()).id == "functions.limit.cpu"


async def test_a_host_that_comes_back_is_told_once_what_the_other_was_not(own: Worker) -> None:
    second = Worker(own.process, "monty")
    async with own:
        function = await body(own, "print('hello')\nreturn 'x'")
        await function.get()
        await function.logs()
        async with second:
            # From here on it is the host, and the first only a gateway.
            assert [loaded.slot for loaded in second.found] == [function.slot]
            await function.get()
            await second.until(lambda: second.logged(function.slot))
            told = [notes.sequence for notes in [*own.notes, *second.notes]]
            assert told == sorted(set(told))
        await function.get()
        async with Worker(own.process, "monty") as third:
            await third.until(lambda: third.logged(function.slot))
            assert len(third.logged(function.slot)) == 1


async def test_what_a_lost_host_was_asked_for_fails(own: Worker) -> None:
    asked = asyncio.Event()

    async def site(fetch: wire.Fetch) -> Answer:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with own:
        async with Worker(own.process, "monty") as host:
            host.sites["http://a/"] = site
            function = await body(
                own,
                "try:\n    fetch('http://a/', method='PUT')\n"
                "except RuntimeError as e:\n    return str(e)",
            )
            stream = function.begin()
            await asked.wait()
        assert (await stream.answer()).text.startswith("functions.host")


@pytest.mark.parametrize("payload", [b"", b"\1\0\0\0\xff\xff\xff\xff", b"\0\0\0\0\4\0\0\0what"])
async def test_what_nobody_understands_is_refused(worker: Worker, payload: bytes) -> None:
    async with worker:
        stream = worker.open(frames.REQUEST, payload)
        assert (await stream.answer()).status in (400, 503)


@pytest.mark.parametrize("asked", ["signal", "host"])
async def test_it_answers_what_came_and_ends_when_its_lines_are_closed(
    own: Worker, asked: str
) -> None:
    async with own:
        function = await body(own, "import time\nprint('x')\ntime.sleep(0.2)\nreturn 'fine'")
        stream = function.begin()
        await (await body(own, "return 1")).get()
        left = sandboxes(own.process)
        if asked == "signal":
            own.process.signal(signal.SIGTERM)
        else:
            own.line.send(frames.GOAWAY, 0, b"")
        await own.until(lambda: own.leaving)
        assert (await function.get()).text == "fine"
        assert (await stream.answer()).text == "fine"
        await function.logs(2)
    assert await asyncio.to_thread(own.process.wait) == 0
    assert left
    assert ended(left)
