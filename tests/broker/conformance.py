"""What every broker does, written once; `test_brokers` runs it on each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pydantic
import pytest

from microcosmos.base import context, errors
from microcosmos.broker import Message, Messages, Subscriber
from microcosmos.broker.headers import MAX_QUEUE

from .nets import Heard, Net, handling, until

Open = Callable[[], AbstractAsyncContextManager[Net]]


class User(msgspec.Struct):
    name: str
    age: int = 0


class Person(pydantic.BaseModel):
    name: str


class BrokerConformance:
    """Brokers: `opened` gives a net with two processes."""

    largest = 8 * 1024 * 1024

    # Topics, patterns, queues.

    async def test_who_listens_hears(self, opened: Open) -> None:
        async with opened() as net:
            heard = Heard()
            await net.subscriber.subscribe("users.created", heard)
            await net.publisher.publish("users.created", b'{"a":1}', {"foo-bar": "baz"})
            (message,) = await heard.first(1)
            assert message.topic == "users.created"
            assert message.body == b'{"a":1}'
            assert message.headers["Foo-Bar"] == "baz"
            assert message.unmarshal() == {"a": 1}

    async def test_everybody_who_listens_hears_it_once(self, opened: Open) -> None:
        async with opened() as net:
            everybody = [Heard() for _ in range(5)]
            for heard in everybody:
                await net.subscriber.subscribe("t", heard)
            at_home = Heard()
            await net.publisher.subscribe("t", at_home)
            for number in (b"1", b"2"):
                await net.publisher.publish("t", number)
            for heard in (*everybody, at_home):
                await heard.first(2)
                assert heard.bodies == [b"1", b"2"]

    async def test_one_publisher_is_heard_in_its_order(self, opened: Open) -> None:
        async with opened() as net:
            heard = Heard()
            await net.subscriber.subscribe("t", heard)
            for number in range(500):
                await net.publisher.publish("t", str(number).encode())
            await heard.first(500)
            assert heard.bodies == [str(number).encode() for number in range(500)]

    @pytest.mark.parametrize(
        ("pattern", "heard_of"),
        [
            ("a.b", ["a.b"]),
            ("a.*", ["a.b", "a.c"]),
            ("*.b", ["a.b", "b.b"]),
            ("a.>", ["a.b", "a.c", "a.b.c"]),
            (">", ["a", "a.b", "a.c", "b.b", "a.b.c"]),
            ("a.*.c", ["a.b.c"]),
            ("*", ["a"]),
        ],
    )
    async def test_patterns(self, opened: Open, pattern: str, heard_of: list[str]) -> None:
        async with opened() as net:
            heard, end = Heard(), Heard()
            await net.subscriber.subscribe(pattern, heard)
            await net.subscriber.subscribe("z.z.z", end)
            for topic in ("a", "a.b", "a.c", "b.b", "a.b.c"):
                await net.publisher.publish(topic, b"1")
            await heard.first(len(heard_of))
            await net.publisher.publish("z.z.z", b"1")
            await end.first(1)
            assert [one.topic for one in heard if one.topic != "z.z.z"] == heard_of

    async def test_a_queue_shares_and_the_others_hear_all(self, opened: Open) -> None:
        async with opened() as net:
            one, two, other, alone = Heard(), Heard(), Heard(), Heard()
            await net.subscriber.subscribe("t", one, queue="q")
            await net.publisher.subscribe("t", two, queue="q")
            await net.subscriber.subscribe("t", other, queue="other")
            await net.subscriber.subscribe("t", alone)
            for number in range(200):
                await net.publisher.publish("t", str(number).encode())
            await alone.first(200)
            await other.first(200)
            await until(lambda: len(one) + len(two) >= 200)
            assert sorted(map(int, one.bodies + two.bodies)) == list(range(200))
            assert one
            assert two

    async def test_members_of_a_queue_in_one_process_share_too(self, opened: Open) -> None:
        async with opened() as net:
            members = [Heard() for _ in range(4)]
            for member in members:
                await net.subscriber.subscribe("t.*", member, queue="q")
            for number in range(200):
                await net.publisher.publish("t.x", str(number).encode())
            await until(lambda: sum(map(len, members)) >= 200)
            assert sorted(int(b) for member in members for b in member.bodies) == list(range(200))
            assert all(members)

    async def test_a_queue_that_lost_a_member_goes_on(self, opened: Open) -> None:
        async with opened() as net:
            leaving, staying = Heard(), Heard()
            left = await net.subscriber.subscribe("t", leaving, queue="q")
            await net.subscriber.subscribe("t", staying, queue="q")
            await left.close()
            for number in range(50):
                await net.publisher.publish("t", str(number).encode())
            await staying.first(50)
            assert not leaving

    async def test_who_has_left_hears_nothing(self, opened: Open) -> None:
        async with opened() as net:
            gone, staying = Heard(), Heard()
            left = await net.subscriber.subscribe("t", gone)
            await net.subscriber.subscribe("t", staying)
            await net.publisher.publish("t", b"1")
            await gone.first(1)
            await left.close()
            await left.close()
            await net.publisher.publish("t", b"2")
            await staying.first(2)
            assert gone.bodies == [b"1"]

    async def test_what_was_sent_before_leaving_is_not_lost(self, opened: Open) -> None:
        async with opened() as net:
            heard, witness = Heard(), Heard()
            mine = await net.subscriber.subscribe("t", heard, queue="q")
            await net.publisher.subscribe("t", witness)
            for number in range(100):
                await net.publisher.publish("t", str(number).encode())
            await witness.first(100)
            await mine.close()
            assert len(heard) == 100

    async def test_who_comes_again_hears_again(self, opened: Open) -> None:
        async with opened() as net:
            for number in range(3):
                heard = Heard()
                mine = await net.subscriber.subscribe("t", heard)
                await net.publisher.publish("t", str(number).encode())
                await heard.first(1)
                assert heard.bodies == [str(number).encode()]
                await mine.close()

    async def test_nobody_need_listen(self, opened: Open) -> None:
        async with opened() as net:
            await net.publisher.publish("nobody.hears", b"{}")

    async def test_many_can_begin_to_listen_at_once(self, opened: Open) -> None:
        async with opened() as net:
            everybody = [Heard() for _ in range(50)]
            await asyncio.gather(*(net.subscriber.subscribe("t", heard) for heard in everybody))
            await net.publisher.publish("t", b"1")
            for heard in everybody:
                await heard.first(1)

    # Bodies and headers.

    async def test_a_body_of_any_bytes(self, opened: Open) -> None:
        async with opened() as net:
            heard = Heard()
            await net.subscriber.subscribe("t", heard)
            bodies = [b"", b"\x00\xff\r\n", bytes(range(256)) * 100]
            for body in bodies:
                await net.publisher.publish("t", body)
            await heard.first(len(bodies))
            assert heard.bodies == bodies

    async def test_the_largest_body_and_one_more_byte(self, opened: Open) -> None:
        async with opened() as net:
            heard = Heard()
            await net.subscriber.subscribe("t", heard)
            body = b"x" * self.largest
            with pytest.raises(errors.TooLarge, match=rf"{self.largest}.*blob"):
                await net.publisher.publish("t", body + b"x")
            await net.publisher.publish("t", body, {"a": "b"})
            (message,) = await heard.first(1)
            assert message.body == body

    @pytest.mark.parametrize(
        "headers",
        [
            {"a\r\nb": "c"},
            {"a": "b\r\nEvil: 1"},
            {"a": "b\n"},
            {"": "b"},
            {"a b": "c"},
            {"é": "c"},
            {"a": "\x00"},
            {"a": "\ud800"},
            {"a": 1},
            {"Nats-Msg-Id": "1"},
            {"Micro-Namespace": "other"},
            {"authorization": "Bearer x"},
        ],
    )
    async def test_headers_that_cannot_be_sent(self, opened: Open, headers: Any) -> None:
        async with opened() as net:
            with pytest.raises(errors.BadRequest):
                await net.publisher.publish("t", b"{}", headers)

    async def test_headers_of_any_text(self, opened: Open) -> None:
        async with opened() as net:
            heard = Heard()
            await net.subscriber.subscribe("t", heard)
            headers = {"Unicode": "é €😀", "Empty": "", "Colon": "a: b"}
            await net.publisher.publish("t", b"{}", headers)
            (message,) = await heard.first(1)
            assert {name: message.headers[name] for name in headers} == headers

    @pytest.mark.parametrize("topic", ["", ".", "a.", ".a", "a..b", "a b", "a*", "*", ">", "a.>",
        "a\r\nPUB x 0", "é", "$JS", "a" * 201, None, 7])  # fmt: skip
    async def test_no_topics(self, opened: Open, topic: Any) -> None:
        async with opened() as net:
            with pytest.raises(errors.BadRequest):
                await net.publisher.publish(topic, b"{}")

    @pytest.mark.parametrize("pattern", ["", "a.", "a.>.b", "a>", "a*b", "a b", "$.>", ">.a", None])
    async def test_no_patterns(self, opened: Open, pattern: Any) -> None:
        async with opened() as net:
            with pytest.raises(errors.BadRequest):
                await net.subscriber.subscribe(pattern, Heard())

    @pytest.mark.parametrize("queue", [" ", "a b", "a\r\n", "*", ">", "q" * (MAX_QUEUE + 1), 7])
    async def test_no_queues(self, opened: Open, queue: Any) -> None:
        async with opened() as net:
            with pytest.raises(errors.BadRequest, match="queue"):
                await net.subscriber.subscribe("t", Heard(), queue=queue)

    async def test_no_bodies(self, opened: Open) -> None:
        async with opened() as net:
            with pytest.raises(errors.BadRequest, match="bytes"):
                await net.publisher.publish("t", "text")  # type: ignore[arg-type]

    # Failures.

    async def test_a_failure_is_told_to_the_publisher(
        self, opened: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with opened() as net:

            async def mail(user: User) -> None:
                raise errors.Conflict("mail", f"no post for {user.name}")

            subscriber = Subscriber(mail, "users.created")
            with caplog.at_level(logging.WARNING, "microcosmos.broker"):
                async with subscriber.on(net.subscriber, service="mailer"):
                    await Messages(net.publisher, "users").publish("users.created", User("Ann"))
                    await until(lambda: net.publisher.failures.reported)
            assert net.publisher.failures.reported == {"users.created": 1}
            assert net.subscriber.failures.failed == {"users.created": 1}
            lines = [record.getMessage() for record in caplog.records]
            assert "mailer.mail failed on users.created: no post for Ann" in lines
            assert "subscriber mailer.mail of users.created failed: no post for Ann" in lines

    async def test_what_is_reported_is_of_the_messages_trace(
        self, opened: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Traces(logging.Filter):
            def filter(self, record: logging.LogRecord) -> bool:
                traces.append((record.levelname, context.current().trace))
                return True

        traces: list[tuple[str, str]] = []
        seen = Traces()
        logging.getLogger("microcosmos.broker").addFilter(seen)
        try:
            async with opened() as net:

                async def mail(user: User) -> None:
                    raise errors.Conflict("mail", "no")

                async with Subscriber(mail, "t").on(net.subscriber, service="s"):
                    messages = Messages(net.publisher, "p")
                    for number, trace in enumerate(("ab" * 16, "cd" * 16), 1):
                        with handling(Micro_Trace=trace):
                            await messages.publish("t", User("Ann"))
                        reported = net.publisher.failures.reported
                        await until(lambda n=number, r=reported: r["t"] == n)  # type: ignore[misc]
        finally:
            logging.getLogger("microcosmos.broker").removeFilter(seen)
        warnings = [trace for level, trace in traces if level == "WARNING"]
        assert warnings == ["ab" * 16, "cd" * 16]
        assert [trace for level, trace in traces if level == "ERROR"] == warnings

    async def test_every_failing_subscriber_is_told_of(self, opened: Open) -> None:
        async with opened() as net:

            async def one(message: Message) -> None:
                raise RuntimeError("one")

            def two(number: int) -> None:
                pytest.fail("a text is no number")

            async with (
                Subscriber(one, "t").on(net.subscriber, service="a"),
                Subscriber(two, "t.>").on(net.subscriber, service="b"),
                Subscriber(two, "*").on(net.publisher, service="c", namespace="micro"),
            ):
                told: list[Any] = []
                reports = await net.publisher.reports(told.append)
                await net.publisher.publish("t", b'"text"', report=reports.address)
                await until(lambda: len(told) == 2)
                await reports.close()
            assert {(one.subscriber, one.topic) for one in told} == {("a.one", "t"), ("c.two", "t")}
            reasons = {one.subscriber: one.reason for one in told}
            assert reasons["a.one"] == "RuntimeError: one"
            assert "expected `int`, got `str`" in reasons["c.two"]
            assert not net.publisher.failures.reported

    async def test_a_foreign_address_is_not_reported_to(self, opened: Open) -> None:
        async with opened() as net:
            message = Message("t", b"{}", {}, "somewhere.else")
            await net.subscriber.report(message, "me", "why")
            await net.subscriber.report(Message("t", b"{}"), "me", "why")

    # What authors use.

    async def test_the_publishers_metadata_is_the_handlers(self, opened: Open) -> None:
        seen: list[Any] = []

        async def handle(message: Message) -> None:
            here = context.current()
            seen.append((dict(here.metadata), here.trace, here.outside, message.key))

        subscriber = Subscriber(handle, "t")
        async with opened() as net:
            handled = subscriber.on(net.subscriber, service="s", namespace="shop")
            async with handled:
                messages = Messages(net.publisher, "p")
                with handling(
                    Foobar="mycustomval",
                    Micro_Trace="ab" * 16,
                    Authorization="Bearer secret",
                    Micro_Namespace="other",
                    Cookie="c=1",
                    Content_Type="text/html",
                ):
                    await messages.publish("t", {"a": 1}, metadata={"x-tra": "1"}, key="k7")
                await until(lambda: seen)
        ((metadata, trace, outside, key),) = seen
        assert metadata == {
            "Content-Type": "application/json",
            "Foobar": "mycustomval",
            "Micro-Namespace": "shop",
            "Micro-Trace": "ab" * 16,
            "X-Tra": "1",
        }
        assert (trace, outside, key) == ("ab" * 16, True, "k7")

    async def test_a_message_has_a_trace_and_a_content_type(self, opened: Open) -> None:
        async with opened() as net:
            messages = Messages(net.publisher, "p")
            async with Messages(net.subscriber, "s").subscribe("t") as heard:
                await messages.publish("t", {"a": 1})
                await messages.publish("t", b"\x00")
                first, second = await anext(heard), await anext(heard)
        assert len(first.headers["Micro-Trace"]) == 32
        assert first.headers["Content-Type"] == "application/json"
        assert (second.body, second.headers["Content-Type"]) == (
            b"\x00",
            "application/octet-stream",
        )

    @pytest.mark.parametrize("value", [1j, object(), float, {"a": object()}, {(1,): 1}, "\ud800"])
    async def test_what_json_cannot_carry(self, opened: Open, value: Any) -> None:
        async with opened() as net:
            with pytest.raises(errors.BadRequest, match="cannot be a message"):
                await Messages(net.publisher, "p").publish("t", value)

    async def test_handlers_take_what_their_hints_say(self, opened: Open) -> None:
        seen: dict[str, Any] = {}

        async def struct(user: User) -> None:
            seen["struct"] = user

        async def model(person: Person, message: Message) -> None:
            seen["model"] = (person, message.topic)

        async def raw(body: bytes) -> None:
            seen["raw"] = body

        async def anything(value: Any) -> None:
            seen["anything"] = value

        def blocking(message: Message) -> None:
            seen["blocking"] = (message.topic, context.current().metadata["Foo"])

        async def nothing() -> None:
            seen["nothing"] = True

        every = [struct, model, raw, anything, blocking, nothing]
        async with opened() as net, contextlib.AsyncExitStack() as stack:
            for function in every:
                subscriber = Subscriber(function, "t")
                await stack.enter_async_context(subscriber.on(net.subscriber, service="s"))
            await Messages(net.publisher, "p").publish("t", User("Ann", 7), metadata={"foo": "x"})
            await until(lambda: len(seen) == len(every))
        assert seen["struct"] == User("Ann", 7)
        assert seen["model"] == (Person(name="Ann"), "t")
        assert json.loads(seen["raw"]) == seen["anything"] == {"name": "Ann", "age": 7}
        assert seen["blocking"] == ("t", "x")
