"""Headers in and out: metadata, CORS, compression; and the gateway's own answers."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from microcosmos import Context, Service, __version__


def users() -> Service:
    """The reference's service that reads a header, and one that tells all it gets."""
    made = Service("users")

    @made.endpoint
    async def list(context: Context) -> str:
        return context.metadata.get("Foobar", "missing")

    @made.endpoint(name="All")
    async def everything(context: Context) -> dict[str, Any]:
        return {"namespace": context.namespace, "metadata": dict(context.metadata)}

    @made.endpoint
    async def text(size: int) -> str:
        return "ab" * (size // 2)

    return made


@pytest.mark.parametrize("name", ["Foobar", "foobar", "FOOBAR"])
async def test_a_header_is_metadata_as_in_the_reference(site: Any, name: str) -> None:
    await site.bench.start(users())
    assert (await site.http.get("/users/List", headers={name: "value"})).json() == "value"
    assert (await site.http.get("/users/List")).json() == "missing"


async def got(site: Any, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    answer = (await site.http.post("/users/all", headers=headers, json={})).json()
    return answer["namespace"], answer["metadata"]


async def test_namespace_authorization_and_cookies_are_passed_on(site: Any) -> None:
    await site.bench.start(users())
    namespace, metadata = await got(
        site,
        {
            "micro-namespace": "foobar",
            "AUTHORIZATION": "Bearer x",
            "x-request-ID": "7",
            "cookie": "c",
        },
    )
    assert namespace == "foobar"
    assert metadata["Micro-Namespace"] == "foobar"
    assert metadata["Authorization"] == "Bearer x"
    assert metadata["X-Request-Id"] == "7"
    assert metadata["Cookie"] == "c"
    assert (await got(site, {}))[0] == "micro"


async def test_headers_of_the_connection_are_not_passed_on(site: Any) -> None:
    await site.bench.start(users())
    names = "accept-encoding expect keep-alive proxy-authorization proxy-connection te upgrade"
    hop = {"connection": "keep-alive", "micro-timeout": "5s", "timeout": "7"}
    hop.update(dict.fromkeys(names.split(), "x"))
    _, metadata = await got(site, hop)
    assert set(metadata) == {"Host", "Accept", "User-Agent", "Micro-Trace"}


async def test_a_trace_goes_through_and_a_bad_one_is_replaced(site: Any) -> None:
    await site.bench.start(users())
    trace = "0123456789abcdef" * 2
    assert (await got(site, {"micro-trace": trace}))[1]["Micro-Trace"] == trace
    made = [(await got(site, {"micro-trace": bad}))[1]["Micro-Trace"] for bad in ("x", trace + "0")]
    assert all(len(each) == 32 for each in made)
    assert len({trace, *made}) == 3
    answer = await site.http.get("/nobody", headers={"micro-trace": trace})
    assert answer.headers["micro-trace"] == trace


async def test_of_a_header_that_comes_twice_the_last_counts(site: Any) -> None:
    await site.bench.start(users())
    answer = await site.send(
        b"GET /users/list HTTP/1.1\r\nHost: x\r\nFoobar: 1\r\nFOOBAR: 2\r\n\r\n"
    )
    assert answer.body == b'"2"'


@pytest.mark.parametrize(
    "header",
    [b"Foobar: a\x00b", b"Foobar: a\rb", b"Foobar: a\r\n b", b"Foobar : a", b"Foo bar: a", b": a"],
)
async def test_a_header_that_could_become_two_is_refused(site: Any, header: bytes) -> None:
    await site.bench.start(users())
    line = await site.line()
    await line.send(b"GET /users/list HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % header)
    assert (await line.answer()).status == 400
    assert await line.closed()


async def test_names_of_headers_do_not_fill_the_memory(site: Any) -> None:
    await site.bench.start(users())
    long = "x-" + "a" * 200
    assert long.title() not in (await got(site, {long: "1"}))[1]
    for start in range(0, 5000, 90):
        names = {f"x-{number}": "1" for number in range(start, start + 90)}
        assert (await site.http.get("/users/list", headers=names)).status_code == 200
    assert (await got(site, {"x-not-remembered": "1"}))[1]["X-Not-Remembered"] == "1"


async def test_a_page_of_another_origin_may_call(site: Any) -> None:
    await site.bench.start(users())
    page = {"origin": "https://example.com"}
    for path in ("/users/list", "/nobody", "/"):
        answer = await site.http.get(path, headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://example.com"
        assert "Micro-Trace" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in (await site.http.get("/users/list")).headers


@pytest.mark.parametrize("path", ["/users/list", "/nobody/at/all", "/", "/%ff"])
async def test_a_preflight_is_answered(site: Any, path: str) -> None:
    await site.bench.start(users())
    asked = {
        "origin": "https://example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "foobar, content-type",
    }
    answer = await site.http.options(path, headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://example.com"
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"*", "Authorization", "Micro-Namespace"} <= set(allowed)
    assert int(answer.headers["access-control-max-age"]) > 0


async def test_options_of_everything_are_answered(site: Any) -> None:
    answer = await site.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip;q=0.5", True),
        ("gzip ; q=1", True),
        ("*", True),
        ("", False),
        ("br", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("br;q=1, *;q=0", False),
        ("notgzip", False),
    ],
)
async def test_an_answer_is_packed_only_if_that_is_accepted(
    site: Any, accepted: str, packed: bool
) -> None:
    await site.bench.start(users())
    asked = f"GET /users/text?size=5000 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\n\r\n"
    answer = await site.send(asked.encode())
    assert (answer.headers.get("content-encoding") == "gzip") == packed
    assert answer.headers["vary"] == "Accept-Encoding"
    text = gzip.decompress(answer.body) if packed else answer.body
    assert text == b'"' + b"ab" * 2500 + b'"'


async def test_a_short_answer_is_not_packed(site: Any) -> None:
    await site.bench.start(users())
    answer = await site.http.get("/users/text?size=1000", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == "1002"


async def test_a_head_is_a_get_without_the_body(site: Any) -> None:
    await site.bench.start(users())
    answer = await site.http.head("/users/text?size=100")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "102"


async def test_the_gateway_tells_its_version_and_that_it_lives(site: Any) -> None:
    answer = await site.http.get("/")
    assert answer.json() == {"version": __version__}
    assert answer.headers["content-type"] == "application/json"
    assert (await site.http.get("/healthz")).json() == {"status": "ok"}
    icon = await site.http.get("/favicon.ico")
    assert (icon.status_code, icon.content) == (204, b"")


async def test_the_gateway_is_ready_once_the_registry_has_been_read(site: Any) -> None:
    answer = await site.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "starting"})
    site.gateway.ready = True
    answer = await site.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_an_upgrade_to_what_is_no_websocket_is_not_made(site: Any) -> None:
    await site.bench.start(users())
    answer = await site.send(
        b"GET /users/list HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    )
    assert (answer.status, answer.body) == (200, b'"missing"')
