"""Modules in the shape of Workers: what a Request, a Response and `ctx` are to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits
from microcosmos.rpc import frames

from ..engines.workers import Answer, Function, Worker


async def module(worker: Worker, body: str, *, before: str = "", **more: Any) -> Function:
    """A module whose ``fetch(request, env, ctx)`` has this body."""
    code = f"{before}\nexport default {{ async fetch(request, env, ctx) {{\n{body}\n}} }};"
    return await worker.load(code, form="module", **more)


# Requests.


async def test_a_request_is_a_real_one_in_every_way_a_framework_looks(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            """
            const moved = new Request('http://else.test/', request.clone());
            const clone = request.clone();
            const headers = { ...Object.fromEntries(request.headers), b: '2' };
            const copy = new Request(request, { headers });
            return Response.json({
              real: [request, copy, request.constructor.prototype === Request.prototype && copy]
                .map((one) => one instanceof Request),
              said: [request.method, request.url, request.headers.get('a')],
              copied: [copy.method, copy.url, copy.headers.get('a'), copy.headers.get('b')],
              moved: [moved.url, moved.method, await moved.text()],
              bodies: [await clone.text(), clone.bodyUsed, await copy.text(), request.bodyUsed],
              rest: [request.redirect, request.signal.aborted, String(request)],
            });
            """,
        )
        answer = await function.post("x?y=1", "hello", headers=[("a", "1")])
        assert answer.json == {
            "real": [True, True, True],
            "said": ["POST", "http://functions.test/probe/x?y=1", "1"],
            "copied": ["POST", "http://functions.test/probe/x?y=1", "1", "2"],
            "moved": ["http://else.test/", "POST", "hello"],
            "bodies": ["hello", True, "hello", True],
            "rest": ["follow", False, "[object Request]"],
        }


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        ("await request.text()", "a=1&b=2"),
        ("Object.fromEntries(await request.formData())", {"a": "1", "b": "2"}),
        ("[...await request.bytes()].length", 7),
        ("(await request.arrayBuffer()).byteLength", 7),
        ("(await request.blob()).size", 7),
        ("(await new Response(request.body).text())", "a=1&b=2"),
        ("(await new Response(request.clone().body).text()) + await request.text()", "a=1&b=2" * 2),
    ],
)
async def test_a_body_is_read_in_all_ways(worker: Worker, read: str, expected: Any) -> None:
    form = [("content-type", "application/x-www-form-urlencoded")]
    async with worker:
        function = await module(worker, f"return Response.json({read})")
        assert (await function.post("", "a=1&b=2", headers=form)).json == expected
        upload = function.open("POST", "", headers=form)
        await upload.send(b"a=1")
        await upload.send(b"&b=2")
        upload.end()
        assert (await upload.answer()).json == expected


async def test_a_body_is_read_once(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "await request.text(); try { await request.text() } catch (e) { return e.name }",
        )
        assert (await function.post("", "x")).text == "TypeError"


async def test_a_get_has_no_body(worker: Worker) -> None:
    async with worker:
        function = await module(worker, "return [request.body, await request.text()]")
        assert (await function.get()).json == [None, ""]


async def test_a_long_body_passes_through_unread_by_anybody(worker: Worker) -> None:
    async with worker:
        function = await module(worker, "return new Response(request.body)")
        upload = function.open()

        async def send() -> None:
            for _ in range(100):
                await upload.send(b"x" * 32 * 1024)
            upload.end()

        sending = asyncio.create_task(send())
        answer = await upload.answer()
        await sending
        assert len(answer.body) == 100 * 32 * 1024


async def test_the_signal_says_that_the_client_has_gone(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "await new Promise((resolve) => request.signal.addEventListener('abort', resolve));"
            "console.log('gone', request.signal.reason.name); return ''",
        )
        waiting = function.begin()
        await worker.verb(wire.HOST)
        waiting.cancel()
        assert [line.text for line in await function.logs()] == ["gone AbortError"]


# Answers.


@pytest.mark.parametrize(
    ("given", "body", "type"),
    [
        ("'<p>', { headers: { 'content-type': 'text/html' } }", b"<p>", "text/html"),
        ("'plain'", b"plain", "text/plain;charset=UTF-8"),
        ("new Uint8Array([1, 2])", b"\x01\x02", ""),
        ("new Uint8Array([1, 2]).buffer", b"\x01\x02", ""),
        ("new Blob(['b'], { type: 'a/b' })", b"b", "a/b"),
        (
            "new URLSearchParams({ a: 1 })",
            b"a=1",
            "application/x-www-form-urlencoded;charset=UTF-8",
        ),
        ("null", b"", ""),
        ("new Response('inner').body", b"inner", ""),
        ("(async function* () { yield 'a'; yield new Uint8Array([98]) })()", b"ab", ""),
        (
            "new ReadableStream({ start(c) { c.enqueue(new Uint8Array([99])); c.close() } })",
            b"c",
            "",
        ),
        ("'x'.repeat(300_000)", b"x" * 300_000, "text/plain;charset=UTF-8"),
    ],
)
async def test_bodies_of_responses(worker: Worker, given: str, body: bytes, type: str) -> None:
    async with worker:
        answer = await (await module(worker, f"return new Response({given})")).get()
        assert (answer.status, answer.body, answer.header("content-type")) == (200, body, type)


async def test_headers_that_are_changed_later_count(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "const r = new Response('x', { status: 418 }); r.headers.set('a', '1');"
            "r.headers.append('set-cookie', 'a=1'); r.headers.append('set-cookie', 'b=2');"
            "r.headers.set('connection', 'close'); return r",
        )
        answer = await function.get()
        assert answer.status == 418
        assert sorted(answer.headers) == [
            ("a", "1"),
            ("content-type", "text/plain;charset=UTF-8"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]


@pytest.mark.parametrize(
    ("made", "status", "body"),
    [
        ("Response.redirect('http://x.test/', 303)", 303, b""),
        ("Response.json({ a: 1 }, { status: 201 })", 201, b'{"a":1}'),
        ("new (class extends Response {})('sub', { status: 202 })", 202, b"sub"),
        ("new Response('copied', { status: 203 }).clone()", 203, b"copied"),
        ("new Response(new Response('b').body, new Response('a', { status: 206 }))", 206, b"b"),
        ("new Response(null, { status: 204 })", 204, b""),
    ],
)
async def test_ways_to_make_a_response(worker: Worker, made: str, status: int, body: bytes) -> None:
    async with worker:
        function = await module(
            worker, f"const r = {made}; return r instanceof Response ? r : 'is no Response'"
        )
        answer = await function.get()
        assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    "made",
    [
        "const r = new Response('x'); await r.text(); return r",
        "const r = new Response('x'); r.body.getReader(); return r.clone()",
        "return Response.error()",
        "return undefined",
        "return new ReadableStream().getReader",
    ],
)
async def test_what_is_no_answer(worker: Worker, made: str) -> None:
    async with worker:
        answer = await (await module(worker, made)).get()
        assert answer.status == 500
        assert answer.id in ("functions.answer", "functions.exception")


async def test_a_stream_ends_when_nobody_reads_any_more(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "async function* parts() { try { for (;;) { yield 'x';"
            "await new Promise((r) => setTimeout(r)) } } finally { console.log('ended') } }"
            "return new Response(parts())",
        )
        stream = function.begin()
        async for _ in stream.pieces():
            break
        stream.cancel()
        assert [line.text for line in await function.logs()] == ["ended"]


async def test_a_stream_that_fails_says_so(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "async function* parts() { yield 'x'; throw new Error('broken') }"
            "return new Response(parts())",
        )
        stream = function.begin()
        with pytest.raises(errors.InternalServerError) as caught:
            _ = [piece async for piece in stream.pieces()]
        assert caught.value.id == "functions.exception"
        assert "broken" in (await function.logs())[0].text
        assert (await function.counts(1)).errors == 1


# Sub-requests.


async def test_a_fetched_response_is_passed_on(worker: Worker) -> None:
    worker.sites["http://a.test/"] = Answer(status=201, headers=[("x", "y")], body=b"from a")
    async with worker:
        function = await module(
            worker,
            "const r = await fetch(new Request('http://a.test/', { method: 'PUT', body: 'abc' }));"
            "if (!(r instanceof Response) || r.url !== 'http://a.test/') return 'none'; return r",
        )
        answer = await function.get()
        assert (answer.status, answer.body, answer.header("x")) == (201, b"from a", "y")
        assert worker.fetched[0].method == "PUT"
        assert worker.fetched_bodies["http://a.test/"] == b"abc"


async def test_a_request_is_passed_on_as_it_comes(worker: Worker) -> None:
    worker.sites["http://a.test/"] = Answer(status=200, body=b"taken")
    async with worker:
        function = await module(worker, "return fetch('http://a.test/', request)")
        upload = function.open("POST", "", headers=[("a", "1")])
        await upload.send(b"x" * 100_000)
        await upload.send(b"y" * 100_000)
        upload.end()
        assert (await upload.answer()).text == "taken"
        assert ("a", "1") in worker.fetched[0].headers
        assert len(worker.fetched_bodies["http://a.test/"]) == 200_000


async def test_a_fetch_is_aborted_by_its_signal(worker: Worker) -> None:
    never: asyncio.Event = asyncio.Event()

    async def slow(_: wire.Fetch) -> Answer:
        await never.wait()
        return Answer(status=200)

    worker.sites["http://slow.test/"] = slow
    async with worker:
        function = await module(
            worker,
            "try { await fetch('http://slow.test/', { signal: AbortSignal.timeout(5) }) }"
            "catch (e) { return e.name }",
        )
        assert (await function.get()).text == "TimeoutError"
        await worker.until(lambda: worker.cancelled)


@pytest.mark.parametrize(
    "url", ["ftp://a.test/", "file:///etc/passwd", "data:text/plain,x", "/relative", ""]
)
async def test_only_the_web_is_fetched(worker: Worker, url: str) -> None:
    async with worker:
        function = await module(worker, f"await fetch({url!r}).then(() => 1, (e) => e.name)")
        assert (await function.get()).id == "functions.answer"
        function = await module(worker, f"return fetch({url!r}).then(() => 1, (e) => e.name)")
        assert (await function.get()).text == "TypeError"
        assert worker.fetched == []


# What else a module may have.


async def test_work_that_is_waited_for_ends_before_the_module_is_dropped(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "ctx.passThroughOnException();"
            "ctx.waitUntil(new Promise((r) => setTimeout(r, 50)).then(() => console.log('done')));"
            "ctx.waitUntil(Promise.reject(new Error('not done'))); return 'ok'",
        )
        assert (await function.get()).text == "ok"
        await worker.drop(function)
        assert (await function.get()).id == "functions.unloaded"
        said = [line.text.partition("\n")[0] for line in await function.logs(2)]
        assert said == ["Uncaught (in waitUntil) Error: not done", "done"]


async def test_a_module_handles_schedules_and_events(worker: Worker) -> None:
    code = """
    export default {
      scheduled(event, env, ctx) {
        console.log(event.cron, event.scheduledTime, typeof ctx.waitUntil);
      },
      consume(event, env) {
        if (event.payload.bad) throw new Error('bad');
        console.log(event.id, env.A);
      },
    };
    """
    async with worker:
        function = await worker.load(code, form="module", env={"A": "1"})
        cron = {"cron": "* * * * *", "scheduledTime": 5}
        assert (await function.event("scheduled", cron)).json is None
        assert (await function.event("consume", {"id": "e1", "payload": {}})).json is None
        said = [line.text for line in await function.logs(2)]
        assert said == ["* * * * * 5 function", "e1 1"]
        failed = await function.event("consume", {"id": "e2", "payload": {"bad": True}})
        assert (failed.status, failed.id) == (500, "functions.exception")
        assert (await function.get()).id == "functions.handler"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("message.ack()", 200),
        ("message.retry()", 500),
        ("batch.retryAll()", 500),
        ("batch.retryAll(); batch.ackAll()", 200),
        ("throw new Error('no')", 500),
    ],
)
async def test_a_queue_of_workers_gets_batches_of_one(
    worker: Worker, code: str, status: int
) -> None:
    body = (
        "export default { queue(batch) { for (const message of batch.messages) {"
        "console.log(batch.queue, message.id, message.body.a, message.attempts,"
        f"message.timestamp.getTime()); {code} }} }} }}"
    )
    event = {"id": "e1", "topic": "orders", "payload": {"a": 1}, "attempt": 2}
    event["timestamp"] = "2026-01-02T03:04:05Z"
    async with worker:
        function = await worker.load(body, form="module")
        answer = await function.event("consume", event)
        assert answer.status == status
        assert (await function.logs())[0].text == "orders e1 1 2 1767323045000"


async def test_modules_of_node_that_compute_may_be_imported(worker: Worker) -> None:
    async with worker:
        function = await module(
            worker,
            "const { createHash } = await import('node:crypto');"
            "const hash = createHash('sha256').update('').digest('hex');"
            "return [Buffer.from('a').toString('hex'), hash.length]",
            before="import { Buffer } from 'node:buffer';",
        )
        assert (await function.get()).json == ["61", 64]


@pytest.mark.parametrize(
    "name", ["node:fs", "fs", "node:child_process", "node:vm", "hono", "./x.js"]
)
async def test_nothing_else_can_be_imported(worker: Worker, name: str) -> None:
    async with worker:
        with pytest.raises(errors.InternalServerError, match="cannot import"):
            await module(worker, "return ''", before=f"import x from '{name}';")
        function = await module(worker, f"return import('{name}').then(() => 1, (e) => e.message)")
        assert "cannot import" in (await function.get()).text


async def test_a_module_has_a_heap_of_state_that_lives_as_long_as_it(worker: Worker) -> None:
    async with worker:
        function = await module(worker, "return ++count", before="let count = 0;")
        assert [(await function.get()).json for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("export const a = 1;", "this one has none"),
        ("export default 5;", "this one has none"),
        ("export default {};", "this one has none"),
        ("throw new Error('no luck');", "Error: no luck (probe.js:1:7)"),
        ("await Promise.reject('text');", "text"),
        ("export default { fetch() {} ", "SyntaxError"),
        ("null.x;", "TypeError: Cannot read properties of null (reading 'x') (probe.js:1:6)"),
    ],
)
async def test_a_module_that_cannot_be_loaded_says_why(
    worker: Worker, code: str, said: str
) -> None:
    async with worker:
        with pytest.raises(errors.InternalServerError) as caught:
            await worker.load(code, form="module")
        assert caught.value.id == "functions.load"
        assert said in caught.value.detail


async def test_a_module_that_never_finishes_loading_is_given_up(worker: Worker) -> None:
    async with worker:
        with pytest.raises(errors.InternalServerError, match=r"is not loaded after 0\.1 s"):
            await worker.load(
                "await new Promise(() => {}); export default {}",
                form="module",
                limits=Limits(wall=0.1),
            )
        assert (await (await module(worker, "return 'next'")).get()).text == "next"


async def test_a_key_is_loaded_once(worker: Worker) -> None:
    async with worker:
        code = "export default { fetch() { return 'x' } }"
        slots = await asyncio.gather(
            *(worker.load(code, form="module", key="same") for _ in range(3))
        )
        assert len({function.slot for function in slots}) == 1
        await worker.drop(slots[0])
        again = await worker.load(code, form="module", key="same")
        assert again.slot != slots[0].slot


async def test_a_request_that_waits_for_nothing_is_answered_soon(worker: Worker) -> None:
    async with worker:
        function = await module(worker, "await new Promise(() => {})")
        answer = await asyncio.wait_for(function.get(), 60)
        assert (answer.status, answer.id) == (500, "functions.unsettled")


@pytest.mark.parametrize(
    "wait",
    [
        "new Promise((r) => setTimeout(r, 250))",
        "new Promise((r) => AbortSignal.timeout(250).addEventListener('abort', r))",
        "new Promise((r) => { let n = 0; const i = setInterval(() => {"
        " if (++n === 5) { clearInterval(i); r() } }, 50) })",
        "crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 2048, hash: 'SHA-256',"
        " publicExponent: new Uint8Array([1, 0, 1]) }, false, ['sign', 'verify'])",
    ],
)
async def test_a_request_that_waits_for_something_is_left_alone(worker: Worker, wait: str) -> None:
    async with worker:
        function = await module(worker, f"await {wait}; return 'came'")
        assert (await function.get()).text == "came"


async def test_one_request_may_wait_for_another(worker: Worker) -> None:
    gate = asyncio.Event()

    async def slow(_: wire.Fetch) -> Answer:
        await gate.wait()
        return Answer(status=200, body=b"shared")

    worker.sites["http://slow.test/"] = slow
    async with worker:
        function = await module(
            worker,
            "shared ??= fetch('http://slow.test/').then((r) => r.text()); return shared",
            before="let shared;",
        )
        streams = [function.begin() for _ in range(3)]
        asyncio.get_running_loop().call_later(0.25, gate.set)
        assert [(await stream.answer()).text for stream in streams] == ["shared"] * 3
        assert len(worker.fetched) == 1


async def test_requests_run_concurrently_where_they_wait(worker: Worker) -> None:
    worker.sites["http://a.test/"] = Answer(status=200, body=b"a")
    async with worker:
        function = await module(worker, "return (await fetch('http://a.test/')).text()")
        streams = [function.begin() for _ in range(1000)]
        assert {(await stream.answer()).text for stream in streams} == {"a"}


async def test_a_beat_comes_back_though_requests_wait(worker: Worker) -> None:
    async with worker:
        function = await module(worker, "await new Promise((r) => setTimeout(r, 100)); return 'x'")
        stream = function.begin()
        worker.line.send(frames.BEAT, 0, b"now")
        await worker.until(lambda: worker.beats == [b"now"])
        assert not stream.begun.done()
        assert (await stream.answer()).text == "x"
