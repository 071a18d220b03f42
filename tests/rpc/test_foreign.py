"""Calls to services that were written with another package: plain nats-py here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import nats
import pytest
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

from microcosmos.base import errors
from microcosmos.registry import Endpoint, Node, Result, Service, Table
from microcosmos.rpc import Client
from microcosmos.rpc import nats as by_nats

Handler = Callable[[Request], Awaitable[None]]


async def _throws(_: Request) -> None:
    raise ValueError("out of cheese")


async def _silent(_: Request) -> None:
    await asyncio.sleep(0)


def _says(body: bytes) -> Handler:
    return lambda request: request.respond(body)


def _fails(code: str, text: str, body: bytes = b"") -> Handler:
    return lambda request: request.respond_error(code, text, body)


HANDLERS: dict[str, Handler] = {
    "echo": lambda request: request.respond(request.data),
    "empty": _says(b""),
    "text": _says(b"plain text, which goes on for longer than what an error would like to quote"),
    "bytes": _says(b'"\xff\xfe"'),
    "number": _says(b"42"),
    "throws": _throws,
    "silent": _silent,
    "conflict": _fails("409", "taken"),
    "odd": _fails("7", "a code of its own"),
    "word": _fails("ENOENT", "no such file"),
    "data": _fails("400", "bad", b'{"field": "name"}'),
    "ours": _fails("404", "x", b'{"id":"users.Read","code":404,"detail":"no such user"}'),
}


@contextlib.asynccontextmanager
async def _client(url: str) -> AsyncIterator[Client]:
    nc = await nats.connect(url)
    service = await add_service(nc, ServiceConfig(name="foreign", version="1.0.0"))
    group = service.add_group(name="foreign")
    endpoints = []
    for name, handler in HANDLERS.items():
        await group.add_endpoint(name=name, handler=handler)
        about = {"micro.subject": f"foreign.{name}", "retry": "false"}
        endpoints.append(Endpoint(name=f"Foreign.{name.capitalize()}", metadata=about))
    # What it has subscribed to is only on its way yet.
    await by_nats.settle(nc)
    table = Table()
    record = Service(name="foreign", endpoints=endpoints, nodes=[Node(id="n")])
    table.apply(Result(action="create", service=record, timestamp=0))
    async with by_nats.connect(url) as own:
        transport = by_nats.NatsTransport(own, table)
        yield Client([transport], table)
        await transport.close()
    await nc.close()


async def test_answers_arrive_as_json(nats_url: str) -> None:
    async with _client(nats_url) as client:
        assert await client.call("foreign", "Foreign.Echo", b"[3,1]") == b"[3,1]"
        assert await client.call("foreign", "Foreign.Empty") == b"{}"
        assert await client.call("foreign", "Foreign.Number") == b"42"


@pytest.mark.parametrize("name", ["Text", "Bytes"])
async def test_an_answer_that_is_no_json_is_a_502(nats_url: str, name: str) -> None:
    async with _client(nats_url) as client:
        with pytest.raises(errors.BadGateway, match="answered what is no JSON") as caught:
            await client.call("foreign", f"Foreign.{name}")
        assert len(caught.value.detail) < 150


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Throws", ("foreign", 500, "ValueError('out of cheese')")),
        ("Conflict", ("foreign", 409, "taken")),
        ("Odd", ("foreign", 500, "a code of its own")),
        ("Word", ("foreign", 500, "no such file")),
        ("Data", ("foreign", 400, "bad")),
        ("Ours", ("users.Read", 404, "no such user")),
    ],
)
async def test_errors_by_headers_are_ours(
    nats_url: str, name: str, expected: tuple[str, int, str]
) -> None:
    async with _client(nats_url) as client:
        with pytest.raises(errors.Error) as caught:
            await client.call("foreign", f"Foreign.{name}")
        error = caught.value
        assert (error.id, error.code, error.detail) == expected


async def test_one_that_never_answers_is_late(nats_url: str) -> None:
    async with _client(nats_url) as client:
        with pytest.raises(errors.DeadlineExceeded):
            await client.call("foreign", "Foreign.Silent", timeout=0.1)
