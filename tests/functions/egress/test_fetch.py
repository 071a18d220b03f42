"""Sub-requests: real servers on loopback, names by a resolver of the test's own."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.functions.egress.fetch import MAX_REDIRECTS, Fetcher, Leave
from microcosmos.functions.egress.hosts import Hosts, Origin
from microcosmos.functions.egress.outgoing import MAX_URL, Outgoing

from ..web import Answer, Seen, Web, Web2, said, web


class Names:
    """A resolver that knows what the test has told it."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self.addresses = dict(addresses)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.addresses:
            raise OSError(-2, "Name or service not known")
        return [*self.addresses[host]]


class Got:
    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes, url: str) -> None:
        self.status = status
        self.headers = dict(headers)
        self.body = body
        self.url = url


async def get(fetcher: Fetcher, url: str, *hosts: str, **about: object) -> Got:
    request = Outgoing(url, **about)  # type: ignore[arg-type]
    async with fetcher.fetch(request, Leave(Hosts(hosts))) as answer:
        body = b"".join([part async for part in answer.body])
        return Got(answer.status, answer.headers, body, answer.url)


@pytest.mark.parametrize(
    ("named", "host", "port", "allowed"),
    [
        ([], "anywhere.org", 99, True),
        (["example.org"], "example.org", 8080, True),
        (["example.org"], "example.org.", 80, True),
        (["example.org"], "www.example.org", 80, False),
        (["*.example.org"], "www.example.org", 80, True),
        (["*.example.org"], "a.b.example.org", 80, True),
        (["*.example.org"], "example.org", 80, False),
        (["*.example.org"], "badexample.org", 80, False),
        (["*.example.org:81"], "www.example.org", 80, False),
        (["Example.ORG:81"], "example.org", 81, True),
        (["example.org:81"], "example.org", 82, False),
        (["[::1]:81"], "::1", 81, True),
        (["::1"], "::1", 80, True),
    ],
)
def test_hosts_that_a_function_may_fetch_from(
    named: list[str], host: str, port: int, allowed: bool
) -> None:
    assert Hosts(named).allow(Origin("http", host, port)) is allowed


def test_who_names_a_host_without_a_port_allows_no_other_port_of_a_private_one() -> None:
    hosts = Hosts(["inner.test", "127.0.0.1:8000", "*.inner.test"])
    assert hosts.name(Origin("http", "inner.test", 80))
    assert hosts.name(Origin("https", "inner.test", 443))
    assert not hosts.name(Origin("http", "inner.test", 4222))
    assert hosts.name(Origin("http", "127.0.0.1", 8000))
    assert not hosts.name(Origin("http", "127.0.0.1", 8001))
    assert not hosts.name(Origin("http", "a.inner.test", 80))


async def test_a_get_with_its_headers() -> None:
    async with web(said(b"hello", x_one="1")) as server, Fetcher() as fetcher:
        headers = [("X-Two", "2"), ("Host", "evil"), ("Connection", "close"), ("Cookie", "a=b")]
        got = await get(fetcher, f"{server.url}/a b?c=ü", server.host, headers=headers)
        assert (got.status, got.body, got.headers["x-one"]) == (200, b"hello", "1")
        (seen,) = server.seen
        assert (seen.method, seen.target) == ("GET", "/a%20b?c=%C3%BC")
        assert seen.headers["x-two"] == "2"
        assert seen.headers["cookie"] == "a=b"
        assert seen.headers["host"] == server.host
        assert "connection" not in seen.headers


async def test_connections_are_used_again() -> None:
    async with web(said(b"ok")) as server, Fetcher() as fetcher:
        for _ in range(3):
            await get(fetcher, server.url, server.host)
        assert server.connections == 1


async def test_a_server_that_has_closed_a_kept_connection() -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await said(b"ok")(seen, writer)
        if seen.target == "/last":
            writer.close()

    async with web(answer) as server, Fetcher() as fetcher:
        await get(fetcher, f"{server.url}/last", server.host)
        await server.closed.wait()
        assert (await get(fetcher, server.url, server.host)).body == b"ok"


