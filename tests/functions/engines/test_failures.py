"""What becomes of a function that fails; nothing private is told to its callers."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import asyncio

import pytest

from microcosmos.base import errors

from .workers import Function, Worker

runs = pytest.mark.runs

THROWS = """
function deep() { throw new Error('secret thing') }
async function handler({ path }) {
  if (path === 'text') throw 'secret thing'
  if (path === 'null') throw null
  if (path === 'rejected') return Promise.reject(new TypeError('secret thing'))
  if (path === 'ok') return 'fine'
  deep()
}
"""


@pytest.mark.parametrize("path", ["error", "text", "null", "rejected"])
@runs(
    javascript=THROWS,
    module=THROWS + "export default { async fetch({ url }) {"
    " return new Response(await handler({ path: url.split('/').at(-1) })) } }",
)
async def test_what_is_thrown_is_told_in_the_log_only(function: Function, path: str) -> None:
    answer = await function.get(path)
    assert (answer.status, answer.id) == (500, "functions.exception")
    assert "secret" not in answer.detail
    (line,) = await function.logs()
    assert line.level == "error"
    assert ("null" if path == "null" else "secret thing") in line.text
    assert (await function.get("ok")).text == "fine"


@runs(javascript="\nfunction deep() {\n  throw new Error('x')\n}\nfunction handler() { deep() }\n")
async def test_a_trace_has_the_users_own_lines(function: Function) -> None:
    await function.get()
    (line,) = await function.logs()
    assert "probe.js:3:" in line.text
    assert "probe.js:5:" in line.text
    assert line.text.count("\n    at ") == 2


@runs(python="def handler(request, env):\n    raise ValueError('secret thing')")
async def test_what_is_raised_is_told_in_the_log_only(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (500, "functions.exception")
    assert "secret" not in answer.detail
    (line,) = await function.logs()
    assert "secret thing" in line.text


@runs(
    javascript="async function handler({ path }) { if (path) return 'fine'; await new Promise(() => {}) }",
    module="export default { async fetch({ url }) {"
    " if (url.endsWith('x')) return new Response('fine'); await new Promise(() => {}) } }",
    script="path ? 'fine' : new Promise(() => {})",
)
async def test_what_cannot_settle_is_answered_at_once(function: Function) -> None:
    async with asyncio.timeout(60):
        answer = await function.get()
    assert (answer.status, answer.id) == (500, "functions.unsettled")
    assert (await function.get("x")).text == "fine"


@pytest.mark.engines("quickjs", "deno")  # for wasm see test_realms
@runs(
    javascript="let go\nasync function handler({ path }) {"
    " if (path === 'go') { go('gone on'); return 'ok' }"
    " setTimeout(() => {}, 20000); return await new Promise((done) => { go = done }) }",
)
async def test_what_another_request_may_settle_is_waited_for(function: Function) -> None:
    waiting = function.begin()
    assert (await function.get("go")).text == "ok"
    assert (await waiting.answer()).text == "gone on"


@pytest.mark.parametrize(
    "code",
    [
        "throw new Error('at the top')\nfunction handler() {}",
        "let x = ;",
        "const notes = 'no handler here'",
        "const handler = 'at the top is no function'",
    ],
)
@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_code_that_fails_when_it_is_loaded(worker: Worker, code: str) -> None:
    with pytest.raises(errors.Error) as caught:
        await worker.load(code)
    assert (caught.value.id, caught.value.code) == ("functions.load", 500)


@pytest.mark.engines("quickjs", "wasm")
async def test_an_endless_load_is_ended(worker: Worker) -> None:
    with pytest.raises(errors.Error) as caught:
        await worker.load("while (true);\nfunction handler() {}")
    assert caught.value.id == "functions.load"


async def test_an_unknown_slot_is_unloaded(worker: Worker) -> None:
    for begin in (Function(worker, 999).get, Function(worker, 999).open().answer):
        answer = await begin()
        assert (answer.status, answer.id) == (503, "functions.unloaded")


async def test_an_unknown_verb_is_refused(worker: Worker) -> None:
    answer = await worker.verb("dance")
    assert answer.status == 400
    answer = await worker.verb("load", b"{")
    assert answer.status == 400


@runs(
    javascript="function consume() {}",
    python="def consume(event, env):\n    pass",
)
async def test_a_request_to_what_handles_events_only(function: Function) -> None:
    answer = await function.get()
    assert answer.id in ("functions.handler", "functions.load")
    assert answer.status in (500, 501)
