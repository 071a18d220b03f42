"""The events service: who may what, Micro's streams, and lines that break."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from microcosmos.base import codec, errors
from microcosmos.events import wire
from microcosmos.events.interface import BEGINNING, Draft, Event, GroupSpec
from microcosmos.events.memory import MemoryLog
from microcosmos.events.wire import Piece, Whole, pieces

from .hall import Hall

SECOND = 1_000_000_000


async def refused(hall: Hall, who: str, endpoint: str, request: Any = None, **more: Any) -> int:
    """The code of the error that an endpoint answers by; 200 if by none."""
    try:
        await hall.ask(who, endpoint, request, **more)
    except errors.Error as error:
        return error.code
    return 200


async def until(true: Any) -> None:
    async with asyncio.timeout(60):
        while not await true():  # noqa: ASYNC110 - the log does not tell
            await asyncio.sleep(0.005)


def settled(log: MemoryLog, name: str = "g") -> Any:
    async def is_settled() -> bool:
        states = [one for one in await log.groups() if one.name == name]
        return bool(states) and not (states[0].pending or states[0].lag)

    return is_settled


# Who may.

TOPIC = {"topic": "orders"}
GROUP = {**TOPIC, "group": "g"}
DRAFT = {"topic": "orders", "payload": ""}
ASKED = {
    "Stream.Publish": (DRAFT, "publish"),
    "Stream.Append": ({"drafts": [DRAFT]}, "publish"),
    "Schedules.Create": ({"id": "s", "draft": DRAFT, "when": "@every 1h"}, "publish"),
    "Schedules.Delete": ({"id": "made"}, "publish"),
    "Stream.Join": ({"spec": {"topic": "orders"}}, "consume"),
    "Store.Read": (TOPIC, "read"),
    "Topics.List": (TOPIC, "read"),
    "Topics.Inspect": (TOPIC, "read"),
    "Groups.List": (TOPIC, "read"),
    "DeadLetters.List": (TOPIC, "read"),
    "Schedules.List": (TOPIC, "read"),
    "Topics.Create": (TOPIC, "admin"),
    "Topics.Delete": (TOPIC, "admin"),
    "Topics.Purge": (TOPIC, "admin"),
    "Groups.Reset": (GROUP, "admin"),
    "Groups.Delete": (GROUP, "admin"),
    "DeadLetters.Redrive": (TOPIC, "admin"),
}
STREAMS = {
    "Stream.Consume": (TOPIC, "consume"),
    "Stream.Pull": ({"spec": {"topic": "orders"}}, "consume"),
    "Store.Scan": (TOPIC, "read"),
    "DeadLetters.Scan": (TOPIC, "read"),
}


async def stocked(**options: Any) -> Hall:
    """A hall with a topic that has a group, an event and a schedule."""
    hall = Hall(**options)
    log = hall.of("root")
    await log.publish(Draft("orders", b"{}"))
    async with log.group(GroupSpec("orders", "g")):
        pass
    schedule = {"id": "made", "draft": DRAFT, "when": "@every 1h"}
    await hall.ask("root", "Schedules.Create", schedule)
    return hall


@pytest.mark.parametrize("endpoint", ASKED)
async def test_each_endpoint_asks_for_its_verb_of_the_topic(endpoint) -> None:
    request, verb = ASKED[endpoint]
    # What joins at the engine is not offered by a log in memory, to who may.
    fine = 501 if endpoint == "Stream.Join" else 200
    for who, wanted in {
        "": 401,
        "foreign": 403,
        "jane": 403,
        "shop": 403 if verb == "admin" else fine,
        "root": fine,
    }.items():
        hall = await stocked()
        assert await refused(hall, who, endpoint, request) == wanted, who
    for others in {"publish", "consume", "read", "admin"} - {verb}:
        hall = await stocked()
        hall.topic_rule("orders", others, scope="readers")
        assert await refused(hall, "jane", endpoint, request) == 403, others
    hall = await stocked()
    hall.topic_rule("orders", verb, scope="readers")
    assert await refused(hall, "jane", endpoint, request) == fine


@pytest.mark.parametrize("endpoint", STREAMS)
async def test_each_stream_asks_for_its_verb_of_the_topic(endpoint) -> None:
    request, verb = STREAMS[endpoint]

    async def opened(hall: Hall, who: str) -> int:
        try:
            async with hall.stream(who, endpoint, request) as stream:
                asking = asyncio.ensure_future(anext(stream, None))
                # Who is let in may have nothing to be told; who is not is told so in a few turns.
                for _ in range(100):
                    await asyncio.sleep(0)
                if asking.done():
                    await asking
                asking.cancel()
        except errors.Error as error:
            return error.code
        return 200

    hall = await stocked()
    found = {who: await opened(hall, who) for who in ("", "foreign", "jane", "shop", "root")}
    assert found == {"": 401, "foreign": 403, "jane": 403, "shop": 200, "root": 200}
    hall.topic_rule("orders", verb, scope="readers")
    assert await opened(hall, "jane") == 200
    hall.topic_rule("orders", verb, access="DENIED")
    assert await opened(hall, "shop") == 403


async def test_a_batch_that_has_one_topic_too_many_stores_nothing() -> None:
    hall = Hall()
    hall.topic_rule("orders", "publish", scope="readers")
    drafts = {"drafts": [DRAFT, {**DRAFT, "topic": "payments"}]}
    assert await refused(hall, "jane", "Stream.Append", drafts) == 403
    big = b"x" * wire.MAX_REMOTE
    with pytest.raises(errors.Forbidden):
        await hall.of("jane").publish(Draft("orders", big), Draft("payments", big))
    assert await hall.logs["micro"].topics() == []


async def test_the_core_takes_only_so_much_at_once(monkeypatch) -> None:
    hall = Hall()
    drafts = [Draft("orders", b"x" * wire.MAX_REMOTE) for _ in range(3)]
    monkeypatch.setattr(wire, "MAX_UPLOAD", 2 * wire.MAX_REMOTE)
    with pytest.raises(errors.TooLarge, match="in parts"):
        await hall.of("shop").publish(*drafts)
    async with hall.stream("shop", "Stream.Upload") as stream:
        with pytest.raises(errors.TooLarge):
            await upload(stream, drafts)
    assert await hall.logs["micro"].topics() == []


async def upload(stream: Any, drafts: list[Draft]) -> None:
    for draft in drafts:
        for piece in pieces(draft):
            await stream.send(codec.encode(piece))
    await stream.end()
    async for _ in stream:
        pass


async def test_who_may_read_some_topics_is_told_of_those() -> None:
    hall = await stocked()
    await hall.of("root").publish(Draft("payments", b"{}"))
    assert await refused(hall, "jane", "Topics.List") == 403
    hall.topic_rule("orders", "read", scope="readers")
    assert [one["topic"] for one in (await hall.ask("jane", "Topics.List"))["topics"]] == ["orders"]
    assert len((await hall.ask("root", "Topics.List"))["topics"]) == 2


async def test_a_service_may_reset_and_redrive_the_group_of_its_own_name() -> None:
    hall = Hall()
    log = hall.of("shop")
    await log.publish(Draft("orders", b"{}"))
    async with log.group(GroupSpec("orders", "shop", BEGINNING)) as group:
        (delivery,) = await group.pull(1)
        await group.bury(delivery, "bad")
    assert await log.redrive("orders", group="shop") == 1
    await log.reset("orders", "shop", BEGINNING)
    await log.forget("orders", "shop")
    with pytest.raises(errors.Forbidden):
        await log.redrive("orders")


async def test_namespaces_do_not_see_each_other() -> None:
    hall = Hall()
    await hall.of("shop").publish(Draft("orders", b"micro"))
    await hall.of("foreign").publish(Draft("orders", b"foo"))
    for who, payload in {"shop": b"micro", "foreign": b"foo"}.items():
        assert [one.payload for one in await hall.of(who).read("orders")] == [payload]
    read = await hall.ask("root", "Store.Read", TOPIC, namespace="foo")
    assert base64.b64decode(read["events"][0]["payload"]) == b"foo"
    assert await refused(hall, "anna", "Store.Read", TOPIC) == 403
    assert await refused(hall, "root", "Store.Read", TOPIC, namespace="bar") == 404


async def test_a_stream_ends_when_its_caller_may_have_no_more() -> None:
    hall = await stocked()
    async with (
        hall.stream("shop", "Stream.Consume", {**TOPIC, "offset": 1}) as stream,
        hall.of("shop").group(GroupSpec("orders", "other")) as group,
    ):
        pulling = asyncio.ensure_future(group.pull(1))
        await stream.__anext__()
        hall.topic_rule("orders", "consume", access="DENIED")
        await hall.of("root").publish(Draft("orders", b"secret"))
        with pytest.raises(errors.Forbidden):
            await stream.__anext__()
        with pytest.raises(errors.Forbidden):
            await pulling


async def test_what_is_removed_is_noted() -> None:
    hall = await stocked()
    await hall.ask("root", "Topics.Purge", TOPIC)
    await hall.ask("root", "Groups.Reset", GROUP)
    await hall.ask("root", "Groups.Delete", GROUP)
    await hall.ask("root", "Topics.Delete", TOPIC)
    assert hall.audited == [
        ("topic purged", "orders", "1 events"),
        ("group reset", "orders/g", ""),
        ("group deleted", "orders/g", ""),
        ("topic deleted", "orders", "0 events"),
    ]


# Contracts.


class OnlyObjects:
    """Lets only objects be published, by schema 7."""

    async def check(self, namespace: str, draft: Draft) -> Draft:
        import msgspec

        if not draft.payload.startswith(b"{"):
            raise errors.BadRequest("schemas", f"{draft.topic} of {namespace} takes objects")
        return msgspec.structs.replace(draft, schema=7)


async def test_what_is_published_is_checked() -> None:
    hall = Hall(contracts=OnlyObjects())
    log = hall.of("shop")
    await log.publish(Draft("orders", b"{}"))
    assert [one.schema for one in await log.read("orders")] == [7]
    with pytest.raises(errors.BadRequest, match="orders of micro takes objects"):
        await log.publish(Draft("orders", b"{}"), Draft("orders", b"1"))
    bad = {"id": "s", "draft": {**DRAFT, "payload": "MQ=="}, "when": "@every 1h"}
    assert await refused(hall, "shop", "Schedules.Create", bad) == 400
    assert len(await log.read("orders")) == 1


# Micro's streams.


async def test_consumers_without_acknowledgements_are_sent_each_event_once() -> None:
    hall = await stocked()
    async with hall.stream("shop", "Stream.Consume", {**GROUP, "limit": 1}) as stream:
        await hall.of("shop").publish(Draft("orders", b"1", metadata={"a": "b"}, key="k"))
        event = codec.decode(await stream.__anext__())
        assert (event["payload"], event["metadata"], event["key"]) == ("MQ==", {"A": "b"}, "k")
        assert isinstance(event["timestamp"], int)
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()
    await until(settled(hall.logs["micro"]))


async def test_an_event_is_sent_again_as_late_as_its_refusal_says() -> None:
    hall = Hall()
    await hall.of("shop").publish(Draft("orders", b"1", id="one"), Draft("orders", b"2", id="two"))
    request = {**GROUP, "offset": 1, "auto_ack": False, "ack_wait": 60 * SECOND}
    async with hall.stream("shop", "Stream.Consume", request) as stream:
        for _ in range(2):
            await stream.__anext__()
        await stream.send(b'{"id":"one","success":false,"delay":0.3}')
        await stream.send(b'{"id":"two","success":false}')
        again = [codec.decode(await stream.__anext__())["id"] for _ in range(2)]
        assert again == ["two", "one"]


async def test_events_of_one_name_are_acknowledged_one_by_one() -> None:
    hall = Hall()
    log = hall.logs["micro"]
    for _ in range(2):
        await log.publish(Draft("orders", b"1", id="same"))
        log._ids.clear()  # as after the window in which one is not stored again
    request = {**GROUP, "offset": 1, "auto_ack": False, "ack_wait": 60 * SECOND, "limit": 2}
    async with hall.stream("shop", "Stream.Consume", request) as stream:
        for _ in range(2):
            await stream.__anext__()
        for left in (1, 0):
            await stream.send(b'{"id":"same","success":true}')

            async def pending(left=left) -> bool:
                return (await log.groups())[0].pending == left

            await until(pending)
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()


async def test_an_event_that_no_message_carries_is_a_dead_letter_and_the_next_comes() -> None:
    hall = Hall()
    log = hall.of("shop")
    await log.publish(Draft("orders", b"x" * (wire.MAX_REMOTE + 1)), Draft("orders", b"1"))
    async with hall.stream("shop", "Stream.Consume", {**GROUP, "offset": 1}) as stream:
        assert codec.decode(await stream.__anext__())["payload"] == "MQ=="
    [letter] = await log.dead()
    assert "one message carries" in letter.reason
    assert await refused(hall, "shop", "Store.Read", TOPIC) == 413
    assert await refused(hall, "shop", "DeadLetters.List", TOPIC) == 413
    read = await hall.ask("shop", "Store.Read", {**TOPIC, "offset": 1})
    assert len(read["events"]) == 1


async def test_a_read_gives_fewer_events_when_they_are_large() -> None:
    hall = Hall()
    half = b"x" * (wire.MAX_REMOTE // 2)
    await hall.of("shop").publish(*(Draft("orders", half) for _ in range(3)))
    assert len((await hall.ask("shop", "Store.Read", TOPIC))["events"]) == 2
    assert len(await hall.of("shop").read("orders")) == 3


async def test_what_is_for_one_group_alone_is_sent_to_no_other() -> None:
    hall = Hall()
    log = hall.of("shop")
    await log.publish(Draft("orders", b"1"))
    async with log.group(GroupSpec("orders", "shop", BEGINNING)) as group:
        (delivery,) = await group.pull(1)
        await group.bury(delivery, "bad")
    await log.redrive("orders", group="shop")
    await log.publish(Draft("orders", b"2"))
    request = {"topic": "orders", "start": {"sequence": 2}, "limit": 1}
    async with hall.stream("shop", "Stream.Consume", request) as stream:
        assert codec.decode(await stream.__anext__())["payload"] == "Mg=="


async def test_a_consumer_that_reads_slowly_keeps_what_waits_for_it() -> None:
    hall = Hall()
    log = hall.of("shop")
    await log.publish(*(Draft("orders", b"x" * 200_000) for _ in range(5)))
    request = {**GROUP, "offset": 1, "ack_wait": SECOND}
    async with hall.stream("shop", "Stream.Consume", request) as slow:
        await slow.__anext__()
        async with log.group(GroupSpec("orders", "g", ack_wait=1)) as other:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await other.pull(1)
        for _ in range(4):
            await slow.__anext__()
    await until(settled(hall.logs["micro"]))


# Lines.


async def test_a_member_whose_line_is_lost_pulls_on_a_new_one() -> None:
    hall = Hall()
    log = hall.of("shop")
    await log.publish(Draft("orders", b"1"), Draft("orders", b"2"))
    async with log.group(GroupSpec("orders", "g", BEGINNING)) as group:
        (first,) = await group.pull(1)
        (second,) = await group.pull(1)
        pulling = asyncio.ensure_future(group.pull(2))
        await asyncio.sleep(0)
        await group._line._stream.close(errors.ConnectionLost("events", "it broke"))
        with pytest.raises(errors.Unavailable, match="it broke"):
            await pulling
        with pytest.raises(errors.Unavailable, match="given out again"):
            await group.ack_sync(first)
        found: dict[bytes, int] = {}
        while len(found) < 2:
            for delivery in await group.pull(2):
                found[delivery.event.payload] = delivery.attempt
                await group.ack_sync(delivery)
        assert found == {b"1": 2, b"2": 2}
        assert second.attempt == 1
    await until(settled(hall.logs["micro"]))


async def test_a_publisher_goes_on_while_the_core_is_away() -> None:
    hall = Hall()
    log = hall.of("shop")
    hall.network.leave(hall.server)
    publishing = asyncio.ensure_future(log.publish(Draft("orders", b"1")))
    await asyncio.sleep(0.05)
    assert not publishing.done()
    hall.network.join(hall.server)
    await publishing
    assert len(await log.read("orders")) == 1


def test_something_large_travels_in_pieces() -> None:
    event = Event("id", "orders", payload=b"x" * (3 * wire.PIECE))
    sent = [codec.encode(piece) for piece in pieces(event)]
    assert len(sent) == 5
    assert max(map(len, sent)) < 2 * wire.PIECE
    whole = Whole(Event, 8 * wire.PIECE)
    found = [whole.add(codec.decode(one, Piece)) for one in sent]
    assert found == [None, None, None, None, event]
    with pytest.raises(errors.BadRequest, match="more than"):
        Whole(Event, 1000).add(codec.decode(sent[0], Piece))