async def test_a_connection_that_is_closed_just_now_is_tried_again_if_that_does_no_harm() -> None:
    on: list[asyncio.StreamWriter] = []

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if writer in on:
            writer.close()
        else:
            on.append(writer)
            await said(b"ok")(seen, writer)

    async with web(answer) as server, Fetcher() as fetcher:
        for _ in range(2):
            assert (await get(fetcher, server.url, server.host)).body == b"ok"
        with pytest.raises(errors.BadGateway, match="the connection failed"):
            await get(fetcher, server.url, server.host, method="POST", body=b"once")
        assert [seen.method for seen in server.seen] == ["GET", "GET", "GET", "POST"]


async def test_a_post_with_a_whole_body_and_with_one_that_is_streamed() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with web(said(b"ok")) as server, Fetcher() as fetcher:
        await get(fetcher, server.url, server.host, method="POST", body=b"whole")
        await get(fetcher, server.url, server.host, method="POST", body=parts())
        assert [seen.body for seen in server.seen] == [b"whole", b"onetwo"]


async def test_an_answer_comes_as_it_is_sent() -> None:
    go_on = asyncio.Event()

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with web(answer) as server, Fetcher() as fetcher:
        request = Outgoing(server.url)
        async with fetcher.fetch(request, Leave(Hosts([server.host]))) as answered:
            assert await anext(answered.body) == b"one"
            go_on.set()
            assert await anext(answered.body) == b"two"


async def test_who_gives_a_request_up_closes_its_connection() -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")

    async with web(answer) as server, Fetcher() as fetcher:
        async with fetcher.fetch(Outgoing(server.url), Leave(Hosts([server.host]))):
            pass
        await server.closed.wait()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(b"hello " * 1000)),
        ("gzip", gzip.compress(b"hello " * 500) + gzip.compress(b"hello " * 500)),
        ("deflate", zlib.compress(b"hello " * 1000)),
        ("deflate", zlib.compress(b"hello " * 1000)[2:-4]),
    ],
    ids=["gzip", "members", "zlib", "raw"],
)
async def test_what_was_compressed_is_not_any_more(coding: str, data: bytes) -> None:
    async with web(said(data, content_encoding=coding)) as server, Fetcher() as fetcher:
        got = await get(fetcher, server.url, server.host)
        assert got.body == b"hello " * 1000
        assert not {"content-encoding", "content-length"} & got.headers.keys()


async def test_what_is_only_said_to_be_compressed() -> None:
    async with web(said(b"plain", content_encoding="gzip")) as server, Fetcher() as fetcher:
        with pytest.raises(errors.BadGateway, match="says that its answer is gzip"):
            await get(fetcher, server.url, server.host)


async def test_a_head_has_no_body_and_keeps_its_headers() -> None:
    async with web(said(b"12345", content_encoding="gzip")) as server, Fetcher() as fetcher:
        got = await get(fetcher, server.url, server.host, method="HEAD")
        assert (got.body, got.headers["content-length"]) == (b"", "5")


def redirecting(server: list[Web], status: str = "302 Found", path: str = "/there") -> Answer:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.target == path:
            await said(b"arrived")(seen, writer)
        else:
            where = f"{server[0].url}{path}" if server else path
            await said(b"", status, location=where)(seen, writer)

    return answer


async def test_a_redirect_is_followed() -> None:
    async with web(redirecting([])) as server, Fetcher() as fetcher:
        got = await get(fetcher, server.url, server.host)
        assert (got.body, got.url) == (b"arrived", f"{server.url}/there")
        assert server.connections == 1


async def test_a_redirect_is_not_followed_if_it_is_not_to_be() -> None:
    async with web(redirecting([])) as server, Fetcher() as fetcher:
        got = await get(fetcher, server.url, server.host, redirect="manual")
        assert (got.status, got.headers["location"]) == (302, "/there")
        with pytest.raises(errors.BadGateway, match="redirects, and"):
            await get(fetcher, server.url, server.host, redirect="error")


