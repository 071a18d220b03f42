"""What a function sees of a request."""

from __future__ import annotations

import pytest

from microcosmos.functions.interface import Limits

from .workers import ORIGIN, Function

runs = pytest.mark.runs

SEEN = """
async function handler(request) {
  const { method, url, path, query, params } = request
  const headers = [...request.headers]
  return { method, url, path, query, params, headers, accept: request.headers.get('Accept') }
}
"""

SEEN_PYTHON = """
def handler(request, env):
    return {
        "method": request.method, "url": request.url, "path": request.path,
        "query": request.query, "params": request.params,
        "headers": request.headers.items(), "accept": request.headers.get("Accept"),
    }
"""

both = runs(javascript=SEEN, python=SEEN_PYTHON)


@both
async def test_the_parts_of_a_request(function: Function) -> None:
    seen = (
        await function.request(
            "PUT",
            "users/7?a=1&b=&a=2&c",
            headers=[("accept", "a/b"), ("x-two", "1")],
            params={"id": "7"},
        )
    ).json
    assert seen["method"] == "PUT"
    assert seen["url"] == f"{ORIGIN}/probe/users/7?a=1&b=&a=2&c"
    assert seen["path"] == "users/7"
    assert seen["query"] == {"a": ["1", "2"], "b": "", "c": ""}
    assert seen["params"] == {"id": "7"}
    assert seen["headers"] == [["accept", "a/b"], ["x-two", "1"]]
    assert seen["accept"] == "a/b"


@both
async def test_a_request_without_anything(function: Function) -> None:
    seen = (await function.get()).json
    assert (seen["path"], seen["query"], seen["params"], seen["accept"]) == ("", {}, {}, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("q=a+b%20c", "a b c"),
        ("q=%C3%A9", "é"),
        ("q=%41%2B", "A+"),
        ("q=%FF", "\ufffd"),
        ("q=%ZZ", "%ZZ"),
        ("q=a=b", "a=b"),
        ("%71=1", "1"),
    ],
)
@both
async def test_the_query_is_decoded(function: Function, text: str, value: str) -> None:
    assert (await function.get(f"?{text}")).json["query"] == {"q": value}


@runs(javascript="function handler({ query }) { return [query.__proto__, 'x' in query] }")
async def test_a_query_cannot_reach_prototypes(function: Function) -> None:
    assert (await function.get("?__proto__=1")).json == ["1", False]


@pytest.mark.parametrize("path", ["a/b c", "é", "a\nb", "..", "a//b", "%2e", 'a"b\\'])
@both
async def test_a_path_is_as_it_came(function: Function, path: str) -> None:
    assert (await function.get(path, url=f"{ORIGIN}/probe/x")).json["path"] == path


@runs(
    javascript="async function handler(request) { return [await request.text(), request.method] }",
    python="def handler(request, env):\n    return [request.text(), request.method]",
)
async def test_no_body_is_an_empty_text(function: Function) -> None:
    assert (await function.get()).json == ["", "GET"]


@runs(
    javascript="async function handler(request) {"
    " try { return await request.json() } catch (e) { return e instanceof SyntaxError } }",
    module="export default { async fetch(request) {"
    " try { return Response.json(await request.json()) }"
    " catch (e) { return Response.json(e instanceof SyntaxError) } } }",
)
async def test_a_body_that_is_no_json(function: Function) -> None:
    assert (await function.post(body="{")).json is True
    assert (await function.post(body='{"a": [1]}')).json == {"a": [1]}


@runs(
    javascript="async function handler(request) { return await request.text() }",
    module="export default { async fetch(request) { return new Response(await request.text()) } }",
    python="def handler(request, env):\n    return request.text()",
)
async def test_bytes_that_are_no_text(function: Function) -> None:
    assert (await function.post(body=b"a\xffb\xe2\x82")).text == "a\ufffdb\ufffd"


@runs(
    javascript="async function handler(request) { return (await request.text()).length }",
    python="def handler(request, env):\n    return len(request.text())",
    options={"limits": Limits(cpu=1.0, request=1000)},
)
async def test_a_request_has_a_limit(function: Function) -> None:
    assert (await function.post(body="x" * 1000)).json == 1000
    answer = await function.post(body="x" * 1001)
    assert (answer.status, answer.id) == (413, "functions.body")
    upload = function.open()
    await upload.send(b"x" * 600)
    await upload.send(b"x" * 600)
    upload.end()
    answer = await upload.answer()
    assert (answer.status, answer.id) == (413, "functions.body")


@runs(
    javascript="async function handler(request) { return (await request.bytes()).length }",
    module="export default { async fetch(request) {"
    " return Response.json((await request.bytes()).length) } }",
    python="def handler(request, env):\n    return len(request.bytes())",
)
async def test_a_body_that_follows(function: Function) -> None:
    upload = function.open()
    for _ in range(40):
        await upload.send(b"x" * 50_000)
    upload.end()
    assert (await upload.answer()).json == 2_000_000


@runs(
    javascript="function handler() { return 'no need' }",
    module="export default { fetch() { return new Response('no need') } }",
)
async def test_a_body_need_not_be_read(function: Function) -> None:
    upload = function.open()
    assert (await upload.answer()).text == "no need"


@runs(
    javascript="async function handler(request) { let sizes = 0, pieces = 0;"
    " for await (const piece of request.body) { sizes += piece.length; pieces++ }"
    " return [sizes, pieces > 1] }",
    module="export default { async fetch(request) { let sizes = 0, pieces = 0;"
    " for await (const piece of request.body) { sizes += piece.length; pieces++ }"
    " return Response.json([sizes, pieces > 1]) } }",
)
async def test_a_body_can_be_read_in_pieces(function: Function) -> None:
    upload = function.open()
    for _ in range(30):
        await upload.send(b"x" * 50_000)
    upload.end()
    assert (await upload.answer()).json == [1_500_000, True]


@runs(
    javascript="async function handler(request) { await request.text();"
    " return await request.text().then(() => 'twice', (e) => e.name) }",
    module="export default { async fetch(request) { await request.text();"
    " return new Response(await request.text().then(() => 'twice', (e) => e.name)) } }",
)
async def test_a_body_is_read_once(function: Function) -> None:
    assert (await function.post(body="x")).text == "TypeError"
