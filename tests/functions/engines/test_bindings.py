"""env: variables, and bindings as far as granted."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits

from .workers import Function, Worker

runs = pytest.mark.runs
TRACE = [("micro-trace", "0af7651916cd43dd8448eb211c80319c")]


@runs(
    javascript="function handler(request, env) { return [env.GREETING, env.NONE === undefined] }",
    module="export default { fetch(request, env) {"
    " return Response.json([env.GREETING, env.NONE === undefined]) } }",
    python="def handler(request, env):\n    return [env.GREETING, env.get('NONE') is None]",
    script="JSON.stringify([env.GREETING, env.NONE === undefined])",
    options={"env": {"GREETING": "grüß \0 dich"}},
)
async def test_variables(function: Function) -> None:
    assert (await function.get()).json == ["grüß \0 dich", True]


@runs(
    javascript="function handler(request, env) {"
    " return ['store', 'config', 'events', 'broker', 'call'].filter((name) => env[name]) }",
    module="export default { fetch(request, env) { return Response.json("
    "['store', 'config', 'events', 'broker', 'call'].filter((name) => env[name])) } }",
    python="def handler(request, env):\n    return [name for name in"
    " ('store', 'config', 'events', 'broker', 'call') if getattr(env, name, None) is not None]",
    options={"grants": ["store", "call:users"]},
)
async def test_what_is_not_granted_is_not_there(function: Function) -> None:
    assert (await function.get()).json == ["store", "call"]


STORE = """
async function use(env) {
  await env.store.set('a', { n: [1] }, { expiry: 5 })
  await env.store.delete('b')
  return [await env.store.get('a'), await env.store.get('none'), await env.store.list({ prefix: 'a' })]
}
"""


@runs(
    javascript=STORE + "function handler(request, env) { return use(env) }",
    module=STORE + "export default { async fetch(request, env) {"
    " return Response.json(await use(env)) } }",
    python="def handler(request, env):\n"
    "    env.store.set('a', {'n': [1]}, expiry=5)\n"
    "    env.store.delete('b')\n"
    "    return [env.store.get('a'), env.store.get('none'), env.store.list(prefix='a')]",
    options={"grants": ["store"]},
)
async def test_the_store(worker: Worker, function: Function) -> None:
    kept: dict[str, object] = {}
    worker.bindings["store", "set"] = lambda key, value, options: kept.update({key: value})
    worker.bindings["store", "get"] = kept.get
    worker.bindings["store", "delete"] = lambda key: None
    worker.bindings["store", "list"] = lambda options: [
        key for key in kept if key.startswith(options["prefix"])
    ]
    answer = await function.get(headers=TRACE)
    assert answer.json == [{"n": [1]}, None, ["a"]]
    assert worker.used[0] == wire.Use(
        binding="store", verb="set", arguments=["a", {"n": [1]}, {"expiry": 5}], trace=TRACE[0][1]
    )


OTHERS = """
async function use(env) {
  return [
    await env.config.get('mail.from'),
    await env.events.publish('orders', { id: 1 }, { key: 'k' }),
    await env.broker.publish('news', 'hi', { metadata: { a: 'b' } }),
    await env.call('users.read', { id: '7' }),
  ]
}
"""


@runs(
    javascript=OTHERS + "function handler(request, env) { return use(env) }",
    module=OTHERS + "export default { async fetch(request, env) {"
    " return Response.json(await use(env)) } }",
    python="def handler(request, env):\n    return [\n"
    "        env.config.get('mail.from'),\n"
    "        env.events.publish('orders', {'id': 1}, key='k'),\n"
    "        env.broker.publish('news', 'hi', metadata={'a': 'b'}),\n"
    "        env.call('users.read', {'id': '7'}),\n    ]",
    options={"grants": ["config", "events", "broker", "call"]},
)
async def test_the_other_bindings(worker: Worker, function: Function) -> None:
    worker.bindings["config", "get"] = lambda path: f"value of {path}"
    worker.bindings["events", "publish"] = lambda *given: {"id": "7"}
    worker.bindings["broker", "publish"] = lambda *given: None
    worker.bindings["call", "users.read"] = lambda asked: {"name": "Ann", **asked}
    said = (await function.get()).json
    assert said[0] == "value of mail.from"
    assert said[1] == {"id": "7"}
    assert said[2] is None
    assert said[3] == {"name": "Ann", "id": "7"}
    assert [(use.binding, use.verb, use.arguments) for use in worker.used] == [
        ("config", "get", ["mail.from"]),
        ("events", "publish", ["orders", {"id": 1}, {"key": "k"}]),
        ("broker", "publish", ["news", "hi", {"metadata": {"a": "b"}}]),
        ("call", "users.read", [{"id": "7"}]),
    ]


CAUGHT = """
const caught = (env) => env.call('users.read', {}).catch(
  (e) => [e instanceof Error, e.code, e.id, e.detail, e.status, e.message])
"""


@runs(
    javascript=CAUGHT + "function handler(request, env) { return caught(env) }",
    module=CAUGHT + "export default { async fetch(request, env) {"
    " return Response.json(await caught(env)) } }",
    options={"grants": ["call"]},
)
async def test_an_error_of_a_binding_can_be_caught(worker: Worker, function: Function) -> None:
    def missing(asked: object) -> None:
        raise errors.NotFound("users.Read", "no such user")

    worker.bindings["call", "users.read"] = missing
    assert (await function.get()).json == [
        True,
        404,
        "users.Read",
        "no such user",
        "Not Found",
        "no such user",
    ]


@runs(
    javascript="async function handler(request, env) { return await env.call('users.read', {}) }",
    module="export default { async fetch(request, env) {"
    " return Response.json(await env.call('users.read', {})) } }",
    python="def handler(request, env):\n    return env.call('users.read', {})",
    options={"grants": ["call"]},
)
async def test_an_error_of_a_binding_that_nobody_catches(
    worker: Worker, function: Function
) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (500, "functions.exception")
    assert "no call users.read" in (await function.logs())[0].text


@runs(
    javascript="async function handler({ query }, env) { for (let n = 0; n < query.n; n++)"
    " await env.store.get('a'); return 'done' }",
    module="export default { async fetch({ url }, env) {"
    " for (let n = 0; n < url.split('=')[1]; n++) await env.store.get('a');"
    " return new Response('done') } }",
    python="def handler(request, env):\n    for _ in range(int(request.query['n'])):\n"
    "        env.store.get('a')\n    return 'done'",
    options={"grants": ["store"], "limits": Limits(cpu=1.0, fetches=3)},
)
async def test_what_is_asked_for_has_a_limit(worker: Worker, function: Function) -> None:
    worker.bindings["store", "get"] = lambda key: 1
    assert (await function.get("?n=3")).text == "done"
    answer = await function.get("?n=4")
    assert (answer.status, answer.id) == (503, "functions.limit.fetches")
    assert len(worker.used) == 6
    assert (await function.get("?n=3")).text == "done"
