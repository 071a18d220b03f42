"""fetch, which the host does."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits

from .workers import Answer, Function, Worker

runs = pytest.mark.runs
URL = "http://site.test/a"
PAGE = Answer(status=200, headers=[("content-type", "text/html")], body=b"<p>hi</p>")


@runs(
    javascript=f"async function handler() {{ const r = await fetch('{URL}');"
    " return [r.ok, r.status, r.headers.get('Content-Type'), await r.text()] }",
    module=f"export default {{ async fetch() {{ const r = await fetch('{URL}');"
    " return Response.json([r.ok, r.status, r.headers.get('Content-Type'), await r.text()]) } }",
    python=f"def handler(request, env):\n    r = fetch('{URL}')\n"
    "    return [r.ok, r.status, r.headers.get('Content-Type'), r.text()]",
)
async def test_a_page_is_fetched(worker: Worker, function: Function) -> None:
    worker.sites[URL] = PAGE
    assert (await function.get()).json == [True, 200, "text/html", "<p>hi</p>"]


@runs(
    javascript=f"async function handler() {{ const r = await fetch('{URL}', {{ method: 'post',"
    " headers: { 'X-A': 'b' }, body: 'né' });"
    " return [r.ok, r.status, await r.json()] }",
    module=f"export default {{ async fetch() {{ const r = await fetch('{URL}', {{ method: 'post',"
    " headers: { 'X-A': 'b' }, body: 'né' });"
    " return Response.json([r.ok, r.status, await r.json()]) } }",
    python=f"def handler(request, env):\n    r = fetch('{URL}', method='post',"
    " headers={'X-A': 'b'}, body='né')\n    return [r.ok, r.status, r.json()]",
)
async def test_what_is_sent_along(worker: Worker, function: Function) -> None:
    worker.sites[URL] = Answer(status=404, body=b'{"a": 1}')
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = await function.get(headers=[("micro-trace", trace)])
    assert answer.json == [False, 404, {"a": 1}]
    (fetch,) = worker.fetched
    assert (fetch.method, fetch.url, fetch.trace) == ("POST", URL, trace)
    assert ("x-a", "b") in [(name.lower(), value) for name, value in fetch.headers]
    body = worker.fetched_bodies.get(URL) or base64.b64decode(fetch.body)
    assert body == "né".encode()


@runs(
    javascript=f"async function handler() {{ return await fetch('{URL}') }}",
    module=f"export default {{ async fetch() {{ return await fetch('{URL}') }} }}",
    script=f"fetch('{URL}')",
    python=f"def handler(request, env):\n    return fetch('{URL}')",
)
async def test_what_is_fetched_may_be_the_answer(worker: Worker, function: Function) -> None:
    worker.sites[URL] = PAGE
    answer = await function.get()
    assert (answer.status, answer.type, answer.body) == (200, "text/html", b"<p>hi</p>")


async def _pieces() -> AsyncIterator[bytes]:
    for number in range(40):
        yield bytes([number]) * 25_000


BODY = b"".join(bytes([number]) * 25_000 for number in range(40))


@runs(
    javascript=f"async function handler() {{ return await fetch('{URL}') }}",
    module=f"export default {{ async fetch() {{ return await fetch('{URL}') }} }}",
)
async def test_what_is_fetched_passes_through_in_pieces(worker: Worker, function: Function) -> None:
    worker.sites[URL] = lambda fetch: (Answer(status=201), _pieces())
    answer = await function.get()
    assert (answer.status, answer.body) == (201, BODY)


@runs(
    javascript=f"async function handler() {{ return await (await fetch('{URL}')).bytes() }}",
    module=f"export default {{ async fetch() {{"
    f" return new Response(await (await fetch('{URL}')).arrayBuffer()) }} }}",
    python=f"def handler(request, env):\n    return fetch('{URL}').bytes()",
)
async def test_what_comes_in_pieces_is_read_whole(worker: Worker, function: Function) -> None:
    worker.sites[URL] = lambda fetch: (Answer(status=200), _pieces())
    assert (await function.get()).body == BODY


@runs(
    javascript=f"async function handler() {{ let n = 0;"
    f" for await (const piece of (await fetch('{URL}')).body) n += piece.length; return n }}",
    module=f"export default {{ async fetch() {{ let n = 0;"
    f" for await (const piece of (await fetch('{URL}')).body) n += piece.length;"
    " return Response.json(n) } }",
)
async def test_a_fetched_body_is_read_in_pieces(worker: Worker, function: Function) -> None:
    worker.sites[URL] = lambda fetch: (Answer(status=200), _pieces())
    assert (await function.get()).json == len(BODY)


@runs(
    javascript=f"async function handler() {{ const r = await fetch('{URL}');"
    " for await (const piece of r.body) return piece.length }",
)
async def test_a_body_that_is_left_is_cancelled(worker: Worker, function: Function) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000
            await asyncio.sleep(0)

    worker.sites[URL] = lambda fetch: (Answer(status=200), endless())
    assert (await function.get()).json == 10_000
    await worker.until(lambda: worker.cancelled)


@runs(
    javascript="async function handler() {"
    " return await fetch('http://nowhere.test/').catch((e) => [e instanceof Error]) }",
    module="export default { async fetch() { return Response.json("
    "await fetch('http://nowhere.test/').catch((e) => [e instanceof Error])) } }",
)
async def test_a_fetch_that_fails_can_be_caught(function: Function) -> None:
    assert (await function.get()).json == [True]


@runs(
    javascript="async function handler() { await fetch('http://nowhere.test/') }",
    module="export default { async fetch() { return await fetch('http://nowhere.test/') } }",
    script="fetch('http://nowhere.test/')",
    python="def handler(request, env):\n    return fetch('http://nowhere.test/')",
)
async def test_a_fetch_that_fails_and_nobody_catches(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (500, "functions.exception")
    assert "nowhere.test" in (await function.logs())[0].text


@runs(
    javascript=f"async function handler() {{ return (await Promise.all("
    f"[1, 2, 3].map(async () => (await fetch('{URL}')).text()))).length }}",
    module=f"export default {{ async fetch() {{ return Response.json((await Promise.all("
    f"[1, 2, 3].map(async () => (await fetch('{URL}')).text()))).length) }} }}",
)
async def test_fetches_run_beside_each_other(worker: Worker, function: Function) -> None:
    together = asyncio.Barrier(3)

    async def site(fetch: wire.Fetch) -> Answer:
        await together.wait()
        return PAGE

    worker.sites[URL] = site
    assert (await function.get()).json == 3


REQUESTS = 1000


@runs(
    javascript=f"async function handler({{ path }}) {{"
    f" const r = await fetch('{URL}'); return path + await r.text() }}",
    module=f"export default {{ async fetch({{ url }}) {{"
    f" const r = await fetch('{URL}'); return new Response(url.split('/').at(-1) + await r.text()) }} }}",
    options={"limits": Limits(cpu=1.0, concurrency=REQUESTS)},
)
async def test_a_thousand_requests_wait_at_the_same_time(
    worker: Worker, function: Function
) -> None:
    waiting = 0
    all_wait = asyncio.Event()

    async def site(fetch: wire.Fetch) -> Answer:
        nonlocal waiting
        waiting += 1
        if waiting == REQUESTS:
            all_wait.set()
        await all_wait.wait()
        return PAGE

    worker.sites[URL] = site
    streams = [function.begin("GET", f"n{number}") for number in range(REQUESTS)]
    answers = [await stream.answer() for stream in streams]
    assert [answer.text for answer in answers] == [f"n{n}<p>hi</p>" for n in range(REQUESTS)]


@runs(
    javascript=f"async function handler({{ query }}) {{ for (let n = 0; n < query.n; n++)"
    f" await fetch('{URL}'); return 'done' }}",
    module=f"export default {{ async fetch({{ url }}) {{"
    f" for (let n = 0; n < url.split('=')[1]; n++) await fetch('{URL}');"
    " return new Response('done') } }",
    python="def handler(request, env):\n    for _ in range(int(request.query['n'])):\n"
    f"        fetch('{URL}')\n    return 'done'",
    options={"limits": Limits(cpu=1.0, fetches=3)},
)
async def test_fetches_have_a_limit(worker: Worker, function: Function) -> None:
    worker.sites[URL] = PAGE
    assert (await function.get("?n=3")).text == "done"
    answer = await function.get("?n=4")
    assert (answer.status, answer.id) == (503, "functions.limit.fetches")


@runs(
    javascript=f"async function handler() {{ try {{ await fetch('{URL}') }}"
    " catch (e) { return [e.code, e.id] } }",
)
async def test_the_error_of_the_host_is_seen(worker: Worker, function: Function) -> None:
    def refused(fetch: wire.Fetch) -> Answer:
        raise errors.Forbidden("functions.fetch", "not there")

    worker.sites[URL] = refused
    assert (await function.get()).json == [403, "functions.fetch"]
