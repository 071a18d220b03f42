"""What a stream does on every transport, written once; `test_transports` runs it over each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from microcosmos.base import context, errors
from microcosmos.rpc import MAX_BODY, Endpoint
from microcosmos.rpc.credit import WEIGHT, WINDOW
from microcosmos.rpc.middleware.limit import Limit

from .wires import Net, until

Open = Callable[[], AbstractAsyncContextManager[Net]]


class Step(msgspec.Struct):
    at: int


async def count(to: int, start: int = 1) -> AsyncIterator[Step]:
    """Count up."""
    for at in range(start, to + 1):
        yield Step(at)


def steps(to: int) -> Iterator[Step]:
    """Count up in threads."""
    for at in range(1, to + 1):
        yield Step(at)


async def total(numbers: AsyncIterator[int]) -> int:
    return sum([number async for number in numbers])


async def scale(by: int, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
    async for number in numbers:
        yield by * number


async def once(name: str = "World") -> str:
    return f"Hello {name}"


async def fails(after: int) -> AsyncIterator[int]:
    for at in range(after):
        yield at
    raise errors.Conflict("demo.Fails", "enough")


async def breaks() -> AsyncIterator[int]:
    yield 1
    raise RuntimeError("a secret")


async def told() -> AsyncIterator[dict[str, Any]]:
    here = context.current()
    yield {"metadata": dict(here.metadata), "left": here.remaining()}


class Endless:
    """A stream that never ends, and tells how far it has come and whether it was cancelled."""

    def __init__(self, message: bytes = b'"more"') -> None:
        self.sent = 0
        self.entered = 0
        self.ended = 0
        self._message = message
        self.endpoint = Endpoint("Demo.Endless", stream=self._stream)

    async def _stream(self, body: bytes, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.entered += 1
        try:
            while True:
                yield self._message
                self.sent += 1
        finally:
            self.ended += 1


class Waiting:
    """A stream that says one thing and then waits for its caller."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.heard: list[bytes] = []
        self.endpoint = Endpoint("Demo.Waiting", stream=self._stream)

    async def _stream(self, body: bytes, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield b'"here"'
        try:
            async for message in messages:
                self.heard.append(message)
            self.ended.append("end")
        except BaseException as exc:
            self.ended.append(type(exc).__name__)
            raise


class StreamConformance:
    """Subclasses give `opened`, which opens a net of their transport."""

    async def test_a_generator_streams_its_answers(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(count)
            assert await _all(net, "Count", b'{"to":3}') == [b'{"at":1}', b'{"at":2}', b'{"at":3}']

    async def test_a_generator_that_blocks_streams_too(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(steps)
            assert await _all(net, "Steps", b'{"to":2}') == [b'{"at":1}', b'{"at":2}']

    async def test_no_messages_are_a_stream_too(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(count)
            assert await _all(net, "Count", b'{"to":0}') == []

    async def test_a_caller_streams_and_is_answered_once(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(total)
            async with net.client.stream("demo", "Demo.Total") as stream:
                for number in range(5):
                    await stream.send(b"%d" % number)
                await stream.end()
                assert [message async for message in stream] == [b"10"]

    async def test_both_sides_stream_at_once(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(scale)
            async with net.client.stream("demo", "Demo.Scale", b'{"by":10}') as stream:
                for number in range(20):
                    await stream.send(b"%d" % number)
                    assert await anext(stream) == b"%d" % (10 * number)
                await stream.end()
                assert [message async for message in stream] == []

    async def test_an_endpoint_that_answers_once_is_a_stream_of_one(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(once)
            assert await _all(net, "Once", b'{"name":"Jo"}') == [b'"Hello Jo"']

    async def test_an_endpoint_that_streams_says_so_when_it_is_called(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(total)
            with pytest.raises(errors.BadRequest, match="streams"):
                await net.client.call("demo", "Demo.Total", retry=False)

    async def test_many_messages_of_many_streams_stay_in_order(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(count)
            many = await asyncio.gather(*(_all(net, "Count", b'{"to":500}') for _ in range(8)))
            assert many == [[b'{"at":%d}' % at for at in range(1, 501)]] * 8

    async def test_long_and_short_messages_stay_in_order(self, opened: Open) -> None:
        sizes = [2, 300_000, 5, 3 * WINDOW, 70_000, 2, MAX_BODY, 3]

        async def sized(body: bytes, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for message in messages:
                yield message

        async with opened() as net:
            await net.serve(Endpoint("Demo.Sized", stream=sized))
            async with net.client.stream("demo", "Demo.Sized") as stream:
                for size in sizes:
                    await stream.send(bytes(size))
                    assert len(await anext(stream)) == size
                await stream.end()

    # Errors

    async def test_an_error_comes_after_the_messages_before_it(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(fails)
            async with net.client.stream("demo", "Demo.Fails", b'{"after":2}') as stream:
                assert [await anext(stream), await anext(stream)] == [b"0", b"1"]
                with pytest.raises(errors.Conflict, match="enough"):
                    await anext(stream)

    async def test_a_failure_tells_nothing_private(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(breaks)
            with pytest.raises(errors.InternalServerError) as failure:
                await _all(net, "Breaks")
            assert "secret" not in str(failure.value)

    @pytest.mark.parametrize(
        ("service", "endpoint", "body", "kind"),
        [
            ("demo", "Demo.Nothing", b"{}", errors.NotFound),
            ("nobody", "Nobody.Call", b"{}", errors.NotFound),
            ("demo", "Demo.Count", b'{"to":"x"}', errors.BadRequest),
            ("demo", "Demo.Count", b"{", errors.BadRequest),
            ("demo", "Demo.Count", b'{"to":1,"more":2}', errors.BadRequest),
            ("demo", "Demo.Count", bytes(MAX_BODY + 1), errors.TooLarge),
        ],
    )
    async def test_a_bad_opening_is_refused(
        self, opened: Open, service: str, endpoint: str, body: bytes, kind: type[errors.Error]
    ) -> None:
        async with opened() as net:
            await net.serve(count)
            with pytest.raises(kind):
                async with net.client.stream(service, endpoint, body) as stream:
                    await anext(stream)

    async def test_a_bad_message_of_the_caller_ends_the_stream(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(total)
            async with net.client.stream("demo", "Demo.Total") as stream:
                await stream.send(b'"three"')
                with pytest.raises(errors.BadRequest, match="int"):
                    await anext(stream)

    async def test_a_message_over_the_limit_is_refused_where_it_is_sent(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(scale)
            async with net.client.stream("demo", "Demo.Scale", b'{"by":2}') as stream:
                with pytest.raises(errors.TooLarge):
                    await stream.send(bytes(MAX_BODY + 1))
                await stream.send(b"4")
                assert await anext(stream) == b"8"

    async def test_an_answer_over_the_limit_ends_the_stream(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(Endless(bytes(MAX_BODY + 1)).endpoint)
            with pytest.raises(errors.TooLarge):
                await _all(net, "Endless")

    async def test_nothing_is_sent_after_the_end(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(total)
            async with net.client.stream("demo", "Demo.Total") as stream:
                await stream.end()
                with pytest.raises(errors.Conflict, match="ended"):
                    await stream.send(b"1")
                assert await anext(stream) == b"0"

    async def test_a_limit_counts_open_streams(self, opened: Open) -> None:
        async with opened() as net:
            waiting = Waiting()
            await net.serve(waiting.endpoint, once, middleware=[Limit(1)])
            async with net.client.stream("demo", "Demo.Waiting") as stream:
                assert await anext(stream) == b'"here"'
                with pytest.raises(errors.TooManyRequests):
                    await _all(net, "Waiting")
                with pytest.raises(errors.TooManyRequests):
                    await net.client.call("demo", "Demo.Once", retry=False)
            await until(lambda: waiting.ended)
            assert await net.client.call("demo", "Demo.Once") == b'"Hello World"'

    # Flow control

    async def test_a_slow_reader_holds_its_sender_up(self, opened: Open) -> None:
        endless = Endless(bytes(1000))
        ahead = WINDOW // (1000 + WEIGHT) + 1
        async with opened() as net:
            await net.serve(endless.endpoint, once)
            async with net.client.stream("demo", "Demo.Endless") as stream:
                await until(lambda: endless.sent >= ahead - 1)
                # Others are served meanwhile, and the stream gets no further.
                for _ in range(20):
                    await net.client.call("demo", "Demo.Once")
                assert endless.sent <= ahead
                for _ in range(3 * ahead):
                    await anext(stream)
                assert endless.sent <= 4 * ahead
            await until(lambda: endless.ended)

    async def test_a_caller_waits_for_a_slow_handler(self, opened: Open) -> None:
        gate = asyncio.Event()

        async def slow(body: bytes, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            await gate.wait()
            yield b"%d" % len([message async for message in messages])

        async with opened() as net:
            await net.serve(Endpoint("Demo.Slow", stream=slow))
            async with net.client.stream("demo", "Demo.Slow") as stream:
                sent = 0

                async def send() -> None:
                    nonlocal sent
                    for _ in range(1000):
                        await stream.send(bytes(1000))
                        sent += 1
                    await stream.end()

                sending = asyncio.create_task(send())
                await until(lambda: sent >= WINDOW // (1000 + WEIGHT))
                assert not sending.done()
                gate.set()
                assert await anext(stream) == b"1000"
                await sending

    # Ends

    async def test_leaving_the_block_cancels_the_handler(self, opened: Open) -> None:
        endless, waiting = Endless(), Waiting()
        async with opened() as net:
            await net.serve(endless.endpoint, waiting.endpoint)
            for name in ("Endless", "Waiting"):
                async with net.client.stream("demo", f"Demo.{name}") as stream:
                    await anext(stream)
            await until(lambda: endless.ended and waiting.ended)
            assert waiting.ended != ["end"]

    async def test_a_cancelled_caller_cancels_the_handler(self, opened: Open) -> None:
        waiting = Waiting()
        async with opened() as net:
            await net.serve(waiting.endpoint)
            reading = asyncio.create_task(_all(net, "Waiting"))
            await until(lambda: net_has_begun(net))
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            await until(lambda: waiting.ended)

    async def test_the_end_of_the_caller_reaches_the_handler(self, opened: Open) -> None:
        waiting = Waiting()
        async with opened() as net:
            await net.serve(waiting.endpoint)
            async with net.client.stream("demo", "Demo.Waiting") as stream:
                await stream.send(b"1")
                await stream.end()
                assert [message async for message in stream] == [b'"here"']
            assert (waiting.heard, waiting.ended) == ([b"1"], ["end"])

    async def test_a_handler_may_end_before_its_caller(self, opened: Open) -> None:
        async def first(numbers: AsyncIterator[int]) -> int:
            return await anext(aiter(numbers))

        async with opened() as net:
            await net.serve(first)
            async with net.client.stream("demo", "Demo.First") as stream:
                await stream.send(b"7")
                assert [message async for message in stream] == [b"7"]
                with pytest.raises(errors.Conflict, match="ended"):
                    await stream.send(b"8")

    async def test_a_stream_ends_at_its_deadline(self, opened: Open) -> None:
        waiting = Waiting()
        async with opened() as net:
            await net.serve(waiting.endpoint)
            with pytest.raises(errors.DeadlineExceeded):
                await _all(net, "Waiting", timeout=0.5)
            await until(lambda: waiting.ended)

    async def test_a_stream_has_no_deadline_unless_told(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(told)
            (message,) = await _all(net, "Told")
            assert msgspec.json.decode(message)["left"] is None

    async def test_metadata_and_deadline_travel(self, opened: Open) -> None:
        async with opened() as net:
            await net.serve(told)
            metadata = {"foo": "bar"}
            async with net.client.stream(
                "demo", "Demo.Told", metadata=metadata, timeout=60
            ) as stream:
                seen = msgspec.json.decode(await anext(stream))
            assert seen["metadata"]["Foo"] == "bar"
            assert "Micro-Stream" not in seen["metadata"]
            assert 0 < seen["left"] <= 60

    async def test_a_server_that_stops_lets_streams_end_first(self, opened: Open) -> None:
        waiting = Waiting()
        async with opened() as net:
            replica = await net.serve(waiting.endpoint)
            async with net.client.stream("demo", "Demo.Waiting") as stream:
                assert await anext(stream) == b'"here"'
                leaving = asyncio.create_task(replica.leave())
                await until(lambda: replica.server.draining)
                await stream.send(b"1")
                await stream.end()
                assert [message async for message in stream] == []
            await leaving
            assert waiting.heard == [b"1"]

    async def test_a_server_that_stops_ends_streams_that_do_not(self, opened: Open) -> None:
        waiting = Waiting()
        async with opened() as net:
            replica = await net.serve(waiting.endpoint, drain=0.05)
            async with net.client.stream("demo", "Demo.Waiting") as stream:
                assert await anext(stream) == b'"here"'
                leaving = asyncio.create_task(replica.leave())
                with pytest.raises(errors.Unavailable):
                    await anext(stream)
            await leaving
            assert waiting.ended


def net_has_begun(net: Net) -> bool:
    """Whether some server of the net is handling something."""
    return any(replica.server.active for replica in net.replicas)


async def _all(
    net: Net, method: str, body: bytes = b"{}", *, timeout: float | None = None
) -> list[bytes]:
    async with net.client.stream("demo", f"Demo.{method}", body, timeout=timeout) as stream:
        return [message async for message in stream]