async def test_a_post_becomes_a_get_or_not_by_the_kind_of_redirect() -> None:
    for status, method, body in (
        ("302 Found", "GET", b""),
        ("303 See Other", "GET", b""),
        ("307 Temporary Redirect", "POST", b"data"),
        ("308 Permanent Redirect", "POST", b"data"),
    ):
        async with web(redirecting([], status)) as server, Fetcher() as fetcher:
            headers = [("content-type", "text/x")]
            about = {"method": "POST", "body": b"data", "headers": headers}
            await get(fetcher, server.url, server.host, **about)
            assert (server.seen[1].method, server.seen[1].body) == (method, body)
            assert ("content-type" in server.seen[1].headers) is (method == "POST")


async def test_what_proves_somebody_does_not_go_to_another_origin() -> None:
    async with (
        web(said(b"arrived")) as other,
        web(redirecting([other], path="/x")) as server,
        Fetcher() as fetcher,
    ):
        headers = [("Authorization", "Bearer me"), ("Cookie", "a=b"), ("X-Kept", "1")]
        await get(fetcher, server.url, server.host, other.host, headers=headers)
        assert server.seen[0].headers["authorization"] == "Bearer me"
        assert not {"authorization", "cookie"} & other.seen[0].headers.keys()
        assert other.seen[0].headers["x-kept"] == "1"


async def test_redirects_without_end() -> None:
    async with web(said(b"", "302 Found", location="/again")) as server, Fetcher() as fetcher:
        with pytest.raises(errors.BadGateway, match="more than 20 redirects"):
            await get(fetcher, server.url, server.host)
        assert len(server.seen) == MAX_REDIRECTS + 1


async def test_a_redirect_to_a_private_address_is_refused() -> None:
    async with (
        web(said(b"secret")) as inner,
        web(redirecting([inner], path="/x")) as server,
        Fetcher() as fetcher,
    ):
        with pytest.raises(errors.Forbidden, match=f"is not among the hosts.*{inner.host}"):
            await get(fetcher, server.url, server.host)
        assert not inner.seen


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "127.1"),
        *("2130706433", "0x7f000001", "0177.0.0.1", "169.254.169.254", "10.0.0.1"),
        *("[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "①②⑦.0.0.1"),
    ],
)
async def test_a_private_address_is_refused_however_it_is_written(host: str) -> None:
    async with web(said(b"secret")) as server, Fetcher() as fetcher:
        with pytest.raises((errors.Forbidden, errors.BadRequest, errors.BadGateway)) as caught:
            await get(fetcher, f"http://{host}:{server.port}/")
        if host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001"):
            assert isinstance(caught.value, errors.Forbidden)
            assert "--allow-host" in caught.value.detail
        assert not server.connections


async def test_a_name_that_leads_to_one_private_address_among_public_ones_is_refused() -> None:
    names = Names(**{"mixed.test": ["8.8.8.8", "127.0.0.1"]})
    async with Fetcher(names) as fetcher:
        with pytest.raises(errors.Forbidden, match=r"mixed.test \(127.0.0.1\) is no public"):
            await get(fetcher, "http://mixed.test/")


async def test_a_name_that_comes_to_lead_elsewhere_is_looked_at_again() -> None:
    def public(address: str) -> bool:
        return address == "127.0.0.1"

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await said(b"ok", connection="close")(seen, writer)
        writer.close()

    names = Names(**{"rebinding.test": ["127.0.0.1"]})
    async with web(answer) as server, Fetcher(names, public=public) as fetcher:
        url = f"http://rebinding.test:{server.port}/"
        assert (await get(fetcher, url)).body == b"ok"
        assert server.seen[0].headers["host"] == f"rebinding.test:{server.port}"
        names.addresses["rebinding.test"] = ["127.0.0.2"]
        with pytest.raises(errors.Forbidden):
            await get(fetcher, url)


async def test_a_connection_of_who_may_is_not_lent_to_who_may_not() -> None:
    async with web(said(b"secret")) as server, Fetcher() as fetcher:
        assert (await get(fetcher, server.url, server.host)).body == b"secret"
        with pytest.raises(errors.Forbidden):
            await get(fetcher, server.url)


