"""Streams as the author of a service writes and reads them, on each platform."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from microcosmos import Client, Service, errors
from microcosmos.testing import Bench


class Tick(msgspec.Struct):
    at: int


def chat() -> tuple[Service, Service]:
    service = Service("chat")
    front = Service("front")

    @service.endpoint
    async def watch(to: int) -> AsyncIterator[Tick]:
        for at in range(to):
            yield Tick(at)

    @service.endpoint
    async def talk(room: str, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield f"{room}: {word}"

    @service.endpoint
    async def fails() -> AsyncIterator[int]:
        yield 1
        raise errors.Conflict("chat.Fails", "no more")

    @front.endpoint
    async def last(to: int) -> int:
        ticks = [tick async for tick in Client("chat").stream("Watch", {"to": to}, type=Tick)]
        return ticks[-1].at

    return service, front


@pytest.fixture(params=["memory", "nats"])
def bench(request: pytest.FixtureRequest, microcosmos_runner: object) -> Bench:
    bench: Bench = request.getfixturevalue(
        "platform" if request.param == "memory" else "nats_platform"
    )
    return bench


async def test_a_loop_reads_a_stream(bench: Bench) -> None:
    await bench.start(*chat())
    client = bench.client("chat")
    assert [tick async for tick in client.stream("Watch", {"to": 2}, type=Tick)] == [
        Tick(0),
        Tick(1),
    ]
    assert await bench.client("front").last(to=4) == 3


async def test_a_block_sends_and_reads(bench: Bench) -> None:
    await bench.start(*chat())
    async with bench.client("chat").stream("Talk", {"room": "a"}) as talk:
        await talk.send("hi")
        assert await anext(talk) == "a: hi"
        await talk.send("there")
        await talk.end()
        assert [word async for word in talk] == ["a: there"]
        with pytest.raises(errors.Conflict):
            await talk.send("again")


async def test_an_error_comes_after_the_messages(bench: Bench) -> None:
    await bench.start(*chat())
    async with bench.client("chat").stream("Fails") as stream:
        assert await anext(stream) == 1
        with pytest.raises(errors.Conflict, match="no more"):
            await anext(stream)


async def test_a_stream_is_opened_before_it_is_used(bench: Bench) -> None:
    await bench.start(*chat())
    stream = bench.client("chat").stream("Talk", {"room": "a"})
    with pytest.raises(RuntimeError, match="open the stream first"):
        await stream.send("hi")


async def test_a_message_of_another_type_is_a_bad_gateway(bench: Bench) -> None:
    await bench.start(*chat())
    with pytest.raises(errors.BadGateway, match="something else than promised"):
        async for _ in bench.client("chat").stream("Watch", {"to": 1}, type=str):
            pass
