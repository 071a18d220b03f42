"""The process: forked from a warm one, many functions, little memory."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from microcosmos.base import errors
from microcosmos.functions.interface import Limits
from microcosmos.functions.quickjs.limits import FETCHED
from microcosmos.rpc import frames

from ..engines.workers import Answer, Function, Process, Worker

HELLO = "function handler() { return 'hello' }"

FORKS = """
import os, socket, sys, threading
from microcosmos.functions.quickjs import run
assert threading.active_count() == 1, threading.enumerate()
assert len(os.listdir("/proc/self/task")) == 1
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
if os.fork() == 0:
    run(listener)
    os._exit(7)
listener.close()
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


async def test_it_is_forked_from_a_process_that_has_loaded_it() -> None:
    process = Process(lambda path: ([sys.executable, "-c", FORKS, path], {}))
    try:
        async with Worker(process) as worker:
            function = await worker.load(HELLO)
            assert (await function.get()).text == "hello"
            (child,) = psutil.Process(process.pid).children()
            child.send_signal(signal.SIGTERM)
            await worker.until(lambda: worker.leaving)
        assert process.wait() == 7
    finally:
        process.stop()


def test_nothing_is_started_when_it_is_imported() -> None:
    code = (
        "import sys, threading, microcosmos.functions.quickjs as q; "
        "assert threading.active_count() == 1; assert 'quickjs' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_says_how_it_is_called() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "microcosmos.functions.quickjs"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        64,
        "usage: python -m microcosmos.functions.quickjs SOCKET\n",
    )


async def test_hundred_functions_are_light(own: Worker) -> None:
    async with own as worker:
        function = await worker.load(HELLO)
        await function.get()
        before = psutil.Process(worker.process.pid).memory_info().rss
        for number in range(100):
            function = await worker.load(f"function handler() {{ return 'hello {number}' }}")
            assert (await function.get()).text == f"hello {number}"
        took = psutil.Process(worker.process.pid).memory_info().rss - before
        # A thousand of them in half a gibibyte.
        assert took / 100 < 400 * 1024


async def test_what_is_dropped_gives_its_memory_back(own: Worker) -> None:
    code = "const much = Array.from({ length: 200000 }, (_, n) => ({ n }));" + HELLO
    async with own as worker:
        limits = Limits(cpu=5.0)
        sizes = []
        for _ in range(8):
            function = await worker.load(code, limits=limits)
            await worker.drop(function)
            sizes.append(psutil.Process(worker.process.pid).memory_info().rss)
        # The C library gives back what it likes to, which is one heap more or less.
        assert min(sizes[-3:]) < max(sizes[:2]) + 16 * 1024 * 1024


async def test_functions_do_not_see_each_other(worker: Worker) -> None:
    async with worker:
        one = await worker.load("globalThis.mine = 1; function handler() { return [mine] }")
        two = await worker.load("function handler() { return [typeof mine] }")
        assert (await one.get()).json == [1]
        assert (await two.get()).json == ["undefined"]


async def test_the_working_set_of_a_function_is_told(worker: Worker) -> None:
    async with worker:
        function = await worker.load(
            "const kept = []; function handler() { kept.push(new Uint8Array(1e6)); return 'x' }"
        )
        for _ in range(3):
            await function.get()
        await function.counts(3)
        heaps = [notes.heaps.get(function.slot, 0) for notes in worker.notes]
        assert heaps[-1] > 3_000_000


async def test_what_was_answered_may_go_on(worker: Worker) -> None:
    async with worker:
        worker.bindings["store", "set"] = lambda *given: None
        function = await worker.load(
            "function handler(request, env) {"
            " setTimeout(() => env.store.set('later', 1), 5); return 'now' }",
            grants=["store"],
        )
        assert (await function.get()).text == "now"
        await worker.until(lambda: worker.used)


async def test_what_goes_on_is_not_dropped(worker: Worker) -> None:
    async with worker:
        worker.bindings["store", "set"] = lambda *given: None
        function = await worker.load(
            "function handler(request, env) {"
            " setTimeout(() => env.store.set('later', 1), 50); return 'now' }",
            grants=["store"],
        )
        await function.get()
        await worker.drop(function)
        await worker.until(lambda: worker.used)


async def test_jobs_that_were_left_are_done(worker: Worker) -> None:
    async with worker:
        function = await worker.load(
            "function handler() { Promise.resolve().then(() => console.log('done')); return 'now' }"
        )
        assert (await function.get()).text == "now"
        assert (await function.logs())[0].text == "done"


async def test_a_job_that_throws_harms_nobody(worker: Worker) -> None:
    async with worker:
        function = await worker.load(
            "function handler() { queueMicrotask(() => { throw new Error('lonely') }); return 'x' }"
        )
        for _ in range(2):
            assert (await function.get()).text == "x"
        assert "lonely" in (await function.logs(2))[1].text


