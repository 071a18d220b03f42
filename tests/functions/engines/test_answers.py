"""What a function may answer, and what comes of it."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits

from .workers import Function, Worker

runs = pytest.mark.runs


@runs(
    javascript="function handler() { return 'hello' }",
    script="'hello'",
    module="export default { fetch() { return new Response('hello') } }",
    typescript="function handler(request: unknown): string { return 'hello' }",
    python="def handler(request, env):\n    return 'hello'",
)
async def test_a_text_is_plain(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.text, answer.id) == (200, "hello", "")
    assert answer.type.lower().replace(" ", "") == "text/plain;charset=utf-8"


@runs(
    javascript="async function handler() { await null; return 'later' }",
    script="Promise.resolve('later')",
    module="export default { async fetch() { await null; return new Response('later') } }",
    python="async def handler(request, env):\n    return 'later'",
)
async def test_an_answer_may_be_a_promise(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.text) == (200, "later")


@pytest.mark.parametrize("page", ["<!doctype html><p>", " \\n <HTML lang='en'>", "<!DOCTYPE HTML>"])
@runs(
    javascript="async function handler(request) { return JSON.parse(await request.text()) }",
    python="def handler(request, env):\n    return request.json()",
)
async def test_a_page_is_html(function: Function, page: str) -> None:
    answer = await function.post(body=f'"{page}"')
    assert answer.kind == wire.HTML
    assert answer.text == page.replace("\\n", "\n")


@pytest.mark.parametrize("text", ["<p>", "html", "", " ", "<htm", "a<html>", "1", "<!doc>"])
@runs(
    javascript="async function handler(request) { return await request.text() }",
    python="def handler(request, env):\n    return request.text()",
)
async def test_another_text_is_no_page(function: Function, text: str) -> None:
    answer = await function.post(body=text)
    assert (answer.kind, answer.text) == (wire.TEXT, text)


@pytest.mark.parametrize(
    "value",
    ['{"a":[1,2.5,null,true,"é"]}', "[]", "{}", "3", "-1.5", "true", "false", "null", '"x"'],
)
@runs(
    javascript="async function handler(request) { return [await request.json()] }",
    python="def handler(request, env):\n    return [request.json()]",
)
async def test_a_value_is_json(function: Function, value: str) -> None:
    answer = await function.post(body=value)
    assert (answer.status, answer.kind) == (200, wire.JSON)
    assert answer.body.decode() == f"[{value}]"


@runs(
    javascript="function handler({ path }) { return { n: 3, t: true, f: false, z: null }[path] }",
    python="def handler(request, env):\n"
    "    return {'n': 3, 't': True, 'f': False, 'z': None}[request.path]",
)
async def test_numbers_booleans_and_null_are_json(function: Function) -> None:
    given = [(await function.get(name)) for name in "ntfz"]
    assert [(answer.kind, answer.body) for answer in given] == [
        (wire.JSON, b"3"),
        (wire.JSON, b"true"),
        (wire.JSON, b"false"),
        (wire.JSON, b"null"),
    ]


@runs(
    javascript="async function handler(request) { return await request.bytes() }",
    python="def handler(request, env):\n    return request.bytes()",
)
async def test_bytes_come_as_they_are(function: Function) -> None:
    body = bytes(range(256)) * 3
    answer = await function.post(body=body)
    assert (answer.status, answer.kind, answer.body) == (200, wire.BYTES, body)


@runs(
    javascript="async function handler(request) { return (await request.bytes()).buffer }",
)
async def test_a_buffer_is_bytes(function: Function) -> None:
    answer = await function.post(body=b"\x00\xff")
    assert (answer.kind, answer.body) == (wire.BYTES, b"\x00\xff")


@pytest.mark.parametrize("text", ["a\0b", "\0", "é😀\0", "x" * 100_000, "y\0" * 3000])
@runs(
    javascript="async function handler(request) { return await request.text() }",
    module="export default { async fetch(request) { return new Response(await request.text()) } }",
    python="def handler(request, env):\n    return request.text()",
)
async def test_any_text_comes_back(function: Function, text: str) -> None:
    assert (await function.post(body=text)).text == text


@runs(javascript="function handler() { return 'a\\ud800b' }", script="'a\\ud800b'")
async def test_half_a_character_is_replaced(function: Function) -> None:
    assert (await function.get()).text == "a\ufffdb"


@runs(
    javascript="function handler() {"
    " return new Response('made', { status: 201, headers: { 'X-A': '1', 'content-type': 'a/b' } }) }",
    module="export default { fetch() {"
    " return new Response('made', { status: 201, headers: { 'X-A': '1', 'content-type': 'a/b' } }) } }",
    script="new Response('made', { status: 201, headers: { 'X-A': '1', 'content-type': 'a/b' } })",
    python="def handler(request, env):\n"
    "    return Response('made', status=201, headers={'X-A': '1', 'content-type': 'a/b'})",
)
async def test_a_response_says_all_itself(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.text, answer.kind) == (201, "made", wire.GIVEN)
    assert answer.type == "a/b"
    assert answer.header("x-a") == "1"


@runs(
    javascript="function handler() { return new Response('<html>') }",
    module="export default { fetch() { return new Response('<html>') } }",
)
async def test_the_text_of_a_response_is_plain_unless_it_says_so(function: Function) -> None:
    assert (await function.get()).type == "text/plain;charset=UTF-8"


@runs(
    javascript="function handler({ path }) { return path === 'j' ? Response.json({ a: 1 })"
    " : path === 'r' ? Response.redirect('http://a.test/b', 307)"
    " : path === 'e' ? new Response(null, { status: 204 })"
    " : new Response(new Uint8Array([1, 255])) }",
    module="export default { fetch({ url }) { const path = url.at(-1);"
    " return path === 'j' ? Response.json({ a: 1 })"
    " : path === 'r' ? Response.redirect('http://a.test/b', 307)"
    " : path === 'e' ? new Response(null, { status: 204 })"
    " : new Response(new Uint8Array([1, 255])) } }",
)
async def test_responses_of_other_kinds(function: Function) -> None:
    json, redirect = await function.get("j"), await function.get("r")
    assert (json.type, json.json) == ("application/json", {"a": 1})
    assert (redirect.status, redirect.header("location")) == (307, "http://a.test/b")
    empty, data = await function.get("e"), await function.get("b")
    assert (empty.status, empty.body, empty.type) == (204, b"", "")
    assert (data.status, data.body, data.type) == (200, b"\x01\xff", "")


@runs(
    javascript="function handler() { const headers = new Headers();"
    " headers.append('set-cookie', 'a=1'); headers.append('set-cookie', 'b=2');"
    " return new Response('', { headers }) }",
    module="export default { fetch() { const headers = new Headers();"
    " headers.append('set-cookie', 'a=1'); headers.append('set-cookie', 'b=2');"
    " return new Response('', { headers }) } }",
    python="def handler(request, env):\n"
    "    return Response('', headers=[('set-cookie', 'a=1'), ('set-cookie', 'b=2')])",
)
async def test_cookies_stay_apart(function: Function) -> None:
    answer = await function.get()
    cookies = [value for name, value in answer.headers if name.lower() == "set-cookie"]
    assert cookies == ["a=1", "b=2"]


STREAM = """
async function* pieces() {
  yield 'one '
  await new Promise((done) => setTimeout(done, 5))
  yield new TextEncoder().encode('two ')
  yield 'three'
}
"""


@runs(
    javascript=STREAM + "function handler() { return new Response(pieces(), { status: 202 }) }",
)
async def test_a_body_may_come_in_pieces(function: Function) -> None:
    stream = function.begin()
    answer = await stream.answer()
    assert (answer.status, answer.text) == (202, "one two three")


ENDLESS = """
let made = 0
async function* pieces() {
  try {
    for (;;) { made++; yield new Uint8Array(16384) }
  } finally { made = -1 }
}
function handler({ path }) { return path ? String(made) : new Response(pieces()) }
"""


@pytest.mark.engines("quickjs", "deno")  # for wasm see test_realms
@runs(javascript=ENDLESS)
async def test_a_body_waits_for_its_reader(function: Function) -> None:
    stream = function.begin()
    pieces = stream.pieces(granting=False)
    size = 0
    while size < wire.WINDOW:
        size += len(await anext(pieces))
    made = int((await function.get("made")).text)
    assert 0 < made <= wire.WINDOW // 16384 + 4
    stream.grant(wire.WINDOW)
    while size < 2 * wire.WINDOW:
        size += len(await anext(pieces))
    # Who has enough says so, and the function hears of it.
    stream.cancel()
    while int((await function.get("made")).text) != -1:
        pass


@runs(
    javascript="async function* pieces() { yield 'a'; throw new Error('torn') }"
    " function handler() { return new Response(pieces()) }",
)
async def test_a_body_that_fails_is_torn(function: Function) -> None:
    stream = function.begin()
    pieces = stream.pieces()
    assert await anext(pieces) == b"a"
    with pytest.raises(errors.Error) as caught:
        await anext(pieces)
    assert caught.value.id == "functions.exception"
    assert "torn" in (await function.logs())[0].text


NOTHINGS = {
    "undefined": "undefined",
    "function": "() => 1",
    "symbol": "Symbol('s')",
    "bigint": "1n",
    "cycle": "(() => { const a = []; a.push(a); return a })()",
    "nothing in JSON": "{ toJSON() {} }",
    "bigint within": "{ a: 1n }",
}


@pytest.mark.parametrize("awaited", ["", "async "])
@pytest.mark.parametrize("what", NOTHINGS)
@runs(
    javascript="const values = {"
    + ", ".join(f"'{name}': () => ({code})" for name, code in NOTHINGS.items())
    + "}\nfunction handler({ query }) { const value = values[query.what]();"
    " return query.awaited ? Promise.resolve(value) : value }"
)
async def test_what_is_no_answer(function: Function, what: str, awaited: str) -> None:
    answer = await function.get(f"?what={what.replace(' ', '+')}&awaited={awaited.strip()}")
    assert (answer.status, answer.id) == (500, "functions.answer")


@runs(python="def handler(request, env):\n    return {1, 2}")
async def test_what_is_no_answer_in_python(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (500, "functions.answer")


@runs(
    javascript="function handler({ query }) { return 'x'.repeat(Number(query.size)) }",
    python="def handler(request, env):\n    return 'x' * int(request.query['size'])",
    options={"limits": Limits(cpu=1.0, response=10_000)},
)
async def test_an_answer_has_a_limit(function: Function) -> None:
    assert len((await function.get("?size=10000")).body) == 10_000
    answer = await function.get("?size=10001")
    assert (answer.status, answer.id) == (503, "functions.limit.output")


PATCHES = """
function handler() {
  JSON.stringify = () => '{"forged": 1}'
  Object.prototype.toJSON = () => 'forged'
  Array.prototype.toJSON = () => 'forged'
  Array.prototype.push = () => { throw 1 }
  Promise.prototype.then = () => {}
  String.prototype.toWellFormed = () => 'forged'
  Map.prototype.get = () => 1
  console.log('said')
  return 'true'
}
"""


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_who_patches_the_language_is_answered_all_the_same(own_worker: Worker) -> None:
    async with own_worker as worker:
        function = await worker.load(PATCHES)
        for _ in range(2):
            assert (await function.get()).text == "true"
        assert (await function.logs(2))[1].text == "said"


@pytest.mark.engines("quickjs", "wasm")
async def test_who_patches_the_language_does_so_for_himself(worker: Worker) -> None:
    assert (await (await worker.load(PATCHES)).get()).text == "true"
    other = await worker.load("async function handler() { return { a: [1] } }")
    assert (await other.get()).json == {"a": [1]}
