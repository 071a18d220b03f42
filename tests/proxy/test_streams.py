"""Streams: of the server, of the client, and of both, by protobuf and by JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import msgspec
import pytest
from google.protobuf import json_format, message_factory
from grpc import aio

from microcosmos.base import errors
from microcosmos.base.context import Context
from microcosmos.proxy import calls, server, status


class Tick(msgspec.Struct):
    number: int
    text: str = ""


async def count(to: int = 3, size: int = 0) -> AsyncIterator[Tick]:
    for number in range(to):
        yield Tick(number, "x" * size)


async def fail(after: int) -> AsyncIterator[Tick]:
    for number in range(after):
        yield Tick(number)
    raise errors.Conflict("ticks.Fail", "no more of them")


async def total(numbers: AsyncIterator[int]) -> int:
    return sum([number async for number in numbers])


async def echo(ticks: AsyncIterator[Tick]) -> AsyncIterator[Tick]:
    async for tick in ticks:
        yield tick


async def scale(factor: int, ticks: AsyncIterator[Tick]) -> AsyncIterator[int]:
    async for tick in ticks:
        yield tick.number * factor


async def rows(name: str, lists: AsyncIterator[list[int]]) -> list[Any]:
    return [name, [one async for one in lists]]


async def first(ticks: AsyncIterator[Tick]) -> Tick:
    async for tick in ticks:
        return tick
    raise errors.BadRequest("ticks.First", "nothing came")


async def about(context: Context) -> AsyncIterator[dict[str, Any]]:
    yield {"metadata": dict(context.metadata), "left": context.remaining()}


class Typed:
    """Calls a method with messages of its own file."""

    def __init__(self, door: Any, pool: Any, service: str, method: str) -> None:
        known = pool.FindServiceByName(service).FindMethodByName(method)
        self.request = message_factory.GetMessageClass(known.input_type)
        answer = message_factory.GetMessageClass(known.output_type)
        self.call = door.channel.stream_stream(
            f"/{service}/{method}",
            request_serializer=self.request.SerializeToString,
            response_deserializer=answer.FromString,
        )

    async def all(self, *requests: dict[str, Any]) -> list[Any]:
        return [one async for one in self.call([self.request(**fields) for fields in requests])]


async def typed(door: Any, method: str) -> Typed:
    return Typed(door, await door.pool("ticks.Ticks"), "ticks.Ticks", method)


async def test_a_service_streams_its_answers(proxy, service) -> None:
    async with proxy(service("ticks", count)) as door:
        ticks = await (await typed(door, "Count")).all({"to": 3})
        assert [tick.number for tick in ticks] == [0, 1, 2]
        answers = door.channel.unary_stream("/ticks.Ticks/Count")(b'{"to":2}')
        assert [one async for one in answers] == [
            b'{"number":0,"text":""}',
            b'{"number":1,"text":""}',
        ]


async def test_a_client_streams_its_requests(proxy, service) -> None:
    async with proxy(service("ticks", total, first)) as door:
        add = await typed(door, "Total")
        assert [one.value for one in await add.all(*({"value": n} for n in (1, 0, 4)))] == [5]
        assert [one.value for one in await add.all()] == [0]
        send = door.channel.stream_unary("/ticks.Ticks/First")
        assert await send([b'{"number":7}', b'{"number":8}']) == b'{"number":7,"text":""}'


async def test_numbers_are_streamed_as_json_if_a_header_says_so(proxy, service) -> None:
    async with proxy(service("ticks", total)) as door:
        send = door.channel.stream_unary("/ticks.Ticks/Total")
        assert await send([b"1", b"2"], metadata=(("x-content-type", "application/json"),)) == b"3"
        proto3 = (("x-content-type", "application/grpc+json"),)
        assert await send([b'{"value":"1"}'], metadata=proto3) == b'{"value":"1"}'


async def test_both_stream_each_when_it_likes(proxy, service) -> None:
    async with proxy(service("ticks", echo)) as door:
        method = await typed(door, "Echo")
        call = method.call()
        for number in range(3):
            await call.write(method.request(number=number))
            assert (await call.read()).number == number
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_an_answer_may_come_before_anything_was_sent(proxy, service) -> None:
    async def greet(ticks: AsyncIterator[Tick]) -> AsyncIterator[str]:
        yield "hello"
        async for tick in ticks:
            yield tick.text

    async with proxy(service("ticks", greet)) as door:
        call = (await typed(door, "Greet")).call()
        assert (await call.read()).value == "hello"
        await call.done_writing()
        assert await call.read() is aio.EOF


async def test_the_first_message_has_the_plain_fields_and_may_have_the_first_item(
    proxy, service
) -> None:
    async with proxy(service("ticks", scale, rows)) as door:
        method = await typed(door, "Scale")
        items = [{"ticks": {"number": number}} for number in (1, 2)]
        with_one = await method.all({"factor": 10, "ticks": {"number": 5}}, *items)
        assert [one.value for one in with_one] == [50, 10, 20]
        assert [one.value for one in await method.all({"factor": 3}, *items)] == [3, 6]
        assert await method.all({"factor": 3}) == []
        send = door.channel.stream_stream("/ticks.Ticks/Scale")
        answers = send([b'{"factor":2,"ticks":{"number":4}}', b'{"ticks":{"number":5}}'])
        assert [one async for one in answers] == [b"8", b"10"]
        # An empty list is not told from none: in the first message it is none.
        (answer,) = await (await typed(door, "Rows")).all({"name": "a"}, {"lists": [1]}, {})
        shown = json_format.MessageToDict(answer)
        assert shown == {"value": ["a", [[1.0], []]]}


@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        ([b'{"factor":1}', b'{"factor":2,"ticks":{"number":1}}'], "each has ticks alone"),
        ([b'{"factor":1}', b'{"other":1}'], "each has ticks alone"),
        ([b'{"factor":1}', b"{}"], "each has ticks alone"),
        ([b'{"factor":1}', b"{"], "truncated"),
        ([b'{"factor":1,"ticks":{"number":"x"}}'], "$.number"),
        ([b'{"ticks":{"number":1}}'], "factor"),
        ([b"\xff"], "the payload is no message ticks.ScaleRequest"),
        ([b"\x08\x01", b"\xff"], "the payload is no message ticks.ScaleRequest"),
    ],
)
async def test_a_bad_message_ends_the_stream_with_its_reason(
    proxy, service, code, messages, detail
) -> None:
    async with proxy(service("ticks", scale)) as door:
        call = door.channel.stream_stream("/ticks.Ticks/Scale")(iter(messages))
        with pytest.raises(aio.AioRpcError) as caught:
            assert [one async for one in call] == []
    assert caught.value.code() is code.INVALID_ARGUMENT
    assert detail in caught.value.details()


async def test_an_error_after_some_answers_has_its_details(proxy, service, code) -> None:
    async with proxy(service("ticks", fail)) as door:
        call = door.channel.unary_stream("/ticks.Ticks/Fail")(b'{"after":2}')
        assert await call.read()
        assert await call.read()
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
    error = caught.value
    trailers = dict(error.trailing_metadata())
    told = status.from_grpc(error.code(), error.details(), trailers[status.DETAILS], "")
    assert (type(told), told.id, told.detail) == (errors.Conflict, "ticks.Fail", "no more of them")
    assert len(trailers[server.TRACE]) == 32


async def test_metadata_and_deadlines_reach_a_stream(proxy, service) -> None:
    async with proxy(service("ticks", about)) as door:
        send = door.channel.unary_stream("/ticks.Ticks/About")
        metadata = (("foobar", "x"), ("micro-trace", "a" * 32))
        (said,) = [one async for one in send(b"{}", metadata=metadata, timeout=60)]
        seen = msgspec.json.decode(said)
        assert seen["metadata"] == {"Foobar": "x", "Micro-Trace": "a" * 32}
        assert 20 < seen["left"] <= 61
        (said,) = [one async for one in send(b"{}")]
        assert msgspec.json.decode(said)["left"] is None


class Standing:
    """A handler that stands until it is cancelled."""

    def __init__(self) -> None:
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()

    async def stand(self) -> AsyncIterator[Tick]:
        yield Tick(1)
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def test_a_client_that_cancels_or_is_late_cancels_the_handler(proxy, service, code) -> None:
    for timeout in (None, 1.0):
        handler = Standing()
        async with proxy(service("ticks", handler.stand)) as door:
            call = door.channel.unary_stream("/ticks.Ticks/Stand")(b"{}", timeout=timeout)
            assert await call.read()
            await handler.started.wait()
            if timeout is None:
                call.cancel()
                await asyncio.wait_for(handler.cancelled.wait(), 60)
            else:
                with pytest.raises(aio.AioRpcError) as caught:
                    await call.read()
                assert caught.value.code() is code.DEADLINE_EXCEEDED
                await asyncio.wait_for(handler.cancelled.wait(), 60)


async def test_a_stream_that_stands_is_told_that_the_proxy_closes(
    proxy, service, code, monkeypatch
) -> None:
    monkeypatch.setattr(calls, "STREAM_GRACE", 0.05)
    handler = Standing()
    opened = proxy(service("ticks", handler.stand))
    door = await opened.__aenter__()
    async with aio.insecure_channel(door.address) as channel:
        call = channel.unary_stream("/ticks.Ticks/Stand")(b"{}")
        assert await call.read()
        closing = asyncio.create_task(opened.__aexit__(None, None, None))
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is code.UNAVAILABLE
    assert "the proxy stops" in caught.value.details()
    await handler.cancelled.wait()
    await closing


async def test_a_reader_that_does_not_read_holds_its_writer_up(proxy, service) -> None:
    sent = 0

    async def flood() -> AsyncIterator[str]:
        nonlocal sent
        while True:
            sent += 1
            yield "x" * 64_000

    async with proxy(service("ticks", flood)) as door:
        call = door.channel.unary_stream("/ticks.Ticks/Flood")(b"{}")
        await call.read()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)  # the condition is that nothing more is sent
        # A few windows of HTTP/2, of the rpc stream, and what gRPC reads ahead.
        assert sent < 500
        call.cancel()


async def test_a_message_over_the_limit_ends_the_stream(proxy, service, code) -> None:
    async with proxy(service("ticks", count, echo)) as door:
        call = door.channel.unary_stream("/ticks.Ticks/Count")(b'{"to":1,"size":9000000}')
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is code.RESOURCE_EXHAUSTED
        big = b'{"number":1,"text":"' + b"x" * (8 * 2**20) + b'"}'
        call = door.channel.stream_stream("/ticks.Ticks/Echo")(iter([b'{"number":0}', big]))
        assert await call.read()
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is code.RESOURCE_EXHAUSTED


async def test_streams_leave_nothing_behind(proxy, service) -> None:
    async with proxy(service("ticks", count, total)) as door:
        for _ in range(20):
            send = door.channel.unary_stream("/ticks.Ticks/Count")
            assert len([one async for one in send(b'{"to":5}')]) == 5
        before = len(asyncio.all_tasks())
        for _ in range(20):
            assert len([one async for one in send(b'{"to":5}')]) == 5
        # The last ones end a moment after their callers have heard so.
        async with asyncio.timeout(60):
            while len(asyncio.all_tasks()) > before + 1 or door.server.active:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
