"""Paths lead to endpoints as in Micro."""

from __future__ import annotations

from typing import Any

import pytest

from microcosmos import Service


def service(name: str, *endpoints: str) -> Service:
    """A service whose endpoints answer with their own names."""
    made = Service(name)
    for endpoint in endpoints:

        async def answer(endpoint: str = f"{name} {endpoint}") -> str:
            return endpoint

        made.endpoint(name=endpoint)(answer)
    return made


def everything() -> list[Service]:
    return [
        service("helloworld", "Call", "ListAll", "Other.Thing"),
        service("v1.foo", "Bar", "Call"),
        service("v1", "Foo"),
        service("a.b", "C.D"),
        service("my-service", "Call", "GetIt"),
        service("shop_2", "Call"),
    ]


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/helloworld", "helloworld Call"),
        ("/helloworld/call", "helloworld Call"),
        ("/helloworld/Call", "helloworld Call"),
        ("/helloworld/listAll", "helloworld ListAll"),
        ("/helloworld/list-all", "helloworld ListAll"),
        ("/helloworld/list_all", "helloworld ListAll"),
        ("/helloworld/Other.Thing", "helloworld Other.Thing"),
        ("/helloworld/other/thing", "helloworld Other.Thing"),
        ("/v1/foo/bar", "v1.foo Bar"),
        ("/v1.foo/bar", "v1.foo Bar"),
        ("/v1.foo", "v1.foo Call"),
        ("/v1/foo", "v1 Foo"),
        ("/a/b/c/d", "a.b C.D"),
        ("/a.b/c/d", "a.b C.D"),
        ("/my-service", "my-service Call"),
        ("/my-service/get-it", "my-service GetIt"),
        ("/shop_2", "shop_2 Call"),
        ("/helloworld/", "helloworld Call"),
        ("/helloworld/call/", "helloworld Call"),
        ("//helloworld//call", "helloworld Call"),
        ("/helloworld%2Fcall", "helloworld Call"),
        ("/%68elloworld/c%61ll", "helloworld Call"),
        ("http://elsewhere/helloworld/call", "helloworld Call"),
    ],
)
async def test_a_path_leads_to_its_endpoint(site: Any, path: str, endpoint: str) -> None:
    await site.bench.start(*everything())
    answer = await site.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    assert (answer.status, answer.body.decode()) == (200, f'"{endpoint}"')


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/Helloworld/call", 404),
        ("/helloworld/CALL", 404),
        ("/helloworld/nothing", 404),
        ("/nothing", 404),
        ("/helloworld/..", 404),
        ("/../helloworld", 404),
        ("/helloworld/../helloworld", 404),
        ("/helloworld/%2e%2e/etc", 404),
        ("/helloworld/./call", 404),
        ("/helloworld%00/call", 404),
        ("/helloworld/*", 404),
        ("/%3E/call", 404),
        ("/hello%20world", 404),
        ("/helloworld%0d%0aX-Evil:%201", 404),
        ("/" + "a" * 101, 404),
        ("/" * 50_000 + "helloworld", 404),
        ("/helloworld/" + "a" * 50_000, 404),
        ("/a/b/c/d/e/f/g/h", 404),
        ("/h%C3%A9llo", 404),
        ("/helloworld%ff/call", 400),
        ("/%c3%28", 400),
        ("/%ff", 400),
    ],
)
async def test_a_path_that_leads_nowhere_is_a_clear_error(
    site: Any, path: str, status: int
) -> None:
    await site.bench.start(*everything())
    answer = await site.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    assert answer.status == status
    assert b'"Code":%d' % status in answer.body
    assert len(answer.body) < 500


async def test_bytes_that_are_no_path_are_refused(site: Any) -> None:
    answer = await site.send(b"GET /hello\xff HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status == 400


async def test_a_service_cannot_take_the_gateways_own_paths(site: Any) -> None:
    await site.bench.start(service("healthz", "Call"), service("favicon.ico", "Call"))
    assert (await site.http.get("/healthz")).json() == {"status": "ok"}
    assert (await site.http.get("/favicon.ico")).status_code == 204
    assert (await site.http.get("/healthz/call")).json() == "healthz Call"
