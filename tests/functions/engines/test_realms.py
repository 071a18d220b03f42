"""What a run leaves behind: with wasm nothing, as each has a realm of its own; else what it shares."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits

from .workers import Answer, Function, Worker

runs = pytest.mark.runs
wasm = pytest.mark.engines("wasm")
shared = pytest.mark.engines("quickjs", "deno")

COUNTS = """
let count = 0
const seen = new Map()
function handler({ path }) {
  count++
  globalThis.left = (globalThis.left ?? 0) + 1
  Object.prototype.left = (Object.prototype.left ?? 0) + 1
  seen.set(path + count, 1)
  return [count, left, {}.left, seen.size]
}
"""


@shared
@runs(javascript=COUNTS)
async def test_what_is_global_is_there_in_the_next_run(function: Function) -> None:
    answers = [(await function.get("x")).json for _ in range(3)]
    assert answers[0][0] == 1
    assert answers[2][0] == answers[2][3] == 3


@wasm
@runs(javascript=COUNTS)
async def test_nothing_global_outlives_a_run(function: Function) -> None:
    assert [(await function.get("x")).json for _ in range(3)] == [[1, 1, 1, 1]] * 3


@wasm
@runs(script="globalThis.seen = (globalThis.seen ?? 0) + 1\nseen")
async def test_nothing_global_outlives_a_run_of_a_script(function: Function) -> None:
    assert [(await function.get()).text for _ in range(3)] == ["1", "1", "1"]


@wasm
@runs(
    javascript="let go = () => 0; const found = [];\n"
    "async function handler({ path }) { if (path) return String(go(found.push(path)));"
    " found.push('one'); await new Promise((done) => { go = done; setTimeout(done, 50) }); return found }"
)
async def test_runs_at_the_same_time_do_not_meet(function: Function) -> None:
    waiting = [function.begin() for _ in range(3)]
    assert (await function.get("x")).text == "0"
    assert [(await stream.answer()).json for stream in waiting] == [["one"]] * 3


@wasm
@runs(
    javascript="const table = Object.fromEntries([...Array(1000).keys()].map((n) => ['k' + n, n]))\n"
    "const now = Date.now()\nfunction handler({ path }) { return [table[path], now > 1e12] }"
)
async def test_what_loading_has_made_is_there_in_each_run(function: Function) -> None:
    assert [(await function.get(f"k{n}")).json for n in (7, 999)] == [[7, True], [999, True]]


@pytest.mark.parametrize("early", ["", "const early = [Math.random(), crypto.randomUUID()]\n"])
@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_no_two_runs_have_the_same_randomness(worker: Worker, early: str) -> None:
    made = "Math.random(), Math.random(), crypto.randomUUID(), crypto.getRandomValues(new Uint32Array(4)).join()"
    function = await worker.load(f"{early}function handler() {{ return [{made}] }}")
    other = await worker.load(f"{early}function handler() {{ return [{made}] }}", name="other")
    answers = [(await one.get()).json for one in (function, other) for _ in range(20)]
    assert len({value for answer in answers for value in answer}) == 40 * 4


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_the_clock_goes_on(worker: Worker) -> None:
    function = await worker.load(
        "const loaded = Date.now()\n"
        "async function handler() { const began = [Date.now(), performance.now()];"
        " await new Promise((done) => setTimeout(done, 20));"
        " return [loaded, ...began, Date.now(), performance.now(), performance.timeOrigin] }"
    )
    first = (await function.get()).json
    await asyncio.sleep(0.01)
    loaded, began, ticks, ended, ticked, origin = (await function.get()).json
    assert loaded == first[0] <= first[1] < began < ended
    assert 15 <= ticked - ticks < 5000
    if worker.engine == "wasm":  # whose realms are as old as their runs
        assert abs(origin + ticked - ended) < 1000
        assert ticks < 1000


ENDLESS = """
async function* pieces() {
  try {
    for (let made = 1; ; made++) { console.log(made); yield new Uint8Array(16384) }
  } finally { console.log('over') }
}
function handler() { return new Response(pieces()) }
"""


@wasm
@runs(javascript=ENDLESS)
async def test_a_streaming_run_keeps_its_realm_and_waits_for_its_reader(
    worker: Worker, function: Function
) -> None:
    stream = function.begin()
    pieces = stream.pieces(granting=False)
    size = 0
    while size < wire.WINDOW:
        size += len(await anext(pieces))
    made = wire.WINDOW // 16384
    lines = await function.logs(made)
    assert len(lines) <= made + 4
    stream.grant(wire.WINDOW)
    while size < 2 * wire.WINDOW:
        size += len(await anext(pieces))
    stream.cancel()
    await worker.until(lambda: worker.logged(function.slot)[-1].text == "over")


@wasm
@runs(
    javascript="function handler(request, env) { env.store.set('a', 1).then(() => console.log('kept'));"
    " return 'answered' }",
    options={"grants": ["store"]},
)
async def test_a_run_goes_on_after_its_answer(worker: Worker, function: Function) -> None:
    gate = asyncio.Event()

    async def kept(key: str, value: int) -> None:
        await gate.wait()

    worker.bindings["store", "set"] = kept
    assert (await function.get()).text == "answered"
    gate.set()
    assert (await function.logs())[0].text == "kept"


@wasm
@pytest.mark.parametrize(
    "early",
    [
        "setTimeout(() => {}, 1)",
        "fetch('http://site.test/')",
        "const later = new Promise((done) => setTimeout(done, 5))",
    ],
)
async def test_nothing_can_be_asked_for_while_loading(worker: Worker, early: str) -> None:
    with pytest.raises(errors.Error, match="belong in the handler"):
        await worker.load(f"{early}\nfunction handler() {{ return 'x' }}")


@wasm
async def test_lines_and_promises_while_loading(worker: Worker) -> None:
    function = await worker.load(
        "console.log('loading')\nlet value = 0\nPromise.resolve(7).then((found) => { value = found })\n"
        "function handler() { return value }"
    )
    assert (await function.get()).json == 7
    assert [line.text for line in await function.logs()] == ["loading"]


BOMBS = {
    "loop": "for (;;);",
    "regex": "'a'.repeat(40).match(/(a+)+b/)",
    "bigint": "let n = 3n; for (;;) n = n * n % (2n ** 100000n)",
    "power": "(3n ** 9000000n).toString()",
    "find": "'x'.repeat(16e6).indexOf('x'.repeat(8e6) + 'y')",
    "sort": "[...Array(1000).keys()].sort(() => { for (;;); })",
    "json": "JSON.stringify({ toJSON() { for (;;); } })",
    "jobs": "return new Promise(() => { (function again() { queueMicrotask(again) })() })",
    "getter": "return { get a() { for (;;); } }",
    "proxy": "return new Proxy({}, { ownKeys() { for (;;); } })",
    "thrown": "throw { toJSON() { for (;;); } }",
}


@wasm
@pytest.mark.parametrize("bomb", BOMBS)
async def test_whatever_takes_too_long_is_ended_and_nobody_else(worker: Worker, bomb: str) -> None:
    """From outside the engine, which is not asked."""
    function = await worker.load(
        "async function handler({ path }) {"
        " if (path === 'wait') { await new Promise((done) => setTimeout(done, 100)); return 'waited' }"
        f" {BOMBS[bomb]} }}",
        limits=Limits(cpu=0.05),
    )
    waiting = function.begin("GET", "wait")
    answer = await function.get()
    assert (answer.status, answer.id) == (503, "functions.limit.cpu")
    assert (await waiting.answer()).text == "waited"


GROWS = {
    "bytes": "const kept = []; for (;;) kept.push(new Uint8Array(100000))",
    "text": "let text = 'x'; for (;;) text += text + text.slice(1)",
    "array": "const list = []; for (;;) list.push(list.length + 0.5)",
    "map": "const map = new Map(); for (let n = 0; ; n++) map.set('key' + n, {})",
    "caught": "const kept = []; for (;;) { try { for (;;) kept.push('x'.repeat(1000) + kept.length) } catch {} }",
}


@wasm
@pytest.mark.parametrize("what", GROWS)
async def test_memory_is_of_one_run(worker: Worker, what: str) -> None:
    limits = Limits(cpu=0.3 if what == "caught" else 1.0, heap=16 << 20)
    function = await worker.load(
        "async function handler({ path }) {"
        " if (path === 'wait') { await new Promise((done) => setTimeout(done, 50)); return 'waited' }"
        f" {GROWS[what]} }}",
        limits=limits,
    )
    waiting = function.begin("GET", "wait")
    answer = await function.get()
    ended = {"functions.limit.memory"} | ({"functions.limit.cpu"} if what == "caught" else set())
    # A text has a length that ends before the memory does.
    assert answer.id in ended | ({"functions.exception"} if what == "text" else set())
    assert (await waiting.answer()).text == "waited"
    heaps = [heap for notes in worker.notes for heap in notes.heaps.values()]
    assert max(heaps, default=0) <= limits.heap + (4 << 20)


@wasm
async def test_a_larger_stack_is_deeper(worker: Worker) -> None:
    code = (
        "function deep(n) { return n ? 1 + deep(n - 1) : 0 }\n"
        "function handler({ query }) { return deep(Number(query.n)) }"
    )
    small, large = [
        await worker.load(code, limits=Limits(cpu=1.0, stack=kib << 10)) for kib in (128, 1024)
    ]
    assert (await small.get("?n=100")).json == 100
    assert (await small.get("?n=2500")).id == "functions.limit.stack"
    assert (await large.get("?n=2500")).json == 2500
    assert (await large.get("?n=1000000")).id == "functions.limit.stack"


@wasm
@runs(
    javascript="async function handler(request) { const text = await request.text();"
    " return [text.length, text.slice(-3)] }",
    options={"limits": Limits(cpu=2.0, request=16 << 20)},
)
async def test_large_bodies_cross(function: Function) -> None:
    for size in (8191, 8192, 8193, 8 << 20):
        assert (await function.post(body="x" * (size - 3) + "end")).json == [size, "end"]


@wasm
@runs(javascript="function handler() { return '\\0a\\ud800b\\u00e9\\ud83d\\ude00' }")
async def test_texts_cross(function: Function) -> None:
    assert (await function.get()).text == "\0a\ufffdbé😀"


@wasm
async def test_what_is_dropped_gives_all_its_memory_back(own_worker: Worker) -> None:
    async with own_worker as worker:
        for _ in range(3):
            function = await worker.load(
                "const kept = 'x'.repeat(4e6)\n"
                "async function handler() { await new Promise((done) => setTimeout(done, 1)); return 'x' }"
            )
            streams = [function.begin() for _ in range(50)]
            assert [(await stream.answer()).text for stream in streams] == ["x"] * 50
            await worker.drop(function)
        # That of all realms alone is kept, and by none of them now.
        assert _mapped(worker) == []


def _mapped(worker: Worker) -> list[str]:
    maps = Path(f"/proc/{worker.process.pid}/maps").read_text()
    return [line for line in maps.splitlines() if "memfd:image" in line]


@wasm
async def test_a_source_is_not_looked_at_without_the_second_wall(worker: Worker) -> None:
    answer = await worker.verb(wire.CHECK, wire.encode(wire.Source(file="a.js", code="1")))
    assert (answer.status, "not checked" in answer.detail) == (400, True)


@wasm
async def test_bindings_are_there_in_each_run(worker: Worker) -> None:
    function = await worker.load(
        "async function handler(request, env) { const r = await fetch('http://site.test/');"
        " return [await env.store.get('a'), env.NAME, await r.text()] }",
        grants=["store"],
        env={"NAME": "x"},
    )
    worker.bindings["store", "get"] = lambda key: key + "!"
    worker.sites["http://site.test/"] = Answer(status=200, body=b"page")
    for _ in range(2):
        assert (await function.get()).json == ["a!", "x", "page"]
