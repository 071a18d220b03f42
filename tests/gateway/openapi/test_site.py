"""The documents as they are asked for: whole, of one service, kept until something changes."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from microcosmos import Service

CORE = ["broker", "config", "events", "registry", "store"]
"""What a platform in memory has of its own."""


def named(name: str, doc: str = "Do it.") -> Service:
    service = Service(name)

    async def call() -> str:
        return name

    call.__doc__ = doc
    service.endpoint(call)
    return service


async def test_all_that_can_be_called_is_in_the_document(site: Any) -> None:
    await site.bench.start(named("b"), named("a"))
    answer = await site.http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    api = answer.json()
    assert [tag["name"] for tag in api["tags"]] == ["a", "b", *CORE]
    assert {"/a/call", "/b/call", "/registry/listServices"} <= api["paths"].keys()
    assert (await site.http.head("/openapi.json")).status_code == 200


@pytest.mark.parametrize("path", ["/openapi/a.json", "/openapi.json?service=a"])
async def test_one_service_has_its_own(site: Any, path: str) -> None:
    await site.bench.start(named("a"), named("ab"))
    api = (await site.http.get(path)).json()
    assert api["info"]["title"] == "a"
    assert api["paths"].keys() == {"/a/call"}


async def test_a_name_with_a_dot_is_one_name(site: Any) -> None:
    await site.bench.start(named("v1.foo"))
    assert "/v1/foo/call" in (await site.http.get("/openapi/v1.foo.json")).json()["paths"]


@pytest.mark.parametrize("path", ["/openapi/nosuch.json", "/openapi.json?service=nosuch"])
async def test_an_unknown_service_is_not_found(site: Any, path: str) -> None:
    answer = await site.http.get(path)
    assert answer.status_code == answer.json()["Code"] == 404
    assert "nosuch" in answer.json()["Detail"]
    assert len(answer.headers["micro-trace"]) == 32


@pytest.mark.parametrize("path", ["/openapi/a%20b.json", "/openapi.json?service=%2Fetc%2F"])
async def test_what_is_no_name_is_not_found(site: Any, path: str) -> None:
    assert (await site.http.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/openapi", "/openapi.json"])
async def test_it_is_read_and_nothing_else(site: Any, path: str) -> None:
    answer = await site.http.post(path, content=b"{}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/openapi/", "/openapis", "/openapi/a", "/openapi/a.json/b"])
async def test_other_paths_are_not_found(site: Any, path: str) -> None:
    assert (await site.http.get(path)).status_code == 404


async def test_an_unchanged_document_is_not_sent_again(site: Any) -> None:
    await site.bench.start(named("a"))
    etag = (await site.http.get("/openapi.json")).headers["etag"]
    for told in (etag, f'"other", {etag}', "*"):
        again = await site.http.get("/openapi.json", headers={"if-none-match": told})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    await site.bench.start(named("b"))
    changed = await site.http.get("/openapi.json", headers={"if-none-match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


async def test_it_follows_the_registry(site: Any) -> None:
    old = named("a", "Old words.")
    async with old.on(site.bench.platform):
        assert "Old words" in (await site.http.get("/openapi.json")).text
        assert "Old words" in (await site.http.get("/openapi/a.json")).text
    assert "Old words" not in (await site.http.get("/openapi.json")).text
    assert (await site.http.get("/openapi/a.json")).status_code == 404
    await site.bench.start(named("a", "New words."))
    assert "New words" in (await site.http.get("/openapi.json")).text
    assert "New words" in (await site.http.get("/openapi/a.json")).text


async def test_a_service_is_asked_about_once(site: Any) -> None:
    await site.bench.start(named("a"), named("b"))
    asked = site.bench.platform.registry
    calls: list[str] = []
    describe = asked.describe

    async def counted(name: str = "", **options: Any) -> Any:
        calls.append(name)
        return await describe(name, **options)

    asked.describe = counted
    await asyncio.gather(*(site.http.get("/openapi.json") for _ in range(5)))
    assert sorted(calls) == ["a", "b", *CORE]
    await site.bench.start(named("c"))
    await site.http.get("/openapi.json")
    assert calls[2 + len(CORE) :] == ["c"]


async def test_it_is_compressed_for_who_accepts_that(site: Any) -> None:
    line = await site.line()
    head = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n"
    await line.send(head)
    answer = await line.answer()
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == (await site.http.get("/openapi.json")).content


async def test_other_origins_may_read_it(site: Any) -> None:
    answer = await site.http.get("/openapi.json", headers={"origin": "https://a.example"})
    assert answer.headers["access-control-allow-origin"] == "https://a.example"


async def test_calls_go_on_while_it_is_made(site: Any) -> None:
    await site.bench.start(*(named(f"s{number}") for number in range(100)))
    making = asyncio.create_task(site.http.get("/openapi.json"))
    answered = 0
    while not making.done():
        await site.http.get("/s1/call")
        answered += 1
    assert answered > 1
    assert len((await making).json()["tags"]) == 100 + len(CORE)


async def test_nothing_may_be_called_openapi_by_path(site: Any) -> None:
    await site.bench.start(named("openapi"))
    assert "text/html" in (await site.http.get("/openapi")).headers["content-type"]


async def test_the_page_allows_its_own_script_only(site: Any) -> None:
    page = await site.http.get("/openapi")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in page.text
    assert "https://" not in page.text
