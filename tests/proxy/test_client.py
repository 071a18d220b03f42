"""The blocking client of the command line."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.context import Context
from microcosmos.proxy import client


async def call(context: Context, name: str = "World") -> dict[str, Any]:
    if name == "nobody":
        raise errors.Forbidden("helloworld.Call.Nobody", "not you")
    return {"msg": f"Hello {name}", "foobar": context.metadata.get("Foobar")}


async def sleep() -> None:
    await asyncio.Event().wait()


def test_the_client_calls_by_json(proxy, service):
    async def story() -> bytes:
        async with proxy(service("helloworld", call)) as door:
            arguments = ("helloworld", "Helloworld.Call", b'{"name":"you"}', {"Foobar": "x"}, 5.0)
            return await asyncio.to_thread(client.call, door.address, *arguments)

    assert asyncio.run(story()) == b'{"msg":"Hello you","foobar":"x"}'


@pytest.mark.parametrize(
    ("service_name", "endpoint", "body", "kind", "detail"),
    [
        ("helloworld", "Helloworld.Call", b'{"name":"nobody"}', errors.Forbidden, "not you"),
        ("helloworld", "Helloworld.Call", b'{"name":1}', errors.BadRequest, "$.name"),
        ("helloworld", "Helloworld.Bye", b"", errors.NotFound, "it has: Helloworld.Call"),
        ("nobody", "Nobody.Call", b"{}", errors.NotFound, "service nobody not found"),
        ("helloworld", "Helloworld.Sleep", b"{}", errors.DeadlineExceeded, "did not answer"),
        ("helloworld", "Helloworld.Call", b"x" * 9 * 2**20, errors.TooLarge, "message"),
    ],
)
async def test_errors_come_back_as_their_classes(
    proxy, service, service_name, endpoint, body, kind, detail
):
    timeout = 0.2 if kind is errors.DeadlineExceeded else 30
    async with proxy(service("helloworld", call, sleep)) as door:
        with pytest.raises(kind) as caught:
            await asyncio.to_thread(
                client.call, door.address, service_name, endpoint, body, None, timeout
            )
    assert type(caught.value) is kind
    assert detail in caught.value.detail


@pytest.mark.parametrize(
    "metadata",
    [{"Foobar": "two\nlines"}, {"a": "nul\x00"}, {"a": "ünï"}, {"a b": "c"}, {"x-bin": "y"}],
)
async def test_metadata_that_cannot_travel_is_refused(metadata):
    with pytest.raises(errors.BadRequest, match="metadata"):
        client.call("127.0.0.1:1", "helloworld", "Helloworld.Call", b"{}", metadata)


def call_nobody(address: str) -> errors.Error:
    with pytest.raises(errors.Unavailable) as caught:
        client.call(address, "helloworld", "Helloworld.Call", b"{}", timeout=5)
    assert "\n" not in caught.value.detail
    return caught.value


def test_nobody_at_the_address_is_unavailable_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        detail = call_nobody(address).detail
    assert detail.startswith(f"{address} cannot be reached as a proxy: ")
    assert "refused" in detail


@contextmanager
def speaking(*answers: bytes) -> Iterator[str]:
    """A server that answers with these bytes, whatever it is told, and hangs up."""

    def serve() -> None:
        line, _ = server.accept()
        with line:
            for answer in answers:
                line.recv(1 << 16)
                line.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(60)


def test_a_server_that_is_no_proxy_is_unavailable_in_one_line():
    with speaking(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        detail = call_nobody(address).detail
    assert detail.startswith(f"{address} cannot be reached as a proxy: ")
    assert "http1.x" in detail


def frame_types(data: bytes) -> list[int]:
    """The types of the HTTP/2 frames that have arrived whole, after the preface."""
    types, at = [], len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    while at + 9 <= len(data):
        size, kind = int.from_bytes(data[at : at + 3], "big"), data[at + 3]
        at += 9 + size
        if at <= len(data):
            types.append(kind)
    return types


def test_a_connection_that_breaks_is_lost():
    headers = 1

    def serve() -> None:
        line, _ = server.accept()
        with line:
            # Empty HTTP/2 settings: enough for gRPC to send the call. It tries a call again by
            # itself that no server can have seen, so hang up only once the headers are here.
            line.sendall(b"\0\0\0\4\0\0\0\0\0")
            seen = b""
            while headers not in frame_types(seen) and (more := line.recv(1 << 16)):
                seen += more

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        error = call_nobody(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join(60)
    assert type(error) is errors.ConnectionLost


async def test_tls_against_a_server_without_it_is_unavailable(proxy, service):
    async with proxy(service("helloworld", call)) as door:
        with pytest.raises(errors.Unavailable) as caught:
            await asyncio.to_thread(
                client.call, f"https://{door.address}", "helloworld", "Helloworld.Call", b"{}"
            )
    assert "cannot be reached as a proxy: Tls handshake failed" in caught.value.detail


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("micro.example.com", ("micro.example.com:443", True)),
        ("micro.example.com:443", ("micro.example.com:443", True)),
        ("127.0.0.1:8081", ("127.0.0.1:8081", False)),
        ("https://micro.example.com:8081/", ("micro.example.com:8081", True)),
        ("http://localhost", ("localhost:80", False)),
        ("grpc://localhost:8081", ("localhost:8081", False)),
        ("[::1]:8081", ("[::1]:8081", False)),
        ("::1", ("[::1]:443", True)),
        ("[::1]", ("[::1]:443", True)),
    ],
)
def test_an_address_without_a_port_means_443_with_tls(address, where):
    assert client.target(address) == where
