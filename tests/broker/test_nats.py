"""What only the broker on NATS does: sharing subscriptions, foreign clients, a server that dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg

from microcosmos.base import errors
from microcosmos.broker import Message, Messages, Subscriber
from microcosmos.broker import nats as broker_nats
from microcosmos.broker.nats import NatsBroker
from microcosmos.rpc.nats import connect, settle
from microcosmos.testing.engine import nats_server

from ..rpc.wires import NatsServer
from .nets import Heard, until


@contextlib.asynccontextmanager
async def broker(url: str) -> AsyncIterator[NatsBroker]:
    async with connect(url) as nc:
        opened = NatsBroker(nc)
        yield opened
        await opened.close()


async def test_many_subscribers_are_one_subscription(nats_url: str) -> None:
    async with broker(nats_url) as ours:
        everybody = [Heard() for _ in range(100)]
        open_ones = [await ours.subscribe("one.*", heard) for heard in everybody]
        assert len(ours._nc._subs) == 1
        await ours.publish("one.a", b"{}")
        for heard in everybody:
            await heard.first(1)
        received = ours._nc.stats["in_msgs"]
        assert received == 1
        for subscription in open_ones:
            await subscription.close()
        # What is left is where failures are reported to.
        assert len(ours._nc._subs) == 1


async def test_a_foreign_client_publishes_and_hears(nats_url: str) -> None:
    foreign = await nats.connect(nats_url)
    try:
        async with broker(nats_url) as ours:
            heard = Heard()
            await ours.subscribe("foreign.>", heard)
            await foreign.publish("broker.foreign.bare", b"1")
            await foreign.publish(
                "broker.foreign.told", b"2", reply="x.y", headers={"foo-BAR": "baz"}
            )
            bare, told = await heard.first(2)
            assert (bare.topic, bare.headers, bare.report) == ("foreign.bare", {}, "")
            assert (told.headers, told.report) == ({"Foo-Bar": "baz"}, "")

            theirs = await foreign.subscribe("broker.ours")
            await settle(foreign)
            await Messages(ours, "p").publish("ours", {"a": 1}, metadata={"x": "y"})
            message = await theirs.next_msg(5)
            assert message.data == b'{"a":1}'
            assert message.headers is not None
            assert message.headers["X"] == "y"
            assert message.headers["Content-Type"] == "application/json"
    finally:
        await foreign.close()


@pytest.mark.parametrize("header", ["x.y", "a.1.2", ">.1", "a.*", "a b.1", "$JS.1", "", "é.1"])
async def test_failures_are_told_to_no_subject_of_a_publishers_choice(
    nats_url: str, header: str
) -> None:
    foreign = await nats.connect(nats_url)
    try:
        async with broker(nats_url) as ours:

            async def handle() -> None:
                raise errors.Conflict("x", "no")

            seen: list[str] = []

            async def spy(msg: Msg) -> None:
                seen.append(msg.subject)

            await foreign.subscribe(">", cb=spy)
            await foreign.flush()
            async with Subscriber(handle, "spied.on").on(ours, service="s"):
                headers = {"Micro-Report": header, "Authorization": "Bearer x", "Micro-Evil": "1"}
                await foreign.publish("broker.spied.on", b"1", reply="a.b", headers=headers)
                await until(lambda: ours.failures.failed)
            await settle(ours._nc)
            await foreign.flush()
            assert [one for one in seen if not one.startswith("_INBOX")] == ["broker.spied.on"]
    finally:
        await foreign.close()


async def test_a_foreign_header_that_is_not_for_handlers_is_left_out(nats_url: str) -> None:
    foreign = await nats.connect(nats_url)
    try:
        async with broker(nats_url) as ours:
            heard = Heard()
            await ours.subscribe("left.out", heard)
            headers = {"authorization": "Bearer x", "Micro-Namespace": "other", "Micro-Key": "k"}
            await foreign.publish("broker.left.out", b"1", headers=headers)
            (message,) = await heard.first(1)
            assert message.headers == {"Micro-Key": "k"}
    finally:
        await foreign.close()


async def test_who_hears_everything_hears_no_reports(nats_url: str) -> None:
    async with broker(nats_url) as ours:
        everything = Heard()
        await ours.subscribe(">", everything)

        async def handle() -> None:
            raise errors.Conflict("x", "no")

        async with Subscriber(handle, "fails").on(ours, service="s"):
            await ours.publish("fails", b"1")
            await until(lambda: ours.failures.reported)
            await ours.publish("after", b"1")
            await until(lambda: "after" in [message.topic for message in everything])
        assert all(message.body == b"1" for message in everything)


async def test_nobody_answers_that_nobody_listens(nats_url: str) -> None:
    async with broker(nats_url) as ours:
        for _ in range(10):
            await ours.publish("nobody.listens", b"1")
        await settle(ours._nc)
        assert ours._nc.stats["in_msgs"] == 0


async def test_a_server_that_comes_back_is_heard_again(own_nats: NatsServer) -> None:
    async with broker(own_nats.url) as publisher, broker(own_nats.url) as subscriber:
        heard = Heard()
        await subscriber.subscribe("t", heard)
        await subscriber.subscribe("t", Heard(), queue="q")
        await publisher.publish("t", b"before")
        await heard.first(1)
        own_nats.kill()
        await until(lambda: not publisher._nc.is_connected)
        await publisher.publish("t", b"meanwhile")
        own_nats.start()
        await until(lambda: subscriber._nc.is_connected and publisher._nc.is_connected)
        while b"after" not in heard.bodies:
            await publisher.publish("t", b"after")
            await asyncio.sleep(0.01)


async def test_while_the_server_is_away_only_so_much_waits(own_nats: NatsServer) -> None:
    async with broker(own_nats.url) as ours:
        await ours.publish("t", b"1")
        own_nats.kill()
        await until(lambda: not ours._nc.is_connected)

        async def flood() -> None:
            for _ in range(100):
                await ours.publish("t", b"x" * 100_000)

        with pytest.raises(errors.Unavailable, match="try again"):
            await flood()


async def test_a_closed_connection(nats_url: str) -> None:
    async with connect(nats_url) as nc:
        ours = NatsBroker(nc)
    with pytest.raises(errors.Unavailable):
        await ours.publish("t", b"1")
    with pytest.raises(errors.Unavailable):
        await ours.subscribe("t", Heard())
    with pytest.raises(errors.Unavailable):
        await ours.subscribe("t", Heard(), queue="q")
    await ours.close()


async def test_what_the_server_would_close_the_connection_for(own_nats: NatsServer) -> None:
    async with broker(own_nats.url) as ours:
        heard = Heard()
        await ours.subscribe("t", heard)
        limit = 1024 * 1024
        with pytest.raises(errors.TooLarge, match=str(limit)):
            await ours.publish("t", b"x" * limit, {"a": "b" * 100})
        await ours.publish("t", b"x" * (limit - 1000), {"a": "b" * 100})
        (message,) = await heard.first(1)
        assert len(message.body) == limit - 1000


async def test_a_process_that_is_far_behind_counts_what_is_dropped(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker_nats, "MAX_PENDING", 10)
    # Each message is a turn of the loop, so that they come faster than they are handed on.
    monkeypatch.setattr(broker_nats, "_TURN", 1)
    async with broker(nats_url) as ours, broker(nats_url) as publisher:
        heard = Heard()
        await ours.subscribe("flood", heard)
        for number in range(5000):
            await publisher.publish("flood", str(number).encode())
        await settle(publisher._nc)
        await settle(ours._nc)
        await until(lambda: len(heard) + ours.failures.dropped["flood"] == 5000)
        assert ours.failures.dropped["flood"] > 0
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 3
    assert lines[0] == "this process is too slow for flood: 10 wait, a message is dropped"


async def test_a_subscription_that_is_given_up_while_it_begins_leaves_nothing(
    nats_url: str,
) -> None:
    async with broker(nats_url) as ours:
        for _ in range(5):
            beginning = asyncio.create_task(ours.subscribe("t", Heard()))
            await asyncio.sleep(0)
            beginning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beginning
        await settle(ours._nc)
        assert not ours._heard
        assert not ours._nc._subs
        heard = Heard()
        await ours.subscribe("t", heard)
        await ours.publish("t", b"1")
        await heard.first(1)


async def test_what_is_on_its_way_to_who_leaves_is_handed_on(nats_url: str) -> None:
    async with broker(nats_url) as ours, broker(nats_url) as publisher:
        heard = Heard()
        mine = await ours.subscribe("leaving", heard, queue="q")
        for _ in range(3000):
            await publisher.publish("leaving", b"x" * 1000)
        # A plain flush of nats-py overtakes what waits to be written.
        await settle(publisher._nc)
        before = len(heard)
        await mine.close()
        assert before < len(heard) == 3000


async def test_who_leaves_and_who_comes_at_the_same_time(nats_url: str) -> None:
    async with broker(nats_url) as ours:
        for _ in range(20):
            old = await ours.subscribe("turn", Heard())
            heard = Heard()
            _, new = await asyncio.gather(old.close(), ours.subscribe("turn", heard))
            await ours.publish("turn", b"1")
            await heard.first(1)
            await new.close()
        assert not ours._heard


async def test_a_burst_leaves_others_their_turn(nats_url: str) -> None:
    async with broker(nats_url) as ours, broker(nats_url) as publisher:
        messages: list[Message] = []
        for _ in range(500):
            await ours.subscribe("burst", messages.append)
        turns: list[int] = []

        async def others() -> None:
            while True:
                turns.append(len(messages))
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        for _ in range(200):
            await publisher.publish("burst", b"1")
        await until(lambda: len(messages) == 100_000)
        task.cancel()
        gaps = [after - before for before, after in itertools.pairwise(turns)]
        assert max(gaps) <= 2000


async def test_what_the_engine_does_not_allow_is_an_error_and_no_silence(tmp_path: Path) -> None:
    deny = '{ user: ann, password: x, permissions: { subscribe: { deny: ["broker.secret.>"] } } }'
    settings = tmp_path / "nats.conf"
    settings.write_text(f"authorization {{ users: [{deny}] }}")
    async with (
        nats_server(tmp_path, "-c", str(settings)) as url,
        broker(url.replace("//", "//ann:x@")) as ours,
    ):
        with pytest.raises(errors.Forbidden, match=r"broker\.secret\.Plans"):
            await ours.subscribe("secret.Plans", Heard())
        with pytest.raises(errors.Forbidden):
            await ours.subscribe("secret.>", Heard(), queue="q")
        heard = Heard()
        await ours.subscribe("open", heard)
        await ours.publish("open", b"1")
        await heard.first(1)


async def test_closing_twice_at_once(nats_url: str) -> None:
    async with broker(nats_url) as ours:
        one = await ours.subscribe("twice", Heard())
        await asyncio.gather(one.close(), one.close())
        assert not ours._heard
