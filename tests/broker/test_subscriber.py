"""Subscribers: how many messages at once, in which order, and what becomes of failures."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from typing import Any

import pytest

from microcosmos.base import context, errors
from microcosmos.broker import Message, Messages, Subscriber
from microcosmos.broker.failures import LINES, MAX_TOPICS, OTHERS, Failure, Failures
from microcosmos.broker.interface import KEY
from microcosmos.broker.memory import MemoryBroker
from microcosmos.broker.subscriber import CONCURRENCY, MAX_CONCURRENCY
from microcosmos.broker.waiting import MAX_WAITING

from .nets import until


class Gate:
    """A handler whose messages wait until they are let through."""

    def __init__(self) -> None:
        self.began: list[bytes] = []
        self.ended: list[bytes] = []
        self.open = asyncio.Event()

    async def handle(self, message: Message) -> None:
        self.began.append(message.body)
        await self.open.wait()
        self.ended.append(message.body)


@pytest.mark.parametrize(("said", "at_once"), [({}, CONCURRENCY), ({"concurrency": 3}, 3)])
async def test_so_many_messages_at_once(said: Any, at_once: int) -> None:
    broker, gate = MemoryBroker(), Gate()
    async with Subscriber(gate.handle, "t", **said).on(broker, service="s"):
        for number in range(50):
            await broker.publish("t", str(number).encode())
        await until(lambda: len(gate.began) >= at_once)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(gate.began) == at_once
        gate.open.set()
        await until(lambda: len(gate.ended) == 50)
    assert gate.began == [str(number).encode() for number in range(50)]


async def test_of_a_key_one_after_another_while_others_go_on() -> None:
    broker = MemoryBroker()
    busy: set[str] = set()
    seen: dict[str, list[bytes]] = {}
    most = 0

    async def handle(message: Message) -> None:
        nonlocal most
        assert message.key not in busy
        busy.add(message.key)
        most = max(most, len(busy))
        for _ in range(len(message.body) % 3):
            await asyncio.sleep(0)
        seen.setdefault(message.key, []).append(message.body)
        busy.discard(message.key)

    subscriber = Subscriber(handle, "t", concurrency=8, ordered=True)
    async with subscriber.on(broker, service="s"):
        for number in range(300):
            await broker.publish("t", b"x" * number, {KEY: str(number % 10)})
        await until(lambda: sum(map(len, seen.values())) == 300)
    assert 1 < most <= 8
    for key, bodies in seen.items():
        assert bodies == [b"x" * number for number in range(int(key), 300, 10)]
    assert not broker.failures.failed


async def test_a_failure_holds_nobody_up_in_order() -> None:
    broker = MemoryBroker()
    seen: list[int] = []

    async def handle(number: int) -> None:
        if number % 2:
            raise errors.Conflict("t", "odd")
        seen.append(number)

    async with Subscriber(handle, "t", ordered=True).on(broker, service="s"):
        for number in range(10):
            await broker.publish("t", str(number).encode(), {KEY: "k"})
        await until(lambda: len(seen) == 5 and broker.failures.failed["t"] == 5)
    assert seen == [0, 2, 4, 6, 8]


async def test_a_message_that_comes_as_the_last_one_ends_is_handled() -> None:
    broker = MemoryBroker()
    seen: list[int] = []
    loop = asyncio.get_running_loop()

    async def handle(number: int) -> None:
        seen.append(number)
        if number < 10:
            # Before anything else that this turn of the loop brings about: its task has ended.
            loop.call_soon(publish, number + 1)

    def publish(number: int) -> None:
        with contextlib.suppress(StopIteration):
            broker.publish("t", str(number).encode()).send(None)

    async with Subscriber(handle, "t", concurrency=1).on(broker, service="s"):
        publish(0)
        await until(lambda: len(seen) == 11)


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (errors.Forbidden("x", "not you"), "not you"),
        (ValueError("a\nb"), "ValueError: a b"),
        (KeyError(), "KeyError"),
        (SystemExit(3), "SystemExit"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
async def test_whatever_is_raised_is_told_and_the_next_is_handled(
    raised: BaseException, reason: str
) -> None:
    broker = MemoryBroker()
    told: list[Failure] = []
    reports = await broker.reports(told.append)
    seen: list[int] = []

    async def handle(number: int) -> None:
        if number == 0:
            raise raised
        seen.append(number)

    async with Subscriber(handle, "t", concurrency=1).on(broker, service="s"):
        await broker.publish("t", b"0", report=reports.address)
        await broker.publish("t", b"1")
        await until(lambda: seen == [1])
    assert told == [Failure("t", "s.handle", reason)]


async def test_a_stopped_iteration_in_a_thread_holds_nobody_up() -> None:
    broker = MemoryBroker()
    seen: list[int] = []

    def handle(number: int) -> None:
        seen.append(next(iter([number] if number else [])))

    async with Subscriber(handle, "t", concurrency=1).on(broker, service="s"):
        await broker.publish("t", b"0")
        await broker.publish("t", b"1")
        await until(lambda: seen == [1])
    assert broker.failures.failed == {"t": 1}


async def test_the_stack_of_what_nobody_foresaw_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = MemoryBroker()

    async def handle(number: int) -> None:
        raise errors.NotFound("n", "gone") if number else RuntimeError("boom")

    async with Subscriber(handle, "t").on(broker, service="s"):
        await broker.publish("t", b"0")
        await broker.publish("t", b"1")
        await until(lambda: broker.failures.failed["t"] == 2)
    stacks = {r.getMessage(): bool(r.exc_info) for r in caplog.records if r.levelname == "ERROR"}
    assert stacks == {
        "s.handle failed on t: RuntimeError: boom": True,
        "s.handle failed on t: gone": False,
    }


async def test_a_slow_subscriber_loses_messages_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker, gate = MemoryBroker(), Gate()
    quick: list[Message] = []
    await broker.subscribe("t", quick.append)
    with caplog.at_level(logging.WARNING):
        async with Subscriber(gate.handle, "t", concurrency=1).on(broker, service="s"):
            for _ in range(MAX_WAITING + 100):
                await broker.publish("t", b"{}")
            # None was begun yet: all that came wait.
            assert broker.failures.dropped == {"t": 100}
            assert len(quick) == MAX_WAITING + 100
            gate.open.set()
            await until(lambda: len(gate.ended) == MAX_WAITING)
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [f"s.handle is too slow for t: {MAX_WAITING:d} wait, a message is dropped"]
        await broker.close()
    assert caplog.records[-1].getMessage() == "99 more messages dropped: t 99"


async def test_who_iterates_too_slowly_loses_messages_too() -> None:
    broker = MemoryBroker()
    messages = Messages(broker, "s")
    async with messages.subscribe("t") as heard:
        for number in range(MAX_WAITING + 1):
            await messages.publish("t", number)
        assert broker.failures.dropped == {"t": 1}
        got = [(await anext(heard)).unmarshal(int) for _ in range(MAX_WAITING)]
    assert got == list(range(MAX_WAITING))


async def test_a_flood_of_failures_is_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for number in range(1000):
        failures.report(Failure(f"t{number % 3}", "s", "why\n\x1b[2Jnot"))
    assert len(caplog.records) == LINES
    failures.close()
    told = caplog.records[-1].getMessage()
    assert told.startswith(f"{1000 - LINES} more failures reported by subscribers: t")
    assert failures.reported.total() == 1000
    assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_the_lines_of_the_next_second_are_told_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microcosmos.broker.failures.INTERVAL", 0.01)
    failures = Failures()
    for _ in range(LINES + 5):
        failures.report(Failure("t", "s", "why"))
    await until(lambda: len(caplog.records) == LINES + 1)
    failures.report(Failure("t", "s", "again"))
    assert caplog.records[-1].getMessage() == "subscriber s of t failed: again"
    failures.close()


async def test_topics_without_end_are_counted_as_one() -> None:
    failures = Failures()
    for number in range(MAX_TOPICS + 10):
        failures.drop(f"t{number}", "s", 1)
    failures.close()
    assert len(failures.dropped) == MAX_TOPICS + 1
    assert failures.dropped[OTHERS] == 10


async def test_what_was_given_is_handled_before_the_end() -> None:
    broker, gate = MemoryBroker(), Gate()
    async with Subscriber(gate.handle, "t", concurrency=2).on(broker, service="s"):
        for number in range(20):
            await broker.publish("t", str(number).encode())
        asyncio.get_running_loop().call_later(0.01, gate.open.set)
    assert len(gate.ended) == 20


async def test_what_takes_too_long_at_the_end_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker, gate = MemoryBroker(), Gate()
    async with Subscriber(gate.handle, "t", concurrency=2).on(broker, service="s", drain=0.01):
        for _ in range(5):
            await broker.publish("t", b"{}")
        await until(lambda: len(gate.began) == 2)
    assert gate.ended == []
    assert caplog.records[-1].getMessage() == "s.handle stops; messages that were not handled: 5"
    assert not broker.failures.failed


async def test_a_handler_has_nothing_of_its_publishers_circumstances() -> None:
    broker = MemoryBroker()
    mine = contextvars.ContextVar("mine", default="nothing")
    seen: list[Any] = []

    async def handle(message: Message) -> None:
        here = context.current()
        seen.append((mine.get(), here.account, here.deadline, here.client))

    async with Subscriber(handle, "t").on(broker, service="s", client="the client"):
        mine.set("the publisher's")
        context.set_current(context.Context(None, 1.0, "somebody", "another"))
        await broker.publish("t", b"{}")
        await until(lambda: seen)
    assert seen == [("nothing", None, None, "the client")]


async def test_a_handler_has_a_trace_though_the_message_has_none() -> None:
    broker = MemoryBroker()
    seen: list[str] = []

    async def handle() -> None:
        seen.append(context.current().trace)

    async with Subscriber(handle, "t").on(broker, service="s"):
        await broker.publish("t", b"{}")
        await broker.publish("t", b"{}", {"Micro-Trace": "ab" * 16})
        await until(lambda: len(seen) == 2)
    assert len(seen[0]) == 32
    assert seen[1] == "ab" * 16


async def test_a_handler_that_changes_its_metadata_changes_nobody_elses() -> None:
    broker = MemoryBroker()
    seen: list[Any] = []

    async def handle() -> None:
        metadata = context.current().metadata
        seen.append("Mark" in metadata)
        metadata["Mark"] = "1"

    async with (
        Subscriber(handle, "t").on(broker, service="a"),
        Subscriber(handle, "t").on(broker, service="b"),
    ):
        await broker.publish("t", b"{}", {"A": "b"})
        await until(lambda: len(seen) == 2)
    assert seen == [False, False]


@pytest.mark.parametrize("concurrency", [0, -1, MAX_CONCURRENCY + 1, 1.5, "many", None])
def test_no_concurrency(concurrency: Any) -> None:
    with pytest.raises(errors.BadRequest, match="concurrency"):
        Subscriber(len, "t", concurrency=concurrency)


def test_functions_that_cannot_take_messages() -> None:
    def two(a: int, b: int) -> None: ...

    with pytest.raises(TypeError, match="can take one payload, and one Message"):
        Subscriber(two, "t")
