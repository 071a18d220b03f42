"""What a function uses is metered in its worker: each measure, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from microcosmos.functions.interface import Limits

from .workers import Function, Worker

runs = pytest.mark.runs

READS = {
    "javascript": "async function handler(request) {"
    " return 'got ' + (await request.text()).length }",
    "module": "export default { async fetch(request) {"
    " return new Response('got ' + (await request.text()).length) } }",
    "python": "def handler(request, env):\n    return 'got ' + str(len(request.text()))",
}


@runs(**READS)
async def test_bodies_of_requests_are_counted(function: Function) -> None:
    assert (await function.post("", b"x" * 1000)).text == "got 1000"
    assert (await function.get()).text == "got 0"
    counts = await function.counts(2)
    assert (counts.request_bytes, counts.response_bytes) == (1000, 8 + 5)


@runs(**READS)
async def test_bodies_that_come_in_parts_are_counted(function: Function) -> None:
    upload = function.open()
    for _ in range(3):
        await upload.send(b"y" * 500)
    upload.end()
    assert (await upload.stream.answer()).text == "got 1500"
    counts = await function.counts(1)
    assert (counts.requests, counts.request_bytes, counts.errors) == (1, 1500, 0)


@runs(**READS, options={"limits": Limits(request=1000)})
async def test_a_body_that_is_too_long_is_a_failure(function: Function) -> None:
    answer = await function.post("", b"x" * 2000)
    assert (answer.status, answer.id) == (413, "functions.body")
    counts = await function.counts(1)
    assert (counts.requests, counts.errors, counts.failures) == (1, 1, {"body": 1})


@runs(
    javascript="function handler() { return new Response((async function* () {"
    " for (let n = 0; n < 5; n++) yield 'z'.repeat(100) })()) }",
    module="export default { fetch() { return new Response(new ReadableStream({ start(c) {"
    " for (let n = 0; n < 5; n++) c.enqueue(new TextEncoder().encode('z'.repeat(100)));"
    " c.close() } })) } }",
)
async def test_answers_that_go_in_parts_are_counted(worker: Worker, function: Function) -> None:
    assert len((await function.get()).body) == 500
    await worker.until(lambda: worker.counted(function.slot).response_bytes == 500)
    assert worker.counted(function.slot).requests == 1


@runs(
    javascript="function handler({ path }) { if (path === 'bad') throw new Error('no');"
    " return path === 'odd' ? Symbol() : 'x' }",
    module="export default { fetch({ url }) { if (url.endsWith('bad')) throw new Error('no');"
    " return url.endsWith('odd') ? Symbol() : new Response('x') } }",
    python="def handler(request, env):\n    if request.path == 'bad':\n"
    "        raise ValueError('no')\n"
    "    return handler if request.path == 'odd' else 'x'",
)
async def test_failures_are_counted_by_their_kind(function: Function) -> None:
    for path in ("bad", "odd", "good", "bad"):
        await function.get(path)
    counts = await function.counts(4)
    assert counts.failures == {"exception": 2, "answer": 1}
    assert counts.errors == 3


@runs(
    javascript="function handler() { let n = 0; while (true) n++ }",
    options={"limits": Limits(cpu=0.05)},
)
@pytest.mark.engines("quickjs")
async def test_a_limit_is_a_kind_of_failure(function: Function) -> None:
    assert (await function.get()).id == "functions.limit.cpu"
    counts = await function.counts(1)
    assert counts.failures == {"limit.cpu": 1}
    # What it took until it was ended is its own.
    assert counts.cpu_ns > 20_000_000


@runs(
    javascript="const kept = []; function handler() { for (let n = 0; n < 50000; n++)"
    " kept.push({ n }); return 'x' }",
    module="const kept = []; export default { fetch() { for (let n = 0; n < 50000; n++)"
    " kept.push({ n }); return new Response('x') } }",
    options={"limits": Limits(cpu=5.0, heap=256 * 1024 * 1024)},
)
async def test_memory_is_seen_and_its_time(worker: Worker, function: Function) -> None:
    for requests in (1, 2, 3):
        await function.get()
        await function.counts(requests)
    counts = worker.counted(function.slot)
    assert counts.heap > 1_500_000
    # Each request's time, times the bytes that were seen after it, which are less at first.
    assert 0 < counts.byte_ms <= counts.heap * counts.execution_ns / 1e6 + 1
    assert counts.shared is (worker.engine == "deno")


@runs(
    javascript="async function handler() { await new Promise((done) => setTimeout(done, 5000)) }",
    module="export default { async fetch() { await new Promise((d) => setTimeout(d, 5000)) } }",
)
async def test_a_request_that_nobody_waits_for_is_counted(
    worker: Worker, function: Function
) -> None:
    stream = function.begin()
    await function.worker.verb("host")
    stream.cancel()
    counts = await function.counts(1)
    assert (counts.requests, counts.errors, counts.response_bytes) == (1, 0, 0)
    assert counts.execution_ns < 4_000_000_000


@runs(
    javascript="function consume(event) { if (event.key === 'bad') throw new Error('no') }",
    module="export default { consume(event) { if (event.key === 'bad') throw new Error('no') } }",
    python="def consume(event, env):\n    assert event['key'] != 'bad'",
)
async def test_events_are_counted_like_requests(function: Function) -> None:
    event: dict[str, Any] = {"topic": "orders", "key": "good", "payload": "x" * 100}
    await function.event("consume", event)
    await function.event("consume", {**event, "key": "bad"})
    counts = await function.counts(2)
    assert (counts.requests, counts.failures) == (2, {"exception": 1})
    assert counts.request_bytes > 200


@pytest.mark.engines("deno")
@runs(module="export default { fetch() { return new Response('x') } }")
async def test_the_heap_of_a_process_is_shared_out(worker: Worker, function: Function) -> None:
    busy = await worker.load(
        "export default { fetch() { let s = 0; for (let n = 0; n < 3e7; n++) s += n;"
        " return new Response(`${s}`) } }",
        form="module",
        limits=Limits(cpu=5.0),
    )
    # Told together: nothing may come between them.
    await function.counts(0)
    both = [function.begin(), busy.begin()]
    for stream in both:
        await stream.answer()
    quiet, loud = await function.counts(1), await busy.counts(1)
    assert quiet.shared
    assert loud.shared
    assert loud.cpu_ns > quiet.cpu_ns
    assert loud.heap > quiet.heap
