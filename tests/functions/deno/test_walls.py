"""What functions on Deno do not get at, and what they cannot break."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.functions import deno, wire
from microcosmos.functions.interface import Limits
from microcosmos.rpc import frames

from ..engines.workers import Process, Worker
from .conftest import command
from .test_modules import module

DOORS = Path(deno.__file__).parent / "worker" / "doors.js"


@pytest.mark.parametrize(
    "look",
    [
        "typeof Deno",
        "typeof Worker",
        "typeof WebSocket",
        "typeof close",
        "typeof caches",
        "typeof localStorage",
        "typeof BroadcastChannel",
        "typeof process.exit",
        "typeof process.binding",
        "typeof require",
        "typeof globalThis[Symbol.for('Deno.internal')]",
        "typeof Object.getOwnPropertyDescriptor(globalThis, 'Deno')",
    ],
)
async def test_doors_are_closed(worker: Worker, look: str) -> None:
    async with worker:
        assert (await (await module(worker, f"return {look}")).get()).text == "undefined"


async def test_the_permissions_are_of_its_socket_alone(process: Process, worker: Worker) -> None:
    async with worker:
        argv, env = command(process.path)
        assert [word for word in argv if word.startswith("--allow")] == [
            f"--allow-net=unix:{process.path}",
            f"--allow-read={process.path}",
            f"--allow-write={process.path}",
        ]
        assert set(env) == {"DENO_DIR", "DENO_NO_PROMPT", "DENO_NO_UPDATE_CHECK", "NO_COLOR"}
        assert Path(process.path).stat().st_mode & 0o777 == 0o600


PATCHES = """
Array.prototype.push = Array.prototype.join = Array.prototype[Symbol.iterator] = null
Map.prototype.get = Map.prototype.set = Map.prototype.delete = Map.prototype.values = null
JSON.stringify = () => '"forged"'; JSON.parse = () => null
Promise.prototype.then = Promise.resolve = null
Reflect.apply = null
Function.prototype.call = null
Function.prototype.bind = null
Object.prototype.kind = 7; Object.prototype.body = Object.prototype.slot = 'forged'
Object.keys = Object.create = null
Uint8Array.prototype.set = Uint8Array.prototype.slice = null
Object.getPrototypeOf(Uint8Array.prototype).subarray = null
String.prototype.indexOf = String.prototype.substring = String.prototype.startsWith = null
TextEncoder.prototype.encode = TextEncoder.prototype.encodeInto = null
TextDecoder.prototype.decode = null
Headers.prototype.forEach = Response.prototype.bytes = null
ReadableStream.prototype.getReader = RegExp.prototype.exec = null
Object.defineProperty(Response.prototype, 'status', { get: () => 999 })
performance.now = Date.now = () => NaN
globalThis.setTimeout = globalThis.Error = globalThis.Promise = null
"""


async def test_what_one_function_patches_does_not_break_the_worker(own: Worker) -> None:
    patches = "".join(f"try {{ {line} }} catch {{}}\n" for line in PATCHES.strip().splitlines())
    async with own:
        vandal = await module(own, f"{patches} return 'patched'")
        assert (await vandal.get()).text == "patched"
        after = await own.load(
            "async function handler(request, env) { console.info('x');"
            "return { path: request.path, body: await request.text(), a: env.A } }",
            env={"A": "1"},
        )
        assert (await after.post("p", "hello")).json == {"path": "p", "body": "hello", "a": "1"}
        web = await module(
            own,
            "return new Response(await request.text(), { headers: { a: 'b' }, status: 201 })",
        )
        answer = await web.post("", "body")
        assert (answer.status, answer.body, answer.header("a")) == (201, b"body", "b")
        counts = await after.counts(1)
        assert (counts.requests, counts.response_bytes) == (1, 35)
        assert [line.text for line in await after.logs()] == ["x"]
        own.line.send(frames.BEAT, 0, b"1")
        await own.until(lambda: own.beats)
        await own.drop(after)
        assert (await after.get()).id == "functions.unloaded"


async def test_nothing_that_nobody_catches_ends_the_worker(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "setTimeout(() => { throw new Error('in a timer') });"
            "Promise.reject(new Error('rejected'));"
            "queueMicrotask(() => { throw new Error('in a microtask') });"
            "reportError(new Error('reported'));"
            "return 'ok'",
        )
        assert (await function.get()).text == "ok"
        said = {line.text.partition("\n")[0] for line in await function.logs(4)}
        assert said == {
            "Uncaught Error: in a timer",
            "Uncaught (in promise) Error: rejected",
            "Uncaught Error: in a microtask",
            "Uncaught Error: reported",
        }


async def test_a_trace_tells_of_the_function_alone(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker, "throw new Error('outer', { cause: new TypeError('inner') })"
        )
        answer = await function.get(headers=[("micro-trace", "ab" * 16)])
        assert (answer.status, answer.id) == (500, "functions.exception")
        assert "outer" not in answer.detail
        (line,) = await function.logs()
        assert (line.level, line.trace) == ("error", "ab" * 16)
        assert re.sub(r":\d+\)", ")", line.text).splitlines() == [
            "Uncaught Error: outer",
            "    at Object.fetch (probe.js:3)",
            "caused by TypeError: inner",
            "    at Object.fetch (probe.js:3)",
        ]


async def test_timers_are_counted_and_end_with_their_function(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "let set = 0; try { for (;; set++) setTimeout(() => {}, 1e6) }"
            "catch (e) { return [set, e.name] }",
        )
        assert (await function.get()).json == [10_000, "RangeError"]
        ticking = await module(worker, "setInterval(() => console.log('tick'), 1); return 'ok'")
        assert (await ticking.get()).text == "ok"
        await ticking.logs()
        await worker.drop(ticking)
        other = await module(worker, "console.log('later'); return 'x'")
        await other.get()
        before = len(worker.logged(ticking.slot))
        await other.logs()
        await other.get()
        await other.logs(2)
        assert len(worker.logged(ticking.slot)) <= before + 500


async def test_a_flood_of_logs_is_cut_and_says_so(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "for (let i = 0; i < 5000; i++) console.log(i); return 'ok'",
        )
        assert (await function.get()).text == "ok"
        lines = await function.logs(2001)
        assert lines[-1].text == "3000 more lines were dropped: too many at once"
        again = await module(worker, "console.log('x'.repeat(1e5)); return ''")
        await again.get()
        assert len((await again.logs())[0].text) < 17_000


async def test_limits_say_which_they_were(worker: Worker) -> None:
    async with worker:
        slow = await module(
            worker,
            "for (;;) await new Promise((r) => setTimeout(r, 5))",
            limits=Limits(wall=0.1),
        )
        assert (await slow.get()).id == "functions.limit.wall"
        long = await module(worker, "return 'x'.repeat(101)", limits=Limits(response=100))
        assert (await long.get()).id == "functions.limit.output"
        busy = await module(
            worker,
            "await new Promise((r) => setTimeout(r, 50)); return 'x'",
            limits=Limits(concurrency=1),
        )
        first, second = busy.begin(), busy.begin()
        assert (await second.answer()).id == "functions.limit.concurrency"
        assert (await first.answer()).text == "x"
        full = await module(worker, "return await request.text()", limits=Limits(request=10))
        assert (await full.post("", "x" * 11)).id == "functions.body"
        upload = full.open()
        await upload.send(b"x" * 11)
        upload.end()
        assert (await upload.answer()).status == 413


async def test_a_worker_that_is_asked_to_go_ends_what_it_has_begun(own: Worker) -> None:
    async with own:
        function = await module(own, "await new Promise((r) => setTimeout(r, 100)); return 'late'")
        stream = function.begin()
        await own.verb(wire.HOST)
        own.process.signal(signal.SIGTERM)
        await own.until(lambda: own.leaving)
        assert (await stream.answer()).text == "late"
        # It answers whoever has not heard yet.
        assert (await function.get()).text == "late"
        await function.counts(2)
    assert await asyncio.to_thread(own.process.wait) == 0


async def test_the_host_may_ask_it_to_go(own: Worker) -> None:
    async with own:
        own.line.send(frames.GOAWAY, 0, b"")
        await own.until(lambda: own.leaving)
    assert await asyncio.to_thread(own.process.wait) == 0


async def test_an_interrupt_is_for_others(own: Worker) -> None:
    async with own:
        own.process.signal(signal.SIGINT)
        assert (await (await module(own, "return 'x'")).get()).text == "x"


async def test_a_host_that_comes_back_finds_what_is_loaded_and_hears_what_was_noted(
    own: Worker,
) -> None:
    async with own:
        function = await module(own, "console.log('before'); return 'x'", key="kept")
        assert (await function.get()).text == "x"
    async with own:
        assert [(one.key, one.slot, one.name) for one in own.found] == [
            ("kept", function.slot, "probe")
        ]
        assert [line.text for line in await function.logs()] == ["before"]
        assert (await function.counts(1)).cold_starts == 1


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\xff" * 64,
        b"\x00" * 64,
        b"\x05\x00\x00\x00\x63\x01\x00\x00\x00",
        b"\x0d\x00\x00\x00\x01\x01\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff",
    ],
)
async def test_nonsense_costs_its_sender_the_line(worker: Worker, bytes_: bytes) -> None:
    async with worker:
        reader, writer = await asyncio.open_unix_connection(worker.process.path)
        writer.write(bytes_)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        assert (await (await module(worker, "return 'x'")).get()).text == "x"


async def test_an_unknown_slot_or_verb_is_said_to_be_so(worker: Worker) -> None:
    async with worker:
        function = await module(worker, "return 'x'")
        function.slot = 9999
        assert (await function.get()).id == "functions.unloaded"
        assert (await worker.verb("dance")).status == 400
        assert (await worker.verb(wire.LOAD, b"no json")).status == 400


def test_the_doors_to_node_are_the_ones_that_bundles_may_use() -> None:
    text = DOORS.read_text("utf-8")
    assert set(re.findall(r'"(node:[^"]+)": true', text)) == deno.BUILTINS


def test_a_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "deno", None)
    with pytest.raises(errors.Unavailable, match=r"pip install 'microcosmos\[deno\]'"):
        deno.binary()
