"""Streams where one transport differs from another, and the rules that both ends keep."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from microcosmos.base import errors
from microcosmos.rpc import Call, Hosted, Server, blocking, memory
from microcosmos.rpc import nats as by_nats
from microcosmos.rpc.credit import LOST_AFTER, WEIGHT, WINDOW
from microcosmos.rpc.frames import BEAT, CANCEL, END, ERROR, GRANT, ITEM
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.interface import MAX_BODY
from microcosmos.rpc.lane import listen
from microcosmos.rpc.stream import Channel, Pulse

from .streams import Endless, Waiting, count, fails, scale
from .wires import NatsServer, lane_net, nats_net, until

CALL = Call("demo", "Demo.Count", b"{}", {}, None)


class Other:
    """The other end of a channel: it remembers what is said to it."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []

    async def hear(self, kind: int, payload: bytes) -> None:
        self.heard.append((kind, payload))


def caller() -> tuple[Channel, Other]:
    other = Other()
    return Channel(CALL, other.hear), other


# The rules of both ends


async def test_an_end_that_is_silent_for_long_is_lost() -> None:
    channel, _ = caller()
    for _ in range(LOST_AFTER):
        if saying := channel.beat():
            await saying
        assert not channel.over
    assert channel.beat() is None
    with pytest.raises(errors.ConnectionLost, match="nothing was heard"):
        await anext(channel)


async def test_whatever_is_heard_shows_that_the_other_end_lives() -> None:
    channel, _ = caller()
    for kind, payload in ((BEAT, b"0"), (GRANT, b"5"), (ITEM, b"1"), (BEAT, b"1")):
        channel.received(kind, payload)
        for _ in range(LOST_AFTER):
            if saying := channel.beat():
                await saying
    assert not channel.over


async def test_an_end_beats_only_when_it_has_been_silent() -> None:
    channel, other = caller()
    await channel.send(b"1")
    channel.received(BEAT, b"")
    assert channel.beat() is None
    channel.received(BEAT, b"")
    saying = channel.beat()
    assert saying is not None
    await saying
    assert other.heard == [(ITEM, b"1"), (BEAT, b"1")]


@pytest.mark.parametrize("kind", [END, BEAT])
async def test_messages_that_were_lost_on_the_way_are_missed(kind: int) -> None:
    channel, _ = caller()
    channel.received(ITEM, b"1")
    channel.received(kind, b"2")
    assert await anext(channel) == b"1"
    with pytest.raises(errors.ConnectionLost, match="of 2 messages of the stream 1 have arrived"):
        await anext(channel)


async def test_a_message_after_the_end_breaks_the_stream() -> None:
    channel = Channel(CALL, Other().hear, serving=True)
    channel.received(END, b"0")
    channel.received(ITEM, b"1")
    with pytest.raises(errors.BadRequest, match="after the end"):
        await anext(channel)


