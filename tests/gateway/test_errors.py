"""Whatever goes wrong is one JSON body under its own status."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from microcosmos import Service, errors

RAISED: dict[str, Exception] = {}


def failing() -> Service:
    made = Service("failing")

    @made.endpoint(retry=False)
    async def call(what: str) -> None:
        raise RAISED[what]

    return made


def check(answer: Any, code: int, status: str) -> str:
    """What an error's answer has in common; gives its detail."""
    assert answer.status_code == code
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.headers["micro-trace"]) == 32
    body = answer.json()
    assert list(body) == ["Id", "Code", "Detail", "Status"]
    assert (body["Code"], body["Status"]) == (code, status)
    return str(body["Detail"])


@pytest.mark.parametrize("kind", [*errors._BY_CODE.values(), errors.ConnectionLost])
async def test_an_error_keeps_its_code(site: Any, kind: type[errors.Error]) -> None:
    await site.bench.start(failing())
    RAISED[kind.__name__] = kind("failing.Call.Reason", "the reason")
    answer = await site.http.get("/failing", params={"what": kind.__name__})
    assert check(answer, kind.code, kind.status) == "the reason"
    assert answer.json()["Id"] == "failing.Call.Reason"
    assert ("retry-after" in answer.headers) == (kind.code in (429, 503))
    assert ("www-authenticate" in answer.headers) == (kind.code == 401)


@pytest.mark.parametrize(("code", "sent"), [(418, 418), (599, 599), (200, 500), (99, 500)])
async def test_a_made_up_code_is_one_of_errors(site: Any, code: int, sent: int) -> None:
    await site.bench.start(failing())
    RAISED["code"] = errors.Error("x", "y", code=code)
    answer = await site.http.get("/failing?what=code")
    assert (answer.status_code, answer.json()["Code"]) == (sent, sent)


async def test_the_reference_prints_an_error_like_this(site: Any) -> None:
    await site.bench.start(failing())
    RAISED["auth"] = errors.Unauthorized(
        "helloworld", "Unauthorized call made to helloworld:Helloworld.Call"
    )
    answer = await site.http.get("/failing?what=auth")
    assert answer.text == (
        '{"Id":"helloworld","Code":401,'
        '"Detail":"Unauthorized call made to helloworld:Helloworld.Call","Status":"Unauthorized"}'
    )


async def test_an_exception_tells_nothing_private(
    site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await site.bench.start(failing())
    RAISED["secret"] = RuntimeError("the password is hunter2")
    answer = await site.http.get("/failing?what=secret")
    detail = check(answer, 500, "Internal Server Error")
    assert "hunter2" not in answer.text + str(answer.headers)
    assert "Traceback" not in detail
    assert "hunter2" in caplog.text


async def test_a_detail_never_becomes_a_header(site: Any) -> None:
    await site.bench.start(failing())
    evil = "x\r\nSet-Cookie: a=b\r\n\r\n<html>"
    RAISED["evil"] = errors.BadRequest(evil, evil)
    answer = await site.send(b"GET /failing?what=evil HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status == 400
    assert set(answer.headers) == {
        "server",
        "content-type",
        "micro-trace",
        "content-length",
        "date",
    }
    assert b"\r\n" not in answer.body


async def test_an_unknown_service_is_not_found(site: Any) -> None:
    detail = check(await site.http.get("/nobody/call"), 404, "Not Found")
    assert detail == "service nobody not found; /registry/listServices lists them"


async def test_an_unknown_endpoint_is_not_found_and_told_what_there_is(site: Any) -> None:
    made = failing()
    made.endpoint(name="Other.Do")(lambda: None)
    await site.bench.start(made)
    detail = check(await site.http.post("/failing/go", json={}), 404, "Not Found")
    assert detail == "service failing has no Failing.Go; it has: /failing/call, /failing/other/do"


async def test_a_service_that_is_not_alive_is_unavailable(site: Any) -> None:
    async with failing().on(site.bench.platform):
        assert (await site.http.get("/failing?what=secret")).status_code == 500
        (service,) = await site.bench.registry.get_service("failing")
        await site.bench.registry.lose(service)
    answer = await site.http.get("/failing")
    assert "no replica of failing is alive" in check(answer, 503, "Service Unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get"])
async def test_a_method_without_a_meaning_is_refused(site: Any, method: str) -> None:
    await site.bench.start(failing())
    path = "failing:80" if method == "CONNECT" else "/failing"
    answer = await site.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    if method == "CONNECT":
        assert answer.status == 404  # its path is empty
        return
    assert answer.status == 405
    assert "GET, HEAD, POST" in answer.headers["allow"]
    assert b'"Code":405' in answer.body


async def test_a_late_service_is_a_504_and_its_handler_is_cancelled(site: Any, slow: Any) -> None:
    await site.bench.start(slow.service)
    answer = await site.http.get("/slow", headers={"micro-timeout": "500ms"})
    assert "did not answer within 0.5 s" in check(answer, 504, "Gateway Timeout")
    await asyncio.wait_for(slow.cancelled.wait(), 60)
    assert slow.deadline is not None
    assert slow.deadline <= 0.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20", 20), ("9500ms", 9.5), ("25s", 25), ("15.5s", 15.5), ("2m", 120), ("9" * 400, 300)],
)
async def test_a_request_says_how_long_it_waits(
    site: Any, slow: Any, text: str, seconds: float
) -> None:
    slow.let.set()
    await site.bench.start(slow.service)
    assert (await site.http.get("/slow", headers={"micro-timeout": text})).status_code == 200
    assert slow.deadline is not None
    assert seconds - 5 < slow.deadline <= seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "0ms", "1h", "1e3", "nan", "5 s", "٣"])
async def test_a_timeout_that_is_none_is_bad_input(site: Any, slow: Any, text: str) -> None:
    slow.let.set()
    await site.bench.start(slow.service)
    answer = await site.http.get("/slow", headers={"micro-timeout": text.encode()})
    if not text.isascii():
        # Granian shows only ASCII values of headers.
        assert answer.status_code == 200
        return
    assert "is no duration like 5s" in check(answer, 400, "Bad Request")


async def test_more_calls_than_a_service_handles_are_too_many(site: Any, slow: Any) -> None:
    await site.bench.start(slow.service)
    first = asyncio.create_task(site.http.get("/slow"))
    await asyncio.wait_for(slow.entered.wait(), 60)
    answer = await site.http.get("/slow")
    assert "slow handles 1 calls already" in check(answer, 429, "Too Many Requests")
    assert answer.headers["retry-after"] == "1"
    slow.let.set()
    assert (await first).json() == "done"