async def test_a_host_that_is_not_among_those_named() -> None:
    async with Fetcher(Names()) as fetcher:
        with pytest.raises(errors.Forbidden, match=r"other\.org is not among"):
            await get(fetcher, "https://other.org/", "example.org")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org/", "file:///etc/passwd", "data:,hello", "/relative", "", "http://"),
        *("http://user:secret@example.org/", "http://exa mple.org/", "http://a:99999/", "http://["),
        "http://example.org/" + "x" * MAX_URL,
    ],
)
async def test_what_is_no_url(url: str) -> None:
    async with Fetcher(Names()) as fetcher:
        with pytest.raises(errors.BadRequest) as caught:
            await get(fetcher, url)
        assert "secret" not in caught.value.detail
        assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    "about",
    [
        {"method": "CONNECT"},
        {"method": "GET \r\nX: y"},
        {"body": b"x"},
        {"headers": [("a b", "c")]},
        {"headers": [("a", "b\r\nc: d")]},
        {"headers": [("a", "x" * 100_000)]},
        {"redirect": "sometimes"},
    ],
)
async def test_what_cannot_be_sent(about: dict[str, object]) -> None:
    async with web(said(b"")) as server, Fetcher() as fetcher:
        with pytest.raises(errors.BadRequest):
            await get(fetcher, server.url, server.host, **about)
        assert not server.connections


async def test_a_name_that_nobody_knows_and_a_port_where_nobody_listens() -> None:
    async with Fetcher(Names()) as fetcher:
        with pytest.raises(errors.BadGateway, match=r"nowhere\.test cannot be found: Name or"):
            await get(fetcher, "http://nowhere.test/")
        async with web(said(b"")) as server:
            pass
        with pytest.raises(errors.BadGateway, match="cannot connect"):
            await get(fetcher, server.url, server.host)


async def test_a_server_that_does_not_speak_http() -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    async with web(answer) as server, Fetcher() as fetcher:
        with pytest.raises(errors.BadGateway, match="the connection failed"):
            await get(fetcher, server.url, server.host)


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(said(b"proxy")) as proxy, web(said(b"ok")) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with Fetcher() as fetcher:
            assert (await get(fetcher, server.url, server.host)).body == b"ok"
        assert not proxy.connections


def contexts(mint: Any, *protocols: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server for 127.0.0.1 and localhost, and of who trusts it."""
    certificate, key = mint.make()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    server.set_alpn_protocols([*protocols])
    return server, ssl.create_default_context(cafile=certificate)


async def test_tls_is_verified_by_the_name_that_was_asked_for(mint: Any) -> None:
    tls, trusting = contexts(mint, "http/1.1")
    names = Names(**{"localhost": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
    async with web(said(b"ok"), tls) as server, Fetcher(names, trusting) as fetcher:
        named = [f"localhost:{server.port}", f"other.test:{server.port}"]
        got = await get(fetcher, f"https://localhost:{server.port}/", *named)
        assert got.body == b"ok"
        with pytest.raises(errors.BadGateway, match="certificate"):
            await get(fetcher, f"https://other.test:{server.port}/", *named)
    async with web(said(b"ok"), tls) as server, Fetcher(names) as fetcher:
        with pytest.raises(errors.BadGateway, match="certificate"):
            await get(fetcher, f"https://localhost:{server.port}/", f"localhost:{server.port}")


async def test_http2_carries_many_requests_on_one_connection(mint: Any) -> None:
    class Counted(Web2):
        connections = 0

    tls, trusting = contexts(mint, "h2")
    server = await asyncio.get_running_loop().create_server(Counted, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    host = f"localhost:{port}"
    async with Fetcher(Names(localhost=["127.0.0.1"]), trusting) as fetcher:
        asked = [get(fetcher, f"https://{host}/{number}", host) for number in range(50)]
        answers = await asyncio.gather(*asked)
    assert [got.body for got in answers] == [b"/%d" % number for number in range(50)]
    assert {got.headers["x-host"] for got in answers} == {host}
    assert Counted.connections == 1
    server.close()


async def test_hundreds_at_once() -> None:
    waiting = 0
    all_there = asyncio.Event()

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 400:
            all_there.set()
        await all_there.wait()
        await said(b"ok")(seen, writer)

    async with web(answer) as server, Fetcher() as fetcher:
        asked = [get(fetcher, server.url, server.host) for _ in range(400)]
        answers = await asyncio.gather(*asked)
    assert {got.body for got in answers} == {b"ok"}
