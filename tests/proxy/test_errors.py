"""What goes wrong, as a gRPC client sees it: a status, a line, and the error in the details."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from microcosmos import rpc
from microcosmos.base import errors
from microcosmos.base.schema import Value
from microcosmos.proxy import server, status
from microcosmos.proxy.server import serve_proxy
from microcosmos.registry import Table
from microcosmos.rpc.server import Endpoint, Hosted


def trailer(error: grpc.aio.AioRpcError) -> errors.Error:
    details = dict(error.trailing_metadata())[status.DETAILS]
    return status.from_grpc(error.code(), error.details(), details, "")


CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNKNOWN",
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    413: "RESOURCE_EXHAUSTED",
    418: "UNKNOWN",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNKNOWN",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


async def test_every_error_arrives_with_its_status_and_its_details(proxy, service):
    async def fail(code: int) -> None:
        raise errors.of_code(code, "shop.Fail.Now", "no bread, näh", "I'm a teapot")

    async with proxy(service("shop", fail)) as door:
        for code, name in CODES.items():
            error = await door.fails("/shop.Shop/Fail", b'{"code":%d}' % code)
            assert error.code().name == name
            assert error.details() == "no bread, näh"
            told = trailer(error)
            assert (told.code, told.id) == (code, "shop.Fail.Now")
            assert told.status == errors.of_code(code, "", "", "I'm a teapot").status
            assert type(told) is type(errors.of_code(code, ""))


async def test_the_details_are_a_status_with_an_error_by_their_numbers(proxy, service):
    async def fail() -> None:
        raise errors.Conflict("a.b", "no")

    async with proxy(service("shop", fail)) as door:
        error = await door.fails("/shop.Shop/Fail")
    packed = b"\x0a\x03a.b\x10\x99\x03\x1a\x02no\x22\x08Conflict"
    url = b"type.googleapis.com/errors.Error"
    entry = b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(packed)]) + packed
    expected = b"\x08\x06\x12\x02no\x1a" + bytes([len(entry)]) + entry
    assert dict(error.trailing_metadata())[status.DETAILS] == expected


async def test_a_very_long_detail_does_not_break_the_trailers(proxy, service):
    async def fail() -> None:
        raise errors.BadRequest("shop", "ä" * 100_000)

    async with proxy(service("shop", fail)) as door:
        error = await door.fails("/shop.Shop/Fail")
        assert error.code().name == "INVALID_ARGUMENT"
        assert trailer(error).detail.startswith("äääää")


async def test_what_a_handler_raises_tells_nothing_private(proxy, service, caplog):
    async def fail() -> None:
        raise RuntimeError("password is hunter2")

    with caplog.at_level(logging.CRITICAL):
        async with proxy(service("shop", fail)) as door:
            error = await door.fails("/shop.Shop/Fail", b"")
    assert error.code().name == "INTERNAL"
    assert "hunter2" not in error.details()


@pytest.mark.parametrize("payload", [b"{}", b""])
@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/nobody.Nobody/Call", "service nobody not found; `micro services` lists them"),
        ("/shop.Shop/Bye", "service shop has no endpoint Shop.Bye; it has: Shop.Ok"),
        ("/shop.Other/Ok", "service shop has no endpoint Other.Ok; it has: Shop.Ok"),
        ("/shop/Ok", "'/shop/Ok' names no endpoint; use /<service>.<Handler>/<Method>"),
        ("/shop.Shop", "'/shop.Shop' names no endpoint; use /<service>.<Handler>/<Method>"),
        ("/a.b.C/d/e", "'/a.b.C/d/e' names no endpoint; use /<service>.<Handler>/<Method>"),
    ],
)
async def test_an_unknown_name_is_not_found_in_one_clear_line(proxy, service, path, line, payload):
    async def ok() -> None:
        return None

    async with proxy(service("shop", ok)) as door:
        error = await door.fails(path, payload)
    assert (error.code().name, error.details()) == ("NOT_FOUND", line)
    assert isinstance(trailer(error), errors.NotFound)


async def test_a_known_service_of_which_none_is_alive_is_unavailable(proxy, service):
    async def ok() -> None:
        return None

    async with proxy(service("shop", ok)) as door:
        await door.call("/shop.Shop/Ok", b"")
        gone = (await door.registry.get_service("shop"))[0]
        await door.registry.lose(gone)
        for result in await door.registry.changes(0, timeout=0):
            door.table.apply(result)
        door.network.leave(door.server)
        for payload in (b"{}", b""):
            error = await door.fails("/shop.Shop/Ok", payload)
            assert error.code().name == "UNAVAILABLE"
            assert error.details() == "no replica of shop is alive; try again later"


@pytest.mark.parametrize(
    "payload",
    [b"\xff\xff\xff", b"\x0a\x7fshort", b"\x0a\x02\xc3\x28", b"not protobuf", b"\x00", b"\n" * 7],
)
async def test_malformed_protobuf_is_an_invalid_argument(proxy, service, payload):
    async def greet(name: str) -> None:
        return None

    async with proxy(service("shop", greet)) as door:
        error = await door.fails("/shop.Shop/Greet", payload)
        assert error.code().name == "INVALID_ARGUMENT"
        assert error.details() == "the payload is no message shop.GreetRequest"
        error = await door.fails("/shop.Shop/Greet", b"")
        assert (error.code().name, "missing" in error.details()) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize("payload", [b"{", b'{"name":1}', b'{"x":1}', b'{"name":"\xff"}'])
async def test_malformed_json_is_an_invalid_argument(proxy, service, payload):
    async def greet(name: str) -> None:
        return None

    async with proxy(service("shop", greet)) as door:
        assert (await door.fails("/shop.Shop/Greet", payload)).code().name == "INVALID_ARGUMENT"


@pytest.mark.parametrize("timeout", ["soon", "-1", "1e9", "", "9" * 30, "٣"])
async def test_a_bad_timeout_header_is_an_invalid_argument(proxy, service, timeout):
    async def ok() -> None:
        return None

    async with proxy(service("shop", ok)) as door:
        error = await door.fails(
            "/shop.Shop/Ok", metadata=(("timeout", timeout.encode("ascii", "replace").decode()),)
        )
        assert error.code().name == "INVALID_ARGUMENT"
        assert error.details().startswith("header timeout: ")


async def test_a_call_without_a_message_is_an_invalid_argument(proxy, service):
    async def ok() -> None:
        return None

    async with proxy(service("shop", ok)) as door:
        call = door.channel.stream_unary("/shop.Shop/Ok")(iter(()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code().name == "INVALID_ARGUMENT"


async def test_an_answer_that_does_not_fit_its_shape_is_internal(proxy):
    async def answer(_: bytes) -> bytes:
        return b'{"count":"many"}'

    count = Value(name="count", type="int64")
    shape = Value(name="Count", type="Count", values=[count])
    async with proxy(Hosted("odd", [Endpoint("Odd.Count", answer, None, shape)])) as door:
        error = await door.fails("/odd.Odd/Count", b"")
        assert error.code().name == "INTERNAL"
        assert "does not fit its published shape" in error.details()
        assert await door.call("/odd.Odd/Count") == b'{"count":"many"}'


async def test_a_port_in_use_is_a_conflict(proxy):
    async with proxy() as door:
        with pytest.raises(errors.Conflict, match=f"cannot listen on {door.address}"):
            async with serve_proxy(door.address, rpc.Client([]), Table()):
                pass


async def test_every_answer_names_the_trace_of_its_logs(proxy, service) -> None:
    async def ok(code: int = 0) -> None:
        if code:
            raise errors.of_code(code, "shop")

    async with proxy(service("shop", ok)) as door:
        call = door.channel.unary_unary("/shop.Shop/Ok")(b"{}")
        await call
        assert len(dict(await call.trailing_metadata())[server.TRACE]) == 32
        given = (("micro-trace", "c" * 32),)
        error = await door.fails("/shop.Shop/Ok", b'{"code":409}', metadata=given)
        assert dict(error.trailing_metadata())[server.TRACE] == "c" * 32


async def test_packed_messages_are_taken_and_never_more_than_the_limit(
    proxy, service, code
) -> None:
    async def size(text: str) -> int:
        return len(text)

    async with proxy(service("shop", size)) as door:
        packed = {"compression": grpc.Compression.Gzip}
        text = b'{"text":"' + b"x" * 100_000 + b'"}'
        assert await door.call("/shop.Shop/Size", text, **packed) == b"100000"
        error = await door.fails("/shop.Shop/Size", bytes(64 * 2**20), **packed)
        assert error.code() is code.RESOURCE_EXHAUSTED


async def test_a_compression_that_nobody_knows_is_refused(proxy, service) -> None:
    async def ok() -> None:
        return None

    async with proxy(service("shop", ok)) as door:
        command = ["curl", "-s", "-i", "--http2-prior-knowledge", "--data-binary", "@-"]
        command.append(f"http://{door.address}/shop.Shop/Ok")
        for header in ("content-type: application/grpc", "te: trailers", "grpc-encoding: br"):
            command += ["-H", header]
        child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await child.communicate(b"\x01\0\0\0\x01x")
        assert b"grpc-status: 13" in said
        assert b"grpc-encoding" in said
        assert await door.call("/shop.Shop/Ok") == b"{}"
