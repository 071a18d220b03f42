"""Events and schedules: to return is to acknowledge."""

from __future__ import annotations

import pytest

from microcosmos.base import errors

from .workers import Function, Worker

runs = pytest.mark.runs

EVENT = {
    "topic": "orders",
    "id": "1",
    "key": "k",
    "payload": {"n": [1, "é"]},
    "metadata": {"a": "b"},
    "timestamp": "2026-11-21T22:00:00.000000Z",
    "attempt": 1,
}


@runs(
    javascript="async function consume(event, env) { await env.store.set('seen', event) }",
    module="export default { async consume(event, env) { await env.store.set('seen', event) } }",
    python="def consume(event, env):\n    env.store.set('seen', [event.topic, event.payload])",
    options={"grants": ["store"]},
)
async def test_an_event_is_handled(worker: Worker, function: Function) -> None:
    worker.bindings["store", "set"] = lambda *given: None
    answer = await function.event("consume", EVENT)
    assert (answer.id, answer.json) == ("", None)
    (use,) = worker.used
    seen = use.arguments[1]
    assert seen in (EVENT, [EVENT["topic"], EVENT["payload"]])


@runs(
    javascript="function consume() { throw new Error('not now') }",
    module="export default { async consume() { throw new Error('not now') } }",
    python="def consume(event, env):\n    raise ValueError('not now')",
)
async def test_what_is_thrown_is_an_error(function: Function) -> None:
    answer = await function.event("consume", EVENT)
    assert (answer.status, answer.id) == (500, "functions.exception")
    assert "not now" in (await function.logs())[0].text


@runs(
    javascript="function scheduled(event) { console.log(event.cron, event.scheduledTime) }",
    module="export default { scheduled(event) { console.log(event.cron, event.scheduledTime) } }",
    python="def scheduled(event, env):\n    print(event.cron, event.scheduledTime)",
)
async def test_a_schedule_comes(function: Function) -> None:
    answer = await function.event(
        "scheduled", {"cron": "* * * * *", "scheduledTime": 1795300000000}
    )
    assert answer.id == ""
    (line,) = await function.logs()
    assert (line.level, line.text) == ("info", "* * * * * 1795300000000")


@runs(
    javascript="function handler() { return 'x' }",
    module="export default { fetch() { return new Response('x') } }",
    python="def handler(request, env):\n    return 'x'",
)
async def test_what_nobody_handles_is_an_error(function: Function) -> None:
    for name in ("consume", "scheduled", "handler", "constructor"):
        answer = await function.event(name, EVENT)
        assert answer.id, name


@runs(javascript="function consume() {}")
async def test_an_event_to_nobody_is_unloaded(worker: Worker, function: Function) -> None:
    answer = await Function(worker, 999).event("consume", {})
    assert answer.id == "functions.unloaded"
    assert errors.of_code(answer.status, answer.id, "").code == 503
