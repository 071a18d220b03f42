"""What a client calls its request is said again on the answer, whoever answers it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from microcosmos.gateway.request_id import LONGEST, RequestIds
from microcosmos.testing import Bench

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.mark.parametrize("path", ["/", "/nosuch", "/healthz", "/favicon.ico"])
async def test_an_id_is_said_again(platform: Bench, open_site: OpenSite, path: str) -> None:
    async with open_site(platform, wrap=RequestIds) as site:
        answer = await site.http.get(path, headers={"X-Request-Id": "7f:a/b-c"})
        assert answer.headers["x-request-id"] == "7f:a/b-c"
        answer = await site.http.get(path)
        assert "x-request-id" not in answer.headers


@pytest.mark.parametrize("bad", ["", "a b", "a\tb", "x" * (LONGEST + 1), "\u00fc"])
async def test_what_is_no_id_is_not_said_again(
    platform: Bench, open_site: OpenSite, bad: str
) -> None:
    async with open_site(platform, wrap=RequestIds) as site:
        answer = await site.http.get("/", headers={b"X-Request-Id": bad.encode()})
        assert answer.status_code == 200
        assert "x-request-id" not in answer.headers


async def test_browsers_may_read_it(platform: Bench, open_site: OpenSite) -> None:
    async with open_site(platform, wrap=RequestIds) as site:
        sent = {"X-Request-Id": "a", "Origin": "http://x"}
        exposed = (await site.http.get("/", headers=sent)).headers["access-control-expose-headers"]
        assert {"X-Request-Id", "Micro-Trace"} <= set(exposed.split(", "))


async def test_a_body_is_read_through_it(platform: Bench, open_site: OpenSite, slow: Any) -> None:
    slow.let.set()
    await platform.start(slow.service)

    async def parts() -> Any:
        yield b"{"
        yield b"}"

    async with open_site(platform, wrap=RequestIds) as site:
        for content in (b"{}", parts()):
            answer = await site.http.post("/slow", content=content, headers={"X-Request-Id": "a"})
            assert (answer.json(), answer.headers["x-request-id"]) == ("done", "a")