async def test_a_sender_that_does_not_mind_its_credit_is_stopped() -> None:
    stopped: list[bool] = []
    channel = Channel(CALL, Other().hear, serving=True, done=lambda: stopped.append(True))
    for _ in range((WINDOW + MAX_BODY) // (1024 + WEIGHT) + 2):
        channel.received(ITEM, bytes(1024))
    assert stopped == [True]
    with pytest.raises(errors.BadRequest, match="ahead of their reader"):
        await anext(channel)


async def test_closing_twice_says_so_once() -> None:
    channel, other = caller()
    await channel.close()
    await channel.close()
    assert other.heard == [(CANCEL, b"")]


async def test_a_reader_grants_what_it_has_read_in_large_parts() -> None:
    channel, other = caller()
    for _ in range(200):
        channel.received(ITEM, bytes(1000))
        await anext(channel)
    granted = [int(payload) for kind, payload in other.heard if kind == GRANT]
    assert len(granted) == 200 * (1000 + WEIGHT) // (WINDOW // 2)
    assert all(WINDOW // 2 <= number < WINDOW for number in granted)


async def test_a_pulse_finds_the_lost_among_the_living() -> None:
    living, dead = caller()[0], caller()[0]
    pulse = Pulse(0.005)
    pulse.add(living)
    pulse.add(dead)
    while not dead.over:
        living.received(BEAT, b"")
        await asyncio.sleep(0)
    assert not living.over
    pulse.close()


# In memory


async def test_both_ends_say_that_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = 0

    class Often(Pulse):
        def __init__(self) -> None:
            super().__init__(0.001)

        def _beat(self) -> None:
            nonlocal beats
            beats += 1
            super()._beat()

    monkeypatch.setattr(memory, "Pulse", Often)
    waiting, network = Waiting(), memory.MemoryNetwork()
    server = Server()
    server.add(Hosted("demo", [waiting.endpoint]))
    network.join(server)
    stream = await network.open(Call("demo", "Demo.Waiting", b"{}", {}, None))
    await until(lambda: beats > 5 * LOST_AFTER)
    assert server.active == 1
    await stream.close()
    await until(lambda: not server.active)


# The lane


async def test_a_line_that_breaks_ends_its_streams(tmp_path: Path) -> None:
    async with lane_net(tmp_path) as net:
        waiting = Waiting()
        await net.serve(waiting.endpoint)
        async with net.client.stream("demo", "Demo.Waiting") as stream:
            assert await anext(stream) == b'"here"'
            await net.transport.close()
            with pytest.raises(errors.ConnectionLost, match="the line broke"):
                await anext(stream)
        await until(lambda: waiting.ended)


def _call(method: str, body: bytes = b"{}", timeout: float | None = 20) -> Call:
    return Call("demo", f"Demo.{method}", body, {}, timeout)


@contextlib.asynccontextmanager
async def _served(tmp_path: Path, *hosted: object) -> AsyncIterator[Path]:
    server = Server()
    made = [one if not callable(one) else endpoint(one, "demo") for one in hosted]
    server.add(Hosted("demo", made))  # type: ignore[arg-type]
    async with listen(tmp_path / "s.sock", server):
        yield tmp_path / "s.sock"


async def test_a_blocking_stream_is_read_to_its_end(tmp_path: Path) -> None:
    def read() -> list[bytes]:
        with blocking.BlockingStream(path, _call("Count", b'{"to":2000}')) as stream:
            return list(stream)

    async with _served(tmp_path, count) as path:
        messages = await asyncio.to_thread(read)
        assert messages == [b'{"at":%d}' % at for at in range(1, 2001)]


async def test_a_blocking_stream_ends_by_its_error(tmp_path: Path) -> None:
    def read() -> None:
        with blocking.BlockingStream(path, _call("Fails", b'{"after":1}')) as stream:
            list(stream)

    async with _served(tmp_path, fails) as path:
        with pytest.raises(errors.Conflict, match="enough"):
            await asyncio.to_thread(read)


async def test_a_blocking_stream_is_sent_by_one_thread_and_read_by_another(tmp_path: Path) -> None:
    def both() -> list[bytes]:
        with blocking.BlockingStream(path, _call("Scale", b'{"by":2}')) as stream:

            def send() -> None:
                for number in range(10_000):
                    stream.send(b"%d" % number)
                stream.end()

            sending = threading.Thread(target=send)
            sending.start()
            messages = list(stream)
            sending.join()
            return messages

    async with _served(tmp_path, scale) as path:
        assert await asyncio.to_thread(both) == [b"%d" % (2 * n) for n in range(10_000)]


async def test_a_blocking_stream_that_is_left_cancels_its_handler(tmp_path: Path) -> None:
    def leave() -> None:
        with blocking.BlockingStream(path, _call("Endless")) as stream:
            next(iter(stream))

    endless = Endless()
    async with _served(tmp_path, endless.endpoint) as path:
        await asyncio.to_thread(leave)
        await until(lambda: endless.ended)


async def test_a_blocking_stream_ends_at_its_deadline(tmp_path: Path) -> None:
    def wait() -> None:
        with blocking.BlockingStream(path, _call("Waiting", timeout=0.1)) as stream:
            list(stream)

    async with _served(tmp_path, Waiting().endpoint) as path:
        with pytest.raises(errors.DeadlineExceeded):
            await asyncio.to_thread(wait)


# NATS


async def test_a_caller_that_knows_little_gets_plain_replies(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        await net.serve(count, fails)
        replies: asyncio.Queue[Msg] = asyncio.Queue()
        await net.nc.subscribe("my.inbox", cb=replies.put)
        headers = {"micro-stream": "replies"}
        await net.nc.publish("rpc.demo.Demo.Count", b'{"to":2}', "my.inbox", headers)
        assert [(await replies.get()).data for _ in range(3)] == [b'{"at":1}', b'{"at":2}', b""]
        await net.nc.publish("rpc.demo.Demo.Fails", b'{"after":1}', "my.inbox", headers)
        assert (await replies.get()).data == b"0"
        refused = (await replies.get()).headers
        assert refused is not None
        assert refused["Nats-Service-Error-Code"] == "409"


async def test_an_unknown_kind_of_stream_is_refused(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        await net.serve(count)
        answer = await net.nc.request("rpc.demo.Demo.Count", b"{}", headers={"Micro-Stream": "x"})
        assert answer.headers is not None
        assert answer.headers["Nats-Service-Error-Code"] == "400"


async def test_a_foreign_service_may_stream_by_plain_replies(nats_url: str) -> None:
    async def foreign(msg: Msg) -> None:
        for number in range(3):
            await msg.respond(b"%d" % number)
        await msg.respond(b"")

    async with nats_net(nats_url) as net:
        await net.nc.subscribe("rpc.demo.Demo.Count", cb=foreign)
        async with net.client.stream("demo", "Demo.Count") as stream:
            assert [message async for message in stream] == [b"0", b"1", b"2"]


async def test_a_foreign_service_may_not_stream_what_is_no_json(nats_url: str) -> None:
    async def foreign(msg: Msg) -> None:
        await msg.respond(b"1")
        await msg.respond(b"one")

    async with nats_net(nats_url) as net:
        await net.nc.subscribe("rpc.demo.Demo.Count", cb=foreign)
        async with net.client.stream("demo", "Demo.Count") as stream:
            assert await anext(stream) == b"1"
            with pytest.raises(errors.BadGateway, match="no JSON"):
                await anext(stream)


async def test_a_foreign_service_that_takes_no_stream_says_so(nats_url: str) -> None:
    async def foreign(msg: Msg) -> None:
        await msg.respond(b"1")

    async with nats_net(nats_url) as net:
        await net.nc.subscribe("rpc.demo.Demo.Count", cb=foreign)
        async with net.client.stream("demo", "Demo.Count") as stream:
            with pytest.raises(errors.Unimplemented, match="takes no stream"):
                await stream.send(b"1")


async def test_nobody_who_listens_is_told_at_once(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        net.addresses.known.add("demo")
        with pytest.raises(errors.Unavailable, match="no replica of demo is alive"):
            async with net.client.stream("demo", "Demo.Count"):
                pass


async def test_a_connection_that_breaks_ends_streams_on_both_sides(tmp_path: Path) -> None:
    engine = NatsServer(tmp_path, 8 * 1024 * 1024 + 256 * 1024)
    try:
        async with nats_net(engine.url) as net:
            waiting = Waiting()
            await net.serve(waiting.endpoint)
            async with net.client.stream("demo", "Demo.Waiting") as stream:
                assert await anext(stream) == b'"here"'
                engine.kill()
                with pytest.raises(errors.ConnectionLost, match="NATS broke"):
                    await anext(stream)
            await until(lambda: waiting.ended)
    finally:
        engine.kill()


async def test_a_stream_whose_caller_vanishes_before_it_is_taken_is_cancelled(
    nats_url: str,
) -> None:
    waiting = Waiting()
    async with nats_net(nats_url) as net:
        await net.serve(waiting.endpoint)
        opening = asyncio.create_task(net.client.open(_call("Waiting")))
        await until(lambda: net.replicas[0].server.active or opening.done())
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await opening).close()
        await until(lambda: waiting.ended or not net.replicas[0].server.active)


async def test_an_error_after_messages_is_told_in_order(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        await net.serve(fails)
        async with by_nats.connect(nats_url) as nc:
            heard: asyncio.Queue[Msg] = asyncio.Queue()
            await nc.subscribe("my.other", cb=heard.put)
            opening = {"Micro-Stream": "open"}
            await nc.publish("rpc.demo.Demo.Fails", b'{"after":1}', "my.other", opening)
            ready, first, failure = [await heard.get() for _ in range(3)]
        assert ready.headers == {"Micro-Stream": "ready"}
        assert ready.reply.startswith("rpc.demo.$.node")
        assert (first.data, first.headers) == (b"0", None)
        assert failure.headers is not None
        assert failure.headers["Nats-Service-Error"] == "enough"
        assert (ERROR, failure.data[:1]) == (ERROR, b"{")
