"""What a Python function finds around it, and what becomes of what it gives."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits

from ..engines.workers import Answer, Function, Worker


async def load(worker: Worker, code: str, **more: Any) -> Function:
    return await worker.load(code, language="python", **{"key": uuid.uuid4().hex, **more})


async def body(worker: Worker, lines: str, **more: Any) -> Function:
    """A handler of these lines."""
    indented = "\n".join(f"    {line}" for line in lines.splitlines())
    return await load(worker, f"def handler(request, env):\n{indented}\n", **more)


async def test_a_request_is_what_was_sent(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker,
            "return [request.method, request.url, request.path, request.query, request.params,\n"
            " request.headers['X-A'], request.headers.get('x-b', '-'), 'x-a' in request.headers,\n"
            " [name for name in request.headers], request.text(), request.json(),\n"
            " len(request.bytes())]",
        )
        answer = await function.post(
            "a/b%20c?x=1&x=2&y=&z=%C3%A9",
            body='{"é": 1}',
            headers=[("x-a", "1"), ("X-A", "2")],
            params={"id": "7"},
            url="http://h/f/a/b%20c?x=1&x=2&y=&z=%C3%A9#q",
        )
        assert answer.json == [
            "POST",
            "http://h/f/a/b%20c?x=1&x=2&y=&z=%C3%A9#q",
            "a/b%20c",
            {"x": ["1", "2"], "y": "", "z": "é"},
            {"id": "7"},
            "1, 2",
            "-",
            True,
            ["x-a", "X-A"],
            '{"é": 1}',
            {"é": 1},
            9,
        ]


@pytest.mark.parametrize(
    ("given", "kind", "sent"),
    [
        ("'text'", wire.TEXT, b"text"),
        ("' \\n<!DoCtYpe html><p>'", wire.HTML, b" \n<!DoCtYpe html><p>"),
        ("'<HTML lang=en>'", wire.HTML, b"<HTML lang=en>"),
        ("b'\\xff'", wire.BYTES, b"\xff"),
        ("{'a': [1, 2.5, None, True, 'é']}", wire.JSON, '{"a":[1,2.5,null,true,"é"]}'.encode()),
        ("(1, 2)", wire.JSON, b"[1,2]"),
        ("None", wire.JSON, b"null"),
        ("Response({'a': 1})", wire.JSON, b'{"a":1}'),
        ("Response('<html>')", wire.HTML, b"<html>"),
        ("Response()", wire.GIVEN, b""),
        ("Response('a', headers={'Content-Type': 'text/css'})", wire.GIVEN, b"a"),
    ],
)
async def test_answers_tell_their_kind(worker: Worker, given: str, kind: int, sent: bytes) -> None:
    async with worker:
        answer = await (await body(worker, f"return {given}")).get()
        assert (answer.status, answer.kind, answer.body) == (200, kind, sent)


async def test_a_response_has_a_status_and_headers(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker, "return Response('x', status=404, headers=[('a', '1'), ('a', '2'), ('b', 3)])"
        )
        answer = await function.get()
        assert answer.status == 404
        assert answer.headers == [("a", "1"), ("a", "2"), ("b", "3")]


@pytest.mark.parametrize(
    "given",
    [
        "{1, 2}",
        "handler",
        "request",
        "float('nan')",
        "Response('x', status=99)",
        "Response('x', status='200')",
        "Response('x', status=204)",
        "Response('x', headers={'a': 'b\\r\\nc: d'})",
        "Response('x', headers={'a b': 'c'})",
        "Response({1, 2})",
    ],
)
async def test_what_is_no_answer_is_refused(worker: Worker, given: str) -> None:
    async with worker:
        function = await body(worker, f"return {given}")
        answer = await function.get()
        assert (answer.status, answer.id) == (500, "functions.answer")
        assert any("functions.answer" in line.text for line in await function.logs())


async def test_a_list_that_holds_itself_is_refused(worker: Worker) -> None:
    async with worker:
        answer = await (await body(worker, "a = []\na.append(a)\nreturn a")).get()
        assert answer.id == "functions.answer"


async def test_handlers_may_be_async(worker: Worker) -> None:
    async with worker:
        function = await load(worker, "async def handler(request, env):\n    return request.path")
        assert (await function.get("x")).text == "x"


async def test_globals_are_kept_while_it_is_warm(worker: Worker) -> None:
    async with worker:
        function = await load(
            worker,
            "seen = []\ndef handler(request, env):\n    seen.append(request.path)\n    return seen",
        )
        await function.get("a")
        assert (await function.get("b")).json == ["a", "b"]


async def test_variables_are_read_in_three_ways(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker,
            "return [env.NAME, env['NAME'], env.get('NONE', 3), 'NAME' in env, 'NONE' in env]",
            env={"NAME": "v"},
        )
        assert (await function.get()).json == ["v", "v", 3, True, False]


async def test_what_was_not_granted_is_not_there(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker,
            "return [hasattr(env, name) for name in\n"
            " ('store', 'config', 'events', 'broker', 'call')]",
            grants=["config", "call:users"],
        )
        assert (await function.get()).json == [False, True, False, False, True]


async def test_bindings_are_plain_calls(worker: Worker) -> None:
    async with worker:
        kept: dict[str, Any] = {}
        worker.bindings = {
            ("store", "set"): lambda key, value, options=None: kept.update({key: (value, options)}),
            ("store", "get"): lambda key: kept[key][0],
            ("store", "delete"): lambda key: kept.pop(key) and None,
            ("store", "list"): lambda options=None: [options],
            ("config", "get"): lambda path: path,
            ("events", "publish"): lambda *said: {"id": list(said)},
            ("broker", "publish"): lambda *said: None,
            ("call", "users.read"): lambda said: {"read": said},
        }
        function = await body(
            worker,
            "env.store.set('k', {'n': 1}, expiry=5)\n"
            "got = env.store.get('k')\n"
            "env.store.set('k', 2)\n"
            "env.store.delete('k')\n"
            "env.broker.publish('t', 1)\n"
            "return [got, env.store.list(), env.store.list('a', limit=2), env.config.get('x.y'),\n"
            " env.events.publish('t', {'a': 1}, key='k'), env.call('users.read', {'id': 1}),\n"
            " env.call('users.read')]",
            grants=["store", "config", "events", "broker", "call"],
        )
        assert (await function.get(headers=[("Micro-Trace", "f" * 32)])).json == [
            {"n": 1},
            [None],
            [{"prefix": "a", "limit": 2}],
            "x.y",
            {"id": ["t", {"a": 1}, {"key": "k"}]},
            {"read": {"id": 1}},
            {"read": {}},
        ]
        assert worker.used[0].arguments == ["k", {"n": 1}, {"expiry": 5}]
        assert {use.trace for use in worker.used} == {"f" * 32}
        assert not kept


async def test_what_is_no_json_is_not_kept(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker,
            "for value in (b'x', {1}, handler, float('nan')):\n"
            "    try:\n        env.store.set('k', value)\n"
            "    except (TypeError, ValueError) as error:\n        print(error)\n"
            "return 'fine'",
            grants=["store"],
        )
        assert (await function.get()).text == "fine"
        assert len(await function.logs(4)) == 4
        assert not worker.used


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.BadRequest("a", "b"), "ValueError"),
        (errors.Forbidden("a", "b"), "PermissionError"),
        (errors.NotFound("a", "b"), "LookupError"),
        (errors.DeadlineExceeded("a", "b"), "TimeoutError"),
        (errors.Unavailable("a", "b"), "RuntimeError"),
    ],
)
async def test_failures_are_exceptions_that_tell(
    worker: Worker, error: errors.Error, kind: str
) -> None:
    def fail(request: Any) -> None:
        raise error

    async with worker:
        worker.bindings["call", "users.read"] = fail
        function = await body(
            worker,
            "try:\n"
            "    env.call('users.read')\n"
            f"except {kind} as error:\n"
            "    why = failure(error)\n"
            "    return [str(error), why.code, why.id, why.detail, why.status]",
            grants=["call"],
        )
        answer = (await function.get()).json
        assert answer == ["a: b", error.code, "a", "b", error.status]


async def test_fetch_waits_and_sends_what_it_is_given(worker: Worker) -> None:
    async with worker:
        worker.sites["http://a/"] = Answer(status=201, headers=[("x", "y")], body=b'{"n":1}')
        function = await body(
            worker,
            "got = fetch('http://a/', method='put', headers={'a': 'b'}, json={'q': 1})\n"
            "return [got.status, got.ok, got.headers['X'], got.text(), got.json(),\n"
            " got.bytes().decode()]",
        )
        assert (await function.get()).json == [201, True, "y", '{"n":1}', {"n": 1}, '{"n":1}']
        sent = worker.fetched[0]
        assert (sent.method, sent.redirect) == ("PUT", "follow")
        assert sent.headers == [("a", "b"), ("content-type", "application/json")]
        assert sent.body == "eyJxIjoxfQ=="


async def test_what_was_fetched_may_be_the_answer(worker: Worker) -> None:
    async with worker:
        worker.sites["http://a/"] = Answer(
            status=418, headers=[("content-type", "image/x"), ("x", "y")], body=b"\0\xff"
        )
        answer = await (await body(worker, "return fetch('http://a/')")).get()
        assert (answer.status, answer.type, answer.body) == (418, "image/x", b"\0\xff")
        assert answer.header("x") == "y"


async def test_a_body_that_streams_is_read_whole(worker: Worker) -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield b"x" * 30_000

    async with worker:
        worker.sites["http://a/"] = lambda fetch: (Answer(status=200), pieces())
        function = await body(worker, "return len(fetch('http://a/').bytes())")
        assert (await function.get()).json == 1_200_000
        small = Limits(response=100_000, cpu=1)
        function = await body(worker, "return fetch('http://a/').text()", limits=small)
        assert (await function.get()).id == "functions.exception"
        await worker.until(lambda: worker.cancelled)


async def test_fetches_run_side_by_side(worker: Worker) -> None:
    async with worker:
        both = asyncio.Barrier(2)

        async def site(fetch: wire.Fetch) -> Answer:
            await both.wait()
            return Answer(status=200, body=fetch.url.encode())

        worker.sites = {"http://a/": site, "http://b/": site}
        function = await load(
            worker,
            "import asyncio\n"
            "async def handler(request, env):\n"
            "    got = await asyncio.gather(fetch_async('http://a/'), fetch_async('http://b/'))\n"
            "    return [one.text() for one in got]\n",
        )
        assert (await function.get()).json == ["http://a/", "http://b/"]


async def test_requests_run_side_by_side_where_they_wait(worker: Worker) -> None:
    async with worker:
        all_of_them = asyncio.Barrier(6)

        async def site(fetch: wire.Fetch) -> Answer:
            await all_of_them.wait()
            return Answer(status=200, body=b"x")

        worker.sites["http://a/"] = site
        function = await body(worker, "return fetch('http://a/').text()")
        answers = await asyncio.gather(*(function.get() for _ in range(6)))
        assert {answer.text for answer in answers} == {"x"}


async def test_sandboxes_of_one_function_draw_numbers_of_their_own(worker: Worker) -> None:
    async with worker:
        both = asyncio.Barrier(2)

        async def site(fetch: wire.Fetch) -> Answer:
            await both.wait()
            return Answer(status=200)

        worker.sites["http://a/"] = site
        function = await load(
            worker,
            "import os, random\nfirst = random.random()\n"
            "def handler(request, env):\n"
            "    fetch('http://a/')\n"
            "    return [first, random.random(), os.urandom(8).hex()]\n",
        )
        one, two = await asyncio.gather(function.get(), function.get())
        assert one.json[0] == two.json[0]
        assert one.json[1] != two.json[1]
        assert one.json[2] != two.json[2]


async def test_what_is_printed_is_logged_line_by_line(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker,
            "import sys\n"
            "print('one', 2)\nprint('three', end='')\nprint('!')\nprint('a\\nb')\n"
            "print('bad', file=sys.stderr)\nprint('rest', end='')",
        )
        await function.get(headers=[("micro-trace", "e" * 32)])
        lines = await function.logs(6)
        assert [(line.level, line.text) for line in lines] == [
            ("info", "one 2"),
            ("info", "three!"),
            ("info", "a"),
            ("info", "b"),
            ("error", "bad"),
            ("info", "rest"),
        ]
        assert {line.trace for line in lines} == {"e" * 32}


async def test_a_flood_of_lines_is_cut(worker: Worker) -> None:
    async with worker:
        function = await body(
            worker,
            "for at in range(5000):\n    print(at)\nprint('x' * 100000)",
            limits=Limits(cpu=1.0, logs=10 + 180 + 2700 + 4),
        )
        await function.get()
        lines = await function.logs(1002)
        assert lines[1000].text == "1000"
        assert (lines[1001].level, "is dropped" in lines[1001].text) == ("warn", True)
        assert len(lines) == 1002


async def test_the_log_says_where_an_exception_arose(worker: Worker) -> None:
    async with worker:
        function = await load(
            worker,
            "def inner():\n    return [1][5]\n\ndef handler(request, env):\n    return inner()\n",
            name="shop",
        )
        answer = await function.get()
        assert (answer.status, answer.id) == (500, "functions.exception")
        assert "IndexError" not in answer.detail
        (line,) = await function.logs()
        assert line.level == "error"
        assert line.text == (
            "Traceback (most recent call last):\n"
            '  File "shop.py", line 5, in handler\n    return inner()\n'
            '  File "shop.py", line 2, in inner\n    return [1][5]\n'
            "IndexError: list index out of range"
        )


async def test_events_are_handled(worker: Worker) -> None:
    async with worker:
        function = await load(
            worker,
            "async def consume(event, env):\n"
            "    print(event.topic, event.payload['n'], event['attempt'], event.get('none', '-'))\n"
            "    if event.attempt == 1:\n        raise ValueError('again')\n"
            "def scheduled(event, env):\n    print(event.cron)\n",
        )
        event = {"topic": "orders", "payload": {"n": 1}, "attempt": 1}
        assert (await function.event("consume", event)).id == "functions.exception"
        assert (await function.event("consume", {**event, "attempt": 2})).json is None
        assert (await function.event("scheduled", {"cron": "* * * * *"})).json is None
        texts = [line.text for line in await function.logs(4)]
        assert texts[0] == "orders 1 1 -"
        assert texts[1].endswith("ValueError: again")
        assert texts[2:] == ["orders 1 2 -", "* * * * *"]
        assert (await function.get()).id == "functions.handler"


async def test_it_counts(worker: Worker) -> None:
    async with worker:
        worker.sites["http://a/"] = Answer(status=200)
        function = await body(
            worker,
            "if request.path == 'bad':\n    raise ValueError\n"
            "fetch('http://a/')\nsum([at for at in range(20000)])\nreturn 'four'",
        )
        for path in ("", "", "bad"):
            await function.get(path)
        counts = await function.counts(3)
        assert (counts.requests, counts.errors, counts.fetches) == (3, 1, 2)
        assert (counts.response_bytes, counts.cold_starts) == (8, 1)
        assert 0 < counts.cpu_ns < counts.execution_ns
        assert counts.byte_ms > 0
