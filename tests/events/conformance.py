"""What every log does, written once; `test_logs` runs it on each."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from microcosmos.base import errors
from microcosmos.base.topics import MAX_TOPIC
from microcosmos.events.checks import LONGEST_TTL, MAX_METADATA, MAX_NAME, MAX_REASON
from microcosmos.events.interface import (
    BEGINNING,
    MAX_BATCH,
    MAX_PAYLOAD,
    Delivery,
    Draft,
    Group,
    GroupSpec,
    Schedule,
    Start,
    partition,
)

from .worlds import Open, World, draft, payloads, publish, spec

GOOD = {
    "0 3 * * *": "0 0 3 * * *",
    "15,45 */2 1-7 JAN-MAR mon": "0 15,45 */2 1-7 JAN-MAR MON",
    "*/10 * * * * *": "*/10 * * * * *",
    "5/15 0 0 ? * 0-6": "5/15 0 0 ? * 0-6",
    "0 0 29 2 *": "0 0 0 29 2 *",
    "  0  3 * * * ": "0 0 3 * * *",
    "@Daily": "@daily",
    "@midnight": "@midnight",
    "@yearly": "@yearly",
    "@annually": "@annually",
    "@monthly": "@monthly",
    "@weekly": "@weekly",
    "@hourly": "@hourly",
    "@every 90s": "@every 90s",
    "@every 1h30m": "@every 5400s",
    "@every 1500ms": "@every 1.5s",
    "@every 87600h": "@every 315360000s",
    "@at 2999-01-01T00:00:00Z": "@at 2999-01-01T00:00:00Z",
    "@at 2150-01-01T01:00:00.5+01:00": "@at 2150-01-01T00:00:00.500000Z",
}
"""Schedules that are taken, and what they are then."""

BAD = [
    "",
    "x",
    "* * * *",
    "* * * * * * *",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * * 13 *",
    "* * * * 7",
    "* * * * 8",
    "* * * * fri-mon",
    "5-1 * * * *",
    "*/0 * * * *",
    "1,,2 * * * *",
    "L * * * *",
    "0 0 L * *",
    "0 0 LW * *",
    "0 0 * * 5L",
    "0 0 * * MON#2",
    "0 0 30 2 *",
    "-1 * * * *",
    "1.5 * * * *",
    "é * * * *",
    "* * * * *\r\nNats-Msg-Id: x",
    "@reboot",
    "@every",
    "@every x",
    "@every 1d",
    "@every -5s",
    "@every 0s",
    "@every 999ms",
    "@every 1e9s",
    "@every 999999999999h",
    "@at",
    "@at x",
    "@at 2026-01-01",
    "@at 2026-01-01T00:00:00",
    "@at 9999-12-31T23:59:59-12:00",
    "@at 0001-01-01T00:00:00Z",
]
"""Schedules that are refused."""


def keys_of(number: int) -> list[str]:
    """Keys that are in different parts of the log."""
    found = {partition(f"k{each}"): f"k{each}" for each in range(1000)}
    return [*found.values()][:number]


class LogConformance:
    """What every log does.

    A class of tests gives the fixture ``opened``: a function that opens a `World`.
    """

    # Publishing and reading.

    async def test_what_is_published_is_read(self, opened: Open) -> None:
        async with opened() as world:
            before = world.now()
            (receipt,) = await world.log.publish(
                draft("orders.placed", b'{"a":1}', id="one", key="u1", metadata={"foo-bar": "ä b"})
            )
            assert (receipt.id, receipt.duplicate) == ("one", False)
            (event,) = await world.log.read("orders.placed")
            assert (event.id, event.topic, event.payload) == ("one", "orders.placed", b'{"a":1}')
            assert (event.key, event.metadata) == ("u1", {"Foo-Bar": "ä b"})
            assert event.sequence == receipt.sequence > 0
            assert before - 1 <= event.timestamp <= world.now() + 1
            assert event.unmarshal() == {"a": 1}

    async def test_an_id_is_made_up(self, opened: Open) -> None:
        async with opened() as world:
            one, other = [(await world.log.publish(draft()))[0].id for _ in "12"]
            assert one
            assert one != other
            assert [event.id for event in await world.log.read("t")] == [one, other]

    async def test_the_publishers_time_is_told(self, opened: Open) -> None:
        async with opened() as world:
            await world.log.publish(draft(timestamp=1_500_000_000.25))
            (event,) = await world.log.read("t")
            assert event.timestamp == 1_500_000_000.25

    async def test_what_was_published_already_is_not_stored_again(self, opened: Open) -> None:
        async with opened() as world:
            (first,) = await world.log.publish(draft(payload=b"1", id="one"))
            (again,) = await world.log.publish(draft(payload=b"2", id="one"))
            assert not first.duplicate
            assert (again.id, again.duplicate) == ("one", True)
            assert [event.payload for event in await world.log.read("t")] == [b"1"]

    async def test_any_bytes_are_kept(self, opened: Open) -> None:
        async with opened() as world:
            for payload in (b"", b"\x00\xff\r\n", b"x" * 300_000):
                await world.log.publish(draft(payload=payload))
            read = [event.payload for event in await world.log.read("t")]
            assert read == [b"", b"\x00\xff\r\n", b"x" * 300_000]

    async def test_the_largest_payload_is_kept_and_a_larger_one_refused(self, opened: Open) -> None:
        async with opened() as world:
            await world.log.publish(draft(payload=b"x" * MAX_PAYLOAD))
            with pytest.raises(errors.TooLarge, match="blob"):
                await world.log.publish(draft(payload=b"x" * (MAX_PAYLOAD + 1)))
            (event,) = await world.log.read("t")
            assert len(event.payload) == MAX_PAYLOAD

    async def test_a_batch_is_stored_in_order(self, opened: Open) -> None:
        async with opened() as world:
            drafts = [draft(f"t.{number % 2}", str(number).encode()) for number in range(20)]
            receipts = await world.log.publish(*drafts)
            sequences = [one.sequence for one in receipts]
            assert sequences == sorted(sequences)
            read = await world.log.read("t.*")
            assert [event.payload for event in read] == [one.payload for one in drafts]
            assert [event.id for event in read] == [one.id for one in receipts]

    async def test_a_batch_of_the_most_events(self, opened: Open) -> None:
        async with opened() as world:
            drafts = [draft(payload=b"%d" % number) for number in range(MAX_BATCH)]
            assert len(await world.log.publish(*drafts)) == MAX_BATCH
            assert len(await world.log.read("t", limit=MAX_BATCH)) == MAX_BATCH
            with pytest.raises(errors.TooLarge, match=str(MAX_BATCH)):
                await world.log.publish(*drafts, draft())

    async def test_of_a_bad_batch_nothing_is_stored(self, opened: Open) -> None:
        async with opened() as world:
            with pytest.raises(errors.BadRequest):
                await world.log.publish(draft("t"), draft("not a topic"))
            with pytest.raises(errors.BadRequest, match="same id"):
                await world.log.publish(draft(id="x"), draft(id="x"))
            assert await world.log.read(">") == []

    async def test_a_batch_that_is_there_already_is_not_stored_again(self, opened: Open) -> None:
        async with opened() as world:
            drafts = [draft(id=id) for id in "abc"]
            await world.log.publish(*drafts)
            again = await world.log.publish(*drafts)
            assert [(one.id, one.duplicate) for one in again] == [(id, True) for id in "abc"]
            assert len(await world.log.read("t")) == 3

    async def test_of_a_batch_what_is_not_there_yet_is_stored(self, opened: Open) -> None:
        async with opened() as world:
            await world.log.publish(draft(id="b"))
            receipts = await world.log.publish(*[draft(id=id) for id in "abc"])
            assert [one.duplicate for one in receipts] == [False, True, False]
            assert sorted(event.id for event in await world.log.read("t")) == ["a", "b", "c"]

    async def test_nothing_is_published_by_nothing(self, opened: Open) -> None:
        async with opened() as world:
            assert await world.log.publish() == []

    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (draft(""), "no topic"),
            (draft("a b"), "no topic"),
            (draft("a..b"), "no topic"),
            (draft("a.*"), "no topic"),
            (draft(">"), "no topic"),
            (draft("a" * (MAX_TOPIC + 1)), "no topic"),
            (draft(id="a b"), "the id"),
            (draft(id="a\r\nb"), "the id"),
            (draft(id="x" * (MAX_NAME + 1)), "the id"),
            (draft(id="seq:5"), "own"),
            (draft(key="a b"), "the key"),
            (draft(key="é"), "the key"),
            (draft(metadata={"a b": "x"}), "name of metadata"),
            (draft(metadata={"a": "x\r\ny"}), "cannot be sent"),
            (draft(metadata={"Nats-Msg-Id": "x"}), "platform"),
            (draft(metadata={"micro-group": "x"}), "platform"),
            (draft(metadata={"authorization": "Bearer x"}), "not for events"),
            (draft(timestamp=-1), "timestamp"),
            (draft(timestamp=float("nan")), "timestamp"),
            (draft(ttl=-1), "TTL"),
            (draft(ttl=float("inf")), "TTL"),
            (draft(ttl=LONGEST_TTL * 2), "TTL"),
            (draft(group="a b"), "group"),
        ],
    )
    async def test_what_cannot_be_an_event_is_refused(
        self, opened: Open, bad: Draft, why: str
    ) -> None:
        async with opened() as world:
            with pytest.raises(errors.BadRequest, match=why) as caught:
                await world.log.publish(bad)
            assert "\n" not in str(caught.value)
            assert await world.log.read(">") == []

    async def test_metadata_has_a_limit(self, opened: Open) -> None:
        async with opened() as world:
            with pytest.raises(errors.TooLarge, match=str(MAX_METADATA)):
                await world.log.publish(draft(metadata={"A": "x" * MAX_METADATA}))
            await world.log.publish(draft(metadata={"A": "x" * (MAX_METADATA - 1)}))

    async def test_a_trace_travels(self, opened: Open) -> None:
        async with opened() as world:
            await world.log.publish(draft(metadata={"micro-trace": "abc"}))
            assert (await world.log.read("t"))[0].metadata == {"Micro-Trace": "abc"}

    async def test_pages(self, opened: Open) -> None:
        async with opened() as world:
            await world.log.publish(*[draft(payload=b"%d" % number) for number in range(10)])
            await publish(world.log, "other", b"x")
            read = world.log.read
            assert [one.payload for one in await read("t", limit=2)] == [b"0", b"1"]
            assert [one.payload for one in await read("t", limit=2, offset=3)] == [b"3", b"4"]
            assert await read("t", offset=10) == []
            everything = await read("t")
            after = everything[6].sequence
            assert await read("t", after=after) == everything[7:]
            assert await read("t", after=after, offset=1, limit=1) == everything[8:9]
            assert await read("t", after=everything[-1].sequence) == []
            assert len(await read(">")) == 11

    @pytest.mark.parametrize(
        "page", [{"limit": 0}, {"limit": MAX_BATCH + 1}, {"offset": -1}, {"after": -1}]
    )
    async def test_bad_pages_are_refused(self, opened: Open, page: dict[str, int]) -> None:
        async with opened() as world:
            with pytest.raises(errors.BadRequest):
                await world.log.read("t", **page)
            with pytest.raises(errors.BadRequest, match="pattern"):
                await world.log.read("a b")

    async def test_patterns_stand_for_topics(self, opened: Open) -> None:
        async with opened() as world:
            for topic in ("a", "a.b", "a.b.c", "x.b"):
                await publish(world.log, topic, b"")
            for pattern, wanted in {
                "a": ["a"],
                "a.*": ["a.b"],
                "a.>": ["a.b", "a.b.c"],
                "*.b": ["a.b", "x.b"],
                "*": ["a"],
                ">": ["a", "a.b", "a.b.c", "x.b"],
            }.items():
                assert [event.topic for event in await world.log.read(pattern)] == wanted
                assert [one.topic for one in await world.log.topics(pattern)] == wanted

    async def test_events_are_forgotten_after_their_ttl(self, opened: Open) -> None:
        async with opened() as world:
            await publish(world.log, "t", b"short", ttl=2)
            await publish(world.log, "t", b"long", ttl=100)
            await publish(world.log, "t", b"kept")
            assert len(await world.log.read("t")) == 3

            async def two() -> bool:
                return len(await world.log.read("t")) == 2

            await world.until(2.1, two)
            assert [one.payload for one in await world.log.read("t")] == [b"long", b"kept"]

    async def test_a_topic_says_how_long_its_events_are_kept(self, opened: Open) -> None:
        async with opened() as world:
            await world.core.create("t", ttl=1)
            assert (await world.core.inspect("t")).ttl == 1
            await publish(world.log, "t", b"short")
            await publish(world.log, "t", b"long", ttl=100)

            async def one() -> bool:
                return len(await world.log.read("t")) == 1

            await world.until(1.1, one)
            await world.core.create("t")
            await publish(world.log, "t", b"kept")
            assert [each.payload for each in await world.log.read("t")] == [b"long", b"kept"]

    # Groups.

    async def test_a_group_is_given_what_is_published(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            await publish(world.log, "other", b"x")
            await world.log.publish(draft(payload=b"1", id="one", key="k", metadata={"A": "b"}))
            (delivery,) = await world.pull(group)
            (event,) = await world.log.read("t")
            assert delivery.event == event
            assert (delivery.attempt, delivery.only) == (1, "")
            await group.ack(delivery)
            assert await world.nothing(group)

    async def test_who_waits_is_given_what_comes(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            pulling = asyncio.create_task(group.pull(10))
            await world.settled()
            assert not pulling.done()
            await publish(world.log, "t", b"1")
            async with asyncio.timeout(60):
                assert payloads(list(await pulling)) == [b"1"]

    async def test_a_pull_gives_at_most_as_many(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            await world.log.publish(*[draft(payload=b"%d" % number) for number in range(10)])
            found: list[bytes] = []
            while len(found) < 10:
                some = await world.pull(group, 3)
                assert 1 <= len(some) <= 3
                found += payloads(some)
            assert found == [b"%d" % number for number in range(10)]
            with pytest.raises(errors.BadRequest):
                await group.pull(0)

    async def test_a_pull_that_is_given_up_takes_nothing(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            for _ in range(3):
                assert await world.nothing(group)
            await publish(world.log, "t", b"1")
            (delivery,) = await world.pull(group)
            assert delivery.attempt == 1

    async def test_members_share_and_groups_do_not(self, opened: Open) -> None:
        async with (
            opened() as world,
            world.log.group(spec()) as one,
            world.log.group(spec()) as two,
            world.log.group(spec(name="other")) as other,
            world.log.group(spec(name="")) as alone,
            world.log.group(spec(name="")) as alone_too,
        ):
            numbers = [b"%d" % number for number in range(6)]
            await publish(world.log, "t", *numbers)
            mine, yours = await world.pull(one, 3), []
            while len(mine) + len(yours) < 6:
                yours += await world.pull(two, 3)
            assert sorted(payloads(mine) + payloads(yours)) == numbers
            assert yours
            for group in (other, alone, alone_too):
                assert payloads(await world.all(group, 6)) == numbers

    async def test_where_a_group_begins(self, opened: Open) -> None:
        async with opened() as world, AsyncExitStack() as stack:
            for topic, payload in (("t", b"1"), ("other", b"x"), ("t", b"2"), ("t", b"3")):
                await publish(world.log, topic, payload)
                await world.later(10)
            one, two, three = await world.log.read("t")
            wanted = {
                Start(): [b"4"],
                BEGINNING: [b"1", b"2", b"3", b"4"],
                Start(sequence=two.sequence): [b"2", b"3", b"4"],
                Start(sequence=two.sequence - 1): [b"2", b"3", b"4"],
                Start(sequence=1): [b"1", b"2", b"3", b"4"],
                Start(time=one.timestamp - 60): [b"1", b"2", b"3", b"4"],
                Start(time=(two.timestamp + three.timestamp) / 2): [b"3", b"4"],
                Start(time=three.timestamp + 60): [b"4"],
            }
            groups = {
                start: await stack.enter_async_context(world.log.group(spec(name="", start=start)))
                for start in wanted
            }
            await world.later(100)
            await publish(world.log, "t", b"4")
            for start, group in groups.items():
                if start.time <= three.timestamp:
                    assert payloads(await world.all(group, len(wanted[start]))) == wanted[start]
                    assert await world.nothing(group)

    async def test_a_group_that_begins_at_the_time_of_an_event_begins_with_that(
        self, opened: Open
    ) -> None:
        async with opened() as world:
            for number in range(20):
                await publish(world.log, "t", b"%d" % number)
                await world.later(1)
            for event in await world.log.read("t"):
                async with world.log.group(
                    spec(name="", start=Start(time=event.timestamp))
                ) as group:
                    (first,) = await world.pull(group)
                    assert first.event.sequence == event.sequence

    async def test_no_event_that_is_stored_while_a_group_is_made_is_skipped(
        self, opened: Open
    ) -> None:
        async def begun(world: World, topic: str, name: str) -> None:
            # Nothing is there when it is asked where the group begins; then there is.
            publishing = asyncio.create_task(publish(world.log, topic, b"1"))
            since = Start(time=world.now() - 60)
            async with world.log.group(spec(topic, name, start=since)) as group:
                await publishing
                await publish(world.log, topic, b"2")
                assert payloads(await world.all(group, 1)) == [b"1"]

        async with opened() as world:
            for number in range(20):
                await begun(world, f"alone.{number}", "")
                await begun(world, f"shared.{number}", "g")

    async def test_a_group_goes_on_where_it_was(self, opened: Open) -> None:
        async with opened() as world:
            async with world.log.group(spec()) as group:
                await publish(world.log, "t", b"1", b"2", b"3")
                assert payloads(await world.all(group, 2)) == [b"1", b"2"]
            await publish(world.log, "t", b"4")
            async with world.log.group(spec(start=BEGINNING)) as group:
                assert payloads(await world.all(group, 2)) == [b"3", b"4"]

    async def test_a_group_of_a_pattern(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec("orders.*")) as group:
            await publish(world.log, "orders.placed", b"1")
            await publish(world.log, "orders", b"x")
            await publish(world.log, "orders.eu.placed", b"x")
            await publish(world.log, "orders.paid", b"2")
            found = await world.all(group, 2)
            assert [(one.event.topic, one.event.payload) for one in found] == [
                ("orders.placed", b"1"),
                ("orders.paid", b"2"),
            ]
            assert await world.nothing(group)

    async def test_what_was_not_acknowledged_is_given_out_again(self, opened: Open) -> None:
        async with (
            opened() as world,
            world.log.group(spec(ack_wait=0.3)) as group,
            world.log.group(spec(ack_wait=0.3)) as other,
        ):
            await publish(world.log, "t", b"1")
            (first,) = await world.pull(group)
            (second,) = await world.pull(other, within=0.4)
            assert second.event == first.event
            assert second.attempt == 2
            (third,) = await world.pull(group, within=0.4)
            assert third.attempt == 3
            await group.ack_sync(third)
            await world.later(1)
            assert await world.nothing(other)

    async def test_who_is_at_work_keeps_an_event(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec(ack_wait=2)) as group:
            await publish(world.log, "t", b"1")
            (delivery,) = await world.pull(group)
            again = asyncio.create_task(group.pull(1))
            began = world.now()
            while world.now() < began + 3:
                await world.later(0.3)
                await group.working(delivery)
                await world.settled()
                assert not again.done()
            await world.later(2.1)
            async with asyncio.timeout(60):
                assert (await again)[0].attempt == 2

    async def test_what_is_given_back_is_given_out_at_once_or_later(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            await publish(world.log, "t", b"1")
            (first,) = await world.pull(group)
            await group.nack(first)
            (second,) = await world.pull(group)
            assert (second.event, second.attempt) == (first.event, 2)
            await group.nack(second, 1.5)
            assert await world.nothing(group)
            (third,) = await world.pull(group, within=1.6)
            assert third.attempt == 3
            with pytest.raises(errors.BadRequest, match="delay"):
                await group.nack(third, -1)

    async def test_what_is_done_with_is_not_given_out_again(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec(ack_wait=2)) as group:
            await publish(world.log, "t", b"1", b"2")
            for delivery in await world.all(group, 2):
                await group.ack_sync(delivery)
            await world.later(3)
            await publish(world.log, "t", b"3")
            assert payloads(await world.all(group, 1)) == [b"3"]

    async def test_who_is_nobodys_member_leaves_nothing_behind(self, opened: Open) -> None:
        async with opened() as world:
            async with world.log.group(spec(name="")):
                pass
            async with world.log.group(spec()):
                pass
            assert [one.name for one in await world.core.groups()] == ["g"]

    @pytest.mark.parametrize(
        "bad",
        [
            GroupSpec(""),
            GroupSpec("a b"),
            GroupSpec("t", "a b"),
            GroupSpec("t", "é"),
            GroupSpec("t", "a\r\nb"),
            GroupSpec("t", "g" * (MAX_NAME + 1)),
            GroupSpec("t", "g", ack_wait=0),
            GroupSpec("t", "g", ack_wait=float("nan")),
            GroupSpec("t", "g", start=Start(sequence=-1)),
            GroupSpec("t", "g", start=Start(beginning=True, sequence=1)),
            GroupSpec("t", "g", start=Start(time=-1)),
        ],
    )
    async def test_what_cannot_be_a_group_is_refused(self, opened: Open, bad: GroupSpec) -> None:
        async with opened() as world:
            with pytest.raises(errors.BadRequest):
                async with world.log.group(bad):
                    pass
            assert await world.core.groups() == []

    async def test_a_group_cannot_be_ordered_and_not(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec(ordered=True)):
            with pytest.raises(errors.Conflict, match="ordered"):
                async with world.log.group(spec()):
                    pass
            async with world.log.group(spec(name="other")):
                pass

    # Order.

    async def test_events_of_a_key_wait_for_the_one_before(self, opened: Open) -> None:
        async with (
            opened() as world,
            world.log.group(spec(ordered=True)) as one,
            world.log.group(spec(ordered=True)) as two,
        ):
            await publish(world.log, "t", b"1", b"2", b"3", key="k")
            (first,) = await world.pull(one, 10)
            assert first.event.payload == b"1"
            assert await world.nothing(one)
            assert await world.nothing(two)
            await one.ack(first)
            (second,) = await world.pull(two, 10)
            assert second.event.payload == b"2"
            await two.nack(second, 1.5)
            assert await world.nothing(one)
            (again,) = await world.pull(one, 10, within=1.6)
            assert (again.event.payload, again.attempt) == (b"2", 2)
            await one.ack(again)
            assert payloads(await world.all(two, 1)) == [b"3"]

    async def test_events_of_other_keys_do_not_wait(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec(ordered=True)) as group:
            keys = keys_of(4)
            for key in keys:
                await publish(world.log, "t", b"1", b"2", key=key)
            found = []
            while len(found) < 4:
                found += await world.pull(group, 10)
            assert {one.event.key for one in found} == {*keys}
            assert payloads(found) == [b"1"] * 4
            assert await world.nothing(group)
            for delivery in found:
                await group.ack(delivery)
            assert payloads(await world.all(group, 4)) == [b"2"] * 4

    async def test_the_order_of_each_key_is_kept_over_members(self, opened: Open) -> None:
        keys, number = [f"key{each}" for each in range(8)], 5
        async with opened() as world, AsyncExitStack() as stack:
            members = [
                await stack.enter_async_context(world.log.group(spec("t.*", ordered=True)))
                for _ in range(3)
            ]
            drafts = [
                draft(f"t.{key[-1]}", b"%d" % each, key=key)
                for each in range(number)
                for key in keys
            ]
            await world.log.publish(*drafts)
            seen: dict[str, list[bytes]] = {key: [] for key in keys}
            left = asyncio.Semaphore(0)

            async def work(group: Group) -> None:
                while True:
                    for delivery in await group.pull(4):
                        seen[delivery.event.key].append(delivery.event.payload)
                        await asyncio.sleep(0)
                        await group.ack(delivery)
                        left.release()

            workers = [asyncio.create_task(work(group)) for group in members]
            async with asyncio.timeout(60):
                for _ in drafts:
                    await left.acquire()
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
            assert seen == {key: [b"%d" % each for each in range(number)] for key in keys}

    async def test_without_a_key_all_wait_for_the_one_before(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec(ordered=True)) as group:
            await publish(world.log, "t", b"1", b"2")
            (first,) = await world.pull(group, 10)
            assert await world.nothing(group)
            await group.ack(first)
            assert payloads(await world.pull(group)) == [b"2"]

    # Dead letters.

    async def test_what_is_buried_is_a_dead_letter(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec(ack_wait=2)) as group:
            event = draft(payload=b"1", id="one", key="k", metadata={"A": "é"}, timestamp=5)
            await world.log.publish(event)
            (first,) = await world.pull(group)
            await group.nack(first)
            (again,) = await world.pull(group)
            await group.bury(again, "it is\nbad: é")
            (letter,) = await world.core.dead()
            assert letter.event == first.event
            assert (letter.group, letter.reason, letter.attempts) == ("g", "it is bad: é", 2)
            assert abs(letter.time - world.now()) < 30
            assert letter.number > 0
            await world.later(3)
            assert await world.nothing(group)
            assert (await world.core.inspect("t")).dead == 1

    async def test_the_longest_reason_is_cut(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            await publish(world.log, "t", b"1")
            (delivery,) = await world.pull(group)
            await group.bury(delivery, "é" * 100_000)
            (letter,) = await world.core.dead()
            assert letter.reason == "é" * MAX_REASON

    async def test_dead_letters_are_listed(self, opened: Open) -> None:
        async with (
            opened() as world,
            world.log.group(spec("a.>")) as group,
            world.log.group(spec("a.b", "other")) as other,
        ):
            await publish(world.log, "a.b", b"1", b"2")
            await publish(world.log, "a.c", b"3")
            for delivery in await self._taken(world, group, 3):
                await group.bury(delivery, "bad")
            for delivery in await self._taken(world, other, 1):
                await other.bury(delivery, "worse")
            dead = world.core.dead
            assert [one.event.payload for one in await dead()] == [b"1", b"2", b"3", b"1"]
            assert [one.event.payload for one in await dead("a.c")] == [b"3"]
            assert [one.reason for one in await dead("a.*", group="other")] == ["worse"]
            assert await dead("x") == []
            first, second, *_ = await dead(limit=2)
            assert first.number < second.number
            page = await dead(after=second.number)
            assert [one.event.payload for one in page] == [b"3", b"1"]

    async def _taken(self, world: World, group: Group, number: int) -> list[Delivery]:
        found: list[Delivery] = []
        while len(found) < number:
            found += await world.pull(group, number - len(found))
        return found

    async def test_dead_letters_are_given_to_their_group_again(self, opened: Open) -> None:
        async with (
            opened() as world,
            world.log.group(spec()) as group,
            world.log.group(spec(name="other")) as other,
        ):
            one = draft(payload=b"1", id="one", key="k", metadata={"A": "b"}, timestamp=5, schema=7)
            await world.log.publish(one)
            (delivery,) = await world.pull(group)
            await group.bury(delivery, "bad")
            await world.all(other, 1)
            assert await world.core.redrive("t") == 1
            (again,) = await world.pull(group)
            was, now = delivery.event, again.event
            assert (now.id, now.payload, now.key) == (was.id, b"1", "k")
            assert (now.metadata, now.timestamp, now.schema) == ({"A": "b"}, 5, 7)
            assert now.sequence > was.sequence
            assert (again.attempt, again.only) == (1, "g")
            # Of others it is known that it is not for them.
            (not_mine,) = await world.pull(other)
            assert not_mine.only == "g"
            assert await world.core.dead() == []
            assert await world.core.redrive("t") == 0

    async def test_some_dead_letters_are_given_again(self, opened: Open) -> None:
        async with (
            opened() as world,
            world.log.group(spec()) as group,
            world.log.group(spec(name="other")) as other,
        ):
            await publish(world.log, "t", b"1", b"2", b"3")
            for delivery in await self._taken(world, group, 3):
                await group.bury(delivery, "bad")
            for delivery in await self._taken(world, other, 3):
                await other.bury(delivery, "bad")
            letters = await world.core.dead(group="g")
            assert await world.core.redrive("t", numbers=[letters[1].number]) == 1
            assert payloads(await world.pull(group)) == [b"2"]
            assert await world.core.redrive("t", group="other") == 3
            assert [one.event.payload for one in await world.core.dead()] == [b"1", b"3"]
            assert await world.core.redrive("x.*") == 0

    # Topics and groups.

    async def test_topics_are_listed_and_inspected(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec("b")) as group:
            await world.core.create("c", ttl=1.5)
            await publish(world.log, "b", b"1", b"2")
            await publish(world.log, "a", b"1")
            found = {one.topic: one for one in await world.core.topics()}
            assert [*found] == ["a", "b", "c"]
            assert (found["b"].events, found["c"].events, found["c"].ttl) == (2, 0, 2)
            first, second = await world.log.read("b")
            async with world.log.group(spec(">", "all")), world.log.group(spec("a")):
                state = await world.core.inspect("b")
            assert (state.first, state.last) == (first.sequence, second.sequence)
            assert [(one.topic, one.name) for one in state.groups] == [(">", "all"), ("b", "g")]
            assert state.durability
            assert await world.nothing(group) is False
            with pytest.raises(errors.NotFound, match="nope"):
                await world.core.inspect("nope")
            with pytest.raises(errors.BadRequest):
                await world.core.inspect("a.*")
            with pytest.raises(errors.BadRequest):
                await world.core.create("a b")

    async def test_how_far_groups_are(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            async with world.log.group(spec("u", "h", ordered=True)) as ordered:
                await publish(world.log, "t", b"1", b"2", b"3")
                await publish(world.log, "u", b"1", b"2", key="k")
                (delivery,) = await world.pull(group)
                await world.pull(ordered)

                async def told() -> bool:
                    states = {one.name: one for one in await world.core.groups()}
                    assert [*states] == ["g", "h"]
                    assert (states["g"].topic, states["g"].ordered) == ("t", False)
                    assert (states["h"].topic, states["h"].ordered) == ("u", True)
                    far = {name: (one.lag, one.pending) for name, one in states.items()}
                    return far == {"g": (2, 1), "h": (1, 1)}

                await world.until(0, told)
            await group.ack_sync(delivery)
            (state,) = await world.core.groups("t")
            assert (state.lag, state.pending) == (2, 0)
            assert await world.core.groups("x") == []

    async def test_a_group_begins_again(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            await publish(world.log, "t", b"1", b"2", b"3")
            await world.all(group, 3)
            await world.core.reset("t", "g", BEGINNING)
            found = await world.all(group, 3)
            assert payloads(found) == [b"1", b"2", b"3"]
            assert [one.attempt for one in found] == [1, 1, 1]
            two = (await world.log.read("t"))[1]
            await world.core.reset("t", "g", Start(sequence=two.sequence))
            assert payloads(await world.all(group, 2)) == [b"2", b"3"]
            await world.core.reset("t", "g", BEGINNING)
            await world.core.reset("t", "g", Start())
            await publish(world.log, "t", b"4")
            assert payloads(await world.all(group, 1)) == [b"4"]
            with pytest.raises(errors.NotFound):
                await world.core.reset("t", "nope", BEGINNING)

    async def test_an_ordered_group_begins_again_while_it_is_pulled(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec(ordered=True)) as group:
            await publish(world.log, "t", b"1", b"2", key="k")
            await world.all(group, 2)
            pulling = asyncio.create_task(group.pull(1))
            await world.settled()
            await world.core.reset("t", "g", BEGINNING)
            async with asyncio.timeout(60):
                (delivery,) = await pulling
            assert delivery.event.payload == b"1"

    async def test_the_members_of_a_deleted_group_end(self, opened: Open) -> None:
        async with opened() as world:
            async with world.log.group(spec()) as group:
                pulling = asyncio.create_task(group.pull(1))
                await world.settled()
                await world.core.forget("t", "g")
                async with asyncio.timeout(60):
                    with pytest.raises(errors.NotFound):
                        await pulling
                with pytest.raises(errors.NotFound):
                    await group.pull(1)
            assert await world.core.groups() == []
            with pytest.raises(errors.NotFound):
                await world.core.forget("t", "g")

    async def test_a_group_that_was_deleted_can_be_made_again(self, opened: Open) -> None:
        async with opened() as world:
            await publish(world.log, "t", b"1")
            async with world.log.group(spec(ordered=True)):
                await world.core.forget("t", "g")
            async with world.log.group(spec(start=BEGINNING)) as group:
                assert payloads(await world.all(group, 1)) == [b"1"]

    async def test_events_are_purged(self, opened: Open) -> None:
        async with opened() as world:
            await world.log.publish(*[draft(payload=b"%d" % number) for number in range(6)])
            await publish(world.log, "other", b"x")
            third = (await world.log.read("t"))[2]
            assert await world.core.purge("t", before=third.sequence) == 2
            assert [one.payload for one in await world.log.read("t")] == [b"2", b"3", b"4", b"5"]
            assert await world.core.purge("t", keep=1) == 3
            assert [one.payload for one in await world.log.read("t")] == [b"5"]
            assert await world.core.purge("t", keep=5) == 0
            assert await world.core.purge("t") == 1
            assert await world.core.purge("t") == 0
            assert len(await world.log.read(">")) == 1
            for bad in ({"before": 1, "keep": 1}, {"before": -1}, {"keep": -1}):
                with pytest.raises(errors.BadRequest):
                    await world.core.purge("t", **bad)

    async def test_what_was_purged_is_not_given_out(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec(ack_wait=0.3)) as group:
            await publish(world.log, "t", b"1", b"2", b"3")
            assert payloads(await world.pull(group)) == [b"1"]
            await world.core.purge("t")
            await publish(world.log, "t", b"4")
            await world.later(1)
            assert payloads(await world.all(group, 1)) == [b"4"]

    async def test_what_was_purged_holds_nobody_up(self, opened: Open) -> None:
        async with (
            opened() as world,
            world.log.group(spec(ordered=True, ack_wait=0.3)) as group,
        ):
            await publish(world.log, "t", b"1", b"2", key="k")
            (first,) = await world.pull(group)
            await world.core.purge("t")
            await publish(world.log, "t", b"3", key="k")
            assert payloads(await world.pull(group, within=1)) == [b"3"]
            await group.ack(first)

    async def test_a_topic_is_deleted_with_all_it_has(self, opened: Open) -> None:
        async with (
            opened() as world,
            world.log.group(spec()) as group,
            world.log.group(spec(">", "all")) as all,
        ):
            await world.core.create("t", ttl=100)
            await publish(world.log, "t", b"1", b"2")
            (delivery, *_) = await world.pull(group)
            await group.bury(delivery, "bad")
            assert await world.core.delete("t") == 2
            assert await world.core.topics() == []
            assert await world.core.dead() == []
            assert [one.name for one in await world.core.groups()] == ["all"]
            with pytest.raises(errors.NotFound):
                await group.pull(1)
            await publish(world.log, "t", b"3")
            assert payloads(await world.all(all, 1)) == [b"3"]
            assert (await world.core.inspect("t")).ttl == 0
            assert await world.core.delete("nope") == 0

    # Schedules.

    async def test_an_event_is_published_later(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            late = draft(payload=b"1", key="k", metadata={"A": "b"}, schema=3)
            at = datetime.fromtimestamp(world.now() + 2, UTC).isoformat()
            await world.core.schedule(Schedule("s", late, f"@at {at}"))
            assert await world.nothing(group)
            (one,) = await world.core.schedules()
            assert (one.id, one.draft, one.zone) == ("s", late, "")
            (delivery,) = await world.pull(group, within=2.5)
            event = delivery.event
            assert (event.payload, event.key, event.metadata) == (b"1", "k", {"A": "b"})
            assert (event.schema, event.id) == (3, f"seq:{event.sequence}")
            assert await world.core.schedules() == []
            assert [each.id for each in await world.log.read("t")] == [event.id]
            assert [each.topic for each in await world.log.topics()] == ["t"]

    async def test_what_is_late_already_is_published_at_once(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            await world.core.schedule(
                Schedule("s", draft(payload=b"1"), "@at 2020-01-01T00:00:00Z")
            )
            assert payloads(await world.pull(group, within=1)) == [b"1"]

    async def test_events_are_published_again_and_again(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            await world.core.schedule(Schedule("s", draft(payload=b"1"), "@every 1s"))
            found = [*await world.pull(group, within=1.1), *await world.pull(group, within=1.1)]
            assert payloads(found) == [b"1", b"1"]
            assert found[0].event.id != found[1].event.id
            await world.core.unschedule("s")
            number = len(await world.log.read("t"))
            await world.later(10)
            assert len(await world.log.read("t")) == number
            with pytest.raises(errors.NotFound):
                await world.core.unschedule("s")

    async def test_cron_publishes(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            every = Schedule("s", draft(payload=b"1"), "* * * * * *", "Europe/Berlin")
            await world.core.schedule(every)
            assert payloads(await world.pull(group, within=1.1)) == [b"1"]
            assert [(one.when, one.zone) for one in await world.core.schedules()] == [
                ("* * * * * *", "Europe/Berlin")
            ]

    async def test_a_schedule_is_replaced(self, opened: Open) -> None:
        async with opened() as world:
            for payload, when in ((b"1", "0 3 * * *"), (b"2", "@daily")):
                await world.core.schedule(Schedule("s", draft(payload=payload), when))
            await world.core.schedule(Schedule("a", draft("u"), "@hourly"))
            found = await world.core.schedules()
            assert [(one.id, one.draft.topic, one.when) for one in found] == [
                ("a", "u", "@hourly"),
                ("s", "t", "@daily"),
            ]
            assert found[1].draft.payload == b"2"

    async def test_a_scheduled_event_has_its_ttl(self, opened: Open) -> None:
        async with opened() as world, world.log.group(spec()) as group:
            at = "@at 2020-01-01T00:00:00Z"
            await world.core.schedule(Schedule("s", draft(payload=b"1", ttl=1), at))
            assert payloads(await world.pull(group, within=0.1)) == [b"1"]

            async def forgotten() -> bool:
                return await world.log.read("t") == []

            await world.until(1.1, forgotten)

    @pytest.mark.parametrize("when", GOOD)
    async def test_a_good_schedule_is_taken(self, opened: Open, when: str) -> None:
        async with opened() as world:
            await world.core.schedule(Schedule("s", draft(), when))
            (one,) = await world.core.schedules()
            assert one.when == GOOD[when]

    @pytest.mark.parametrize("when", BAD)
    async def test_a_bad_schedule_is_refused(self, opened: Open, when: str) -> None:
        async with opened() as world:
            with pytest.raises(errors.BadRequest, match="a schedule is `@at") as caught:
                await world.core.schedule(Schedule("s", draft(), when))
            assert "\n" not in str(caught.value)
            assert await world.core.schedules() == []

    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (Schedule("", draft(), "@daily"), "id"),
            (Schedule("a b", draft(), "@daily"), "id"),
            (Schedule("s", draft("a b"), "@daily"), "topic"),
            (Schedule("s", draft(id="x"), "@daily"), "id"),
            (Schedule("s", draft(), "0 3 * * *", "Mars/Base"), "zone"),
            (Schedule("s", draft(), "0 3 * * *", "../etc/passwd"), "zone"),
            (Schedule("s", draft(), "@every 5s", "Europe/Berlin"), "zone"),
            (Schedule("s", draft(), "@at 2020-01-01T00:00:00Z", "UTC"), "zone"),
        ],
    )
    async def test_what_cannot_be_scheduled_is_refused(
        self, opened: Open, bad: Schedule, why: str
    ) -> None:
        async with opened() as world:
            with pytest.raises(errors.BadRequest, match=why):
                await world.core.schedule(bad)
            assert await world.core.schedules() == []