async def test_a_timer_that_throws_is_told_in_the_log(worker: Worker) -> None:
    async with worker:
        function = await worker.load(
            "function handler() { setTimeout(() => { throw new Error('late') }, 1); return 'x' }"
        )
        assert (await function.get()).text == "x"
        (line,) = await function.logs()
        assert "late" in line.text
        assert "probe.js:1:" in line.text


async def test_half_a_character_can_be_asked_with(worker: Worker) -> None:
    async with worker:
        worker.bindings["store", "get"] = lambda key: key
        function = await worker.load(
            "function handler(request, env) { return env.store.get('a\\ud800b') }",
            grants=["store"],
        )
        assert (await function.get()).text == "a\ufffdb"


async def test_values_with_a_nul_come_back(worker: Worker) -> None:
    async with worker:
        worker.bindings["store", "get"] = lambda key: {"a\0b": "c\0d"}
        function = await worker.load(
            "async function handler(request, env) { return await env.store.get('a\\0b') }",
            grants=["store"],
        )
        assert (await function.get()).json == {"a\0b": "c\0d"}
        assert worker.used[0].arguments == ["a\0b"]


async def test_a_fetched_body_has_a_limit(worker: Worker) -> None:
    async with worker:
        function = await worker.load(
            "async function handler() { const r = await fetch('http://big.test/');"
            " return await r.text().catch((e) => [e.code, e.id]) }"
        )

        async def pieces():  # type: ignore[no-untyped-def]
            for _ in range(FETCHED // 1_000_000 + 2):
                yield b"x" * 1_000_000

        worker.sites["http://big.test/"] = lambda fetch: (Answer(status=200), pieces())
        assert (await function.get()).json == [413, "functions.fetch"]


async def test_a_beat_does_not_wait_for_requests(worker: Worker) -> None:
    async with worker:
        function = await worker.load(
            "function handler() { const end = performance.now() + 4;"
            " while (performance.now() < end); return 'x' }"
        )
        streams = [function.begin() for _ in range(50)]
        worker.line.send(frames.BEAT, 0, b"between")
        await worker.until(lambda: worker.beats)
        assert sum(stream.begun.done() for stream in streams) < 25
        assert [(await stream.answer()).text for stream in streams] == ["x"] * 50


async def test_why_a_function_cannot_be_loaded_is_told(worker: Worker) -> None:
    async with worker:
        reasons = {
            "\nconst a = nothing.here": "ReferenceError: nothing is not defined (probe.js:2:11)",
            "while (true);": "it takes more than 1 s of the processor",
            "throw 'a text'": "a text",
            "1": "it has no handler(request, env), consume or scheduled",
            "'\0'": "the code holds a NUL character",
        }
        for code, reason in reasons.items():
            with pytest.raises(errors.InternalServerError) as caught:
                await worker.load(code)
            assert caught.value.detail == f"probe.js fails when it is loaded: {reason}"


async def test_what_was_asked_for_is_cancelled_with_its_realm(worker: Worker) -> None:
    async with worker:
        asked = asyncio.Event()

        async def never(fetch: object) -> Answer:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        worker.sites["http://slow.test/"] = never
        function = await worker.load(
            "async function handler({ path }) { if (path) for (;;);"
            " await fetch('http://slow.test/') }",
            limits=Limits(cpu=0.05),
        )
        waiting = function.begin()
        await asked.wait()
        assert (await function.get("loop")).id == "functions.limit.cpu"
        assert (await waiting.answer()).id == "functions.lost"
        await worker.until(lambda: worker.cancelled)


async def test_a_file_of_the_host_is_out_of_reach(worker: Worker, tmp_path: Path) -> None:
    async with worker:
        found = await worker.check("import { open } from 'std'\nopen('/etc/passwd')")
        assert found.form == "module"
        function = await worker.load(
            "async function handler() { return await import('/etc/passwd').catch((e) => e.name) }"
        )
        assert (await function.get()).text == "ReferenceError"


async def test_many_lines_at_once(worker: Worker) -> None:
    async with worker:
        function = await worker.load(HELLO)
        others = [Worker(worker.process) for _ in range(20)]
        for other in others:
            await other.__aenter__()
        try:
            for other in others:
                assert (await Function(other, function.slot).get()).text == "hello"
        finally:
            for other in others:
                await other.__aexit__()


def test_only_its_owner_reaches_the_socket(tmp_path: Path) -> None:
    process = Process(
        lambda path: ([sys.executable, "-m", "microcosmos.functions.quickjs", path], {})
    )
    try:
        process.start()
        assert Path(process.path).stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(process.path)
    finally:
        process.stop()
