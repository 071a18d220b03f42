"""What ends a function, and only it."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import pytest

from microcosmos.functions.interface import Limits

from .workers import Function, Worker

runs = pytest.mark.runs

LOOPS = """
async function handler({ path }) {
  if (path === 'ok') return 'fine'
  if (path === 'wait') { await new Promise((done) => setTimeout(done, 60000)); return 'waited' }
  if (path === 'jobs') for (;;) await null
  if (path === 'timer') { await new Promise((done) => setTimeout(done, 1)) }
  for (;;);
}
"""


@pytest.mark.engines("quickjs")  # others are killed, from outside
@pytest.mark.parametrize("path", ["now", "jobs", "timer"])
@runs(javascript=LOOPS, options={"limits": Limits(cpu=0.05)})
async def test_an_endless_loop_is_ended(worker: Worker, function: Function, path: str) -> None:
    neighbour = await worker.load("function handler() { return 'unharmed' }")
    waiting = function.begin("GET", "wait")
    answer = await function.get(path)
    assert (answer.status, answer.id) == (503, "functions.limit.cpu")
    # Who was in the same heap hears of it, and the next request finds a new one.
    assert (await waiting.answer()).id == "functions.lost"
    assert (await function.get("ok")).text == "fine"
    assert (await neighbour.get()).text == "unharmed"
    assert "processor" in (await function.logs())[0].text


MEMORY = """
const kept = []
function handler({ path }) {
  if (path === 'ok') return String(kept.length)
  for (;;) kept.push(path === 'strings' ? 'x'.repeat(1000) + kept.length : new Uint8Array(100000))
}
"""


@pytest.mark.engines("quickjs")
@pytest.mark.parametrize("path", ["strings", "bytes"])
@runs(javascript=MEMORY, options={"limits": Limits(cpu=2.0, heap=16 * 1024 * 1024)})
async def test_memory_has_a_limit(worker: Worker, function: Function, path: str) -> None:
    answer = await function.get(path)
    assert (answer.status, answer.id) == (503, "functions.limit.memory")
    assert (await function.get("ok")).text == "0"


@runs(
    javascript="function deep() { return 1 + deep() }"
    " function handler({ path }) { return path ? 'fine' : deep() }",
    options={"limits": Limits(cpu=1.0)},
)
async def test_recursion_has_a_limit(function: Function) -> None:
    answer = await function.get()
    assert answer.id in ("functions.limit.stack", "functions.exception")
    assert (await function.get("x")).text == "fine"


@runs(
    javascript="async function handler({ path }) { if (path) return 'fine';"
    " await new Promise((done) => setTimeout(done, 60000)) }",
    module="export default { async fetch({ url }) { if (url.endsWith('x'))"
    " return new Response('fine'); await new Promise((done) => setTimeout(done, 60000)) } }",
    options={"limits": Limits(cpu=1.0, wall=0.2)},
)
async def test_an_answer_that_takes_too_long(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (503, "functions.limit.wall")
    assert (await function.get("x")).text == "fine"


@runs(
    javascript="let go; const gate = new Promise((done) => { go = done })\n"
    "async function handler({ path }) { if (path) { go(); return 'fine' }"
    " const timer = setTimeout(() => {}, 60000); await gate; clearTimeout(timer); return 'waited' }",
    options={"limits": Limits(cpu=1.0, concurrency=3)},
)
async def test_requests_at_a_time_have_a_limit(function: Function) -> None:
    waiting = [function.begin() for _ in range(2)]
    assert (await function.get("x")).text == "fine"
    assert [(await stream.answer()).text for stream in waiting] == ["waited"] * 2


@runs(
    javascript="async function handler({ path }) { if (path) return 'fine';"
    " await new Promise((done) => setTimeout(done, 60000)) }",
    module="export default { async fetch({ url }) { if (url.endsWith('x'))"
    " return new Response('fine'); await new Promise((done) => setTimeout(done, 60000)) } }",
    options={"limits": Limits(cpu=1.0, concurrency=2)},
)
async def test_one_request_too_many_is_refused(function: Function) -> None:
    waiting = [function.begin() for _ in range(2)]
    answer = await function.get("x")
    assert (answer.status, answer.id) == (503, "functions.limit.concurrency")
    # Nobody waits for them any more, so that there is room.
    for stream in waiting:
        stream.cancel()
    assert (await function.get("x")).text == "fine"


@runs(
    python="def handler(request, env):\n    while True:\n        pass",
    options={"limits": Limits(cpu=0.1)},
)
async def test_an_endless_loop_in_python_is_ended(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (503, "functions.limit.cpu")
