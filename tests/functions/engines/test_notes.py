"""What a worker tells its host: logs and counts."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import asyncio
import time

import pytest

from microcosmos.functions import wire
from microcosmos.functions.interface import Limits

from .workers import Function, Worker

runs = pytest.mark.runs
TRACE = "0af7651916cd43dd8448eb211c80319c"

SAYS = """
function say() {
  console.log('plain', 1, true, null, undefined)
  console.info({ a: 1, b: 'two' }, [1, 'x'])
  console.debug('fine')
  console.warn('careful')
  console.error('bad')
}
"""


@runs(
    javascript=SAYS + "function handler() { say(); return 'x' }",
    module=SAYS + "export default { fetch() { say(); return new Response('x') } }",
)
async def test_the_console_is_the_log(function: Function) -> None:
    before = time.time()
    await function.get(headers=[("micro-trace", TRACE)])
    lines = await function.logs(5)
    assert [(line.level, line.text) for line in lines] == [
        ("info", "plain 1 true null undefined"),
        ("info", "{ a: 1, b: 'two' } [ 1, 'x' ]"),
        ("debug", "fine"),
        ("warn", "careful"),
        ("error", "bad"),
    ]
    assert {line.trace for line in lines} == {TRACE}
    assert all(before - 1 < line.time < time.time() + 1 for line in lines)


@runs(python="def handler(request, env):\n    print('plain', 1, True, None)\n    return 'x'")
async def test_what_is_printed_is_the_log(function: Function) -> None:
    await function.get(headers=[("micro-trace", TRACE)])
    (line,) = await function.logs()
    assert (line.level, line.text, line.trace) == ("info", "plain 1 True None", TRACE)


@runs(
    javascript="async function handler({ path }) { console.log(path, 'begins');"
    " await new Promise((done) => setTimeout(done, 5)); console.log(path, 'ends'); return 'x' }",
    module="export default { async fetch({ url }) { const path = url.at(-1);"
    " console.log(path, 'begins'); await new Promise((done) => setTimeout(done, 5));"
    " console.log(path, 'ends'); return new Response('x') } }",
)
async def test_lines_have_the_trace_of_their_request(function: Function) -> None:
    traces = [f"{number:032x}" for number in range(5)]
    streams = [
        function.begin("GET", str(number), headers=[("micro-trace", trace)])
        for number, trace in enumerate(traces)
    ]
    for stream in streams:
        await stream.answer()
    lines = await function.logs(10)
    assert all(line.trace == traces[int(line.text[0])] for line in lines)


FLOOD = "for (let n = 0; n < 50000; n++) console.log('line ' + n)"


@runs(
    javascript=f"function handler() {{ {FLOOD}; return 'x' }}",
    module=f"export default {{ fetch() {{ {FLOOD}; return new Response('x') }} }}",
)
async def test_a_flood_of_lines_is_cut_and_told(worker: Worker, function: Function) -> None:
    assert (await function.get()).text == "x"
    await worker.until(lambda: any("dropped" in line.text for line in worker.logged(function.slot)))
    assert len(worker.logged(function.slot)) < 10_000


@runs(
    javascript="function handler() { console.log('x'.repeat(1000000)); return 'x' }",
    module="export default { fetch() { console.log('x'.repeat(1000000)); return new Response('') } }",
)
async def test_a_long_line_is_cut(function: Function) -> None:
    await function.get()
    (line,) = await function.logs()
    assert 1000 < len(line.text) < 20_000


@runs(
    javascript="async function handler({ path }) { if (path === 'bad') throw 1;"
    " await new Promise((done) => setTimeout(done, 10)); return 'four' }",
    module="export default { async fetch({ url }) { if (url.endsWith('bad')) throw 1;"
    " await new Promise((done) => setTimeout(done, 10)); return new Response('four') } }",
)
async def test_what_is_used_is_counted(function: Function) -> None:
    for path in ("a", "b", "bad"):
        await function.get(path)
    counts = await function.counts(3)
    assert (counts.requests, counts.errors, counts.response_bytes) == (3, 1, 8)
    assert 15_000_000 <= counts.execution_ns < 5_000_000_000
    assert counts.cold_starts == 1
    assert counts.byte_ms > 0
    assert 0 < counts.cpu_ns < 5_000_000_000


@runs(
    python="def handler(request, env):\n    return 'four' if request.path != 'bad' else 1 // 0",
)
async def test_what_is_used_is_counted_in_python(function: Function) -> None:
    for path in ("a", "b", "bad"):
        await function.get(path)
    counts = await function.counts(3)
    assert (counts.requests, counts.errors, counts.response_bytes) == (3, 1, 8)
    assert counts.cold_starts == 1


@runs(
    javascript="async function handler(request, env) { await env.store.get('a');"
    " await env.store.get('b'); return 'x' }",
    module="export default { async fetch(request, env) { await env.store.get('a');"
    " await env.store.get('b'); return new Response('x') } }",
    python="def handler(request, env):\n    env.store.get('a')\n    env.store.get('b')\n"
    "    return 'x'",
    options={"grants": ["store"]},
)
async def test_what_is_asked_for_is_counted(worker: Worker, function: Function) -> None:
    worker.bindings["store", "get"] = lambda key: 1
    await function.get()
    assert (await function.counts(1)).fetches == 2


@runs(
    javascript="function handler() { return 'x' }",
    module="export default { fetch() { return new Response('x') } }",
    python="def handler(request, env):\n    return 'x'",
)
async def test_counts_come_soon(worker: Worker, function: Function) -> None:
    for number in (1, 2, 3):
        await function.get()
        async with asyncio.timeout(60):
            await function.counts(number)
    heaps = [notes.heaps[function.slot] for notes in worker.notes if function.slot in notes.heaps]
    assert heaps
    assert min(heaps) > 0


@runs(
    javascript="function handler() { return 'x' }",
    module="export default { fetch() { return new Response('x') } }",
    python="def handler(request, env):\n    return 'x'",
)
async def test_a_new_host_hears_what_the_last_did_not(worker: Worker, function: Function) -> None:
    # Nobody is the host while the requests are counted.
    async with Worker(worker.process, worker.engine):
        pass
    for _ in range(3):
        await function.get()
    async with Worker(worker.process, worker.engine) as host:
        await host.until(lambda: host.counted(function.slot).requests >= 3)
        assert host.counted(function.slot).requests == 3


@runs(
    javascript="function handler() { return 'x' }",
    module="export default { fetch() { return new Response('x') } }",
    python="def handler(request, env):\n    return 'x'",
)
async def test_notes_that_were_not_heard_are_told_again(worker: Worker, function: Function) -> None:
    class Deaf(Worker):
        def _reply(self, number: int, body: bytes) -> None:
            """It dies before it can say that it has heard."""

    async with Deaf(worker.process, worker.engine) as deaf:
        await function.get()
        await deaf.until(lambda: deaf.counted(function.slot).requests == 1)
        (heard,) = [notes for notes in deaf.notes if function.slot in notes.counts]
    async with Worker(worker.process, worker.engine) as host:
        await host.until(lambda: host.counted(function.slot).requests == 1)
        (again,) = [notes for notes in host.notes if function.slot in notes.counts]
    assert again == heard


@runs(
    javascript="function handler() { console.log('half \\ud800'); return 'x' }",
    module="export default { fetch() { console.log('half \\ud800'); return new Response('x') } }",
)
async def test_half_a_character_is_told_as_what_it_is_not(function: Function) -> None:
    await function.get()
    (line,) = await function.logs()
    assert line.text.startswith("half ")


@runs(
    javascript="function handler() { for (let n = 0; n < 400; n++) console.log('x'.repeat(16000)); return 'x' }",
    module="export default { fetch() { for (let n = 0; n < 400; n++) console.log('x'.repeat(16000)); return new Response('x') } }",
    options={"limits": Limits(cpu=1.0, logs=64 * 1024 * 1024)},
)
async def test_a_flood_is_no_more_than_a_message_holds(function: Function) -> None:
    await function.get()
    lines = await function.logs(2)
    assert lines[-1].text.endswith("more lines were dropped: too many at once")
    assert sum(len(line.text) for line in lines) < wire.NOTE_ROOM + 20_000
