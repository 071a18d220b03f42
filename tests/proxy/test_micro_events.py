"""Events, spoken to by a client that was built for Micro v3: acknowledgements on one stream."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from microcosmos.events.interface import Draft
from microcosmos.events.memory import MemoryLog
from microcosmos.events.service import EventsService
from microcosmos.proxy.files import fresh_pool

F = FieldDescriptorProto
TEXT, DATA, INT, UINT, BOOL = (
    F.TYPE_STRING,
    F.TYPE_BYTES,
    F.TYPE_INT64,
    F.TYPE_UINT64,
    F.TYPE_BOOL,
)
# As Micro's events.proto has them, in order from 1; a map's entries are of texts.
MESSAGES = {
    "PublishRequest": {"topic": TEXT, "metadata": dict, "payload": DATA, "timestamp": INT},
    "PublishResponse": {},
    "ConsumeRequest": {
        "group": TEXT,
        "topic": TEXT,
        "offset": INT,
        "auto_ack": BOOL,
        "ack_wait": INT,
        "retry_limit": INT,
    },
    "Event": {
        "id": TEXT,
        "topic": TEXT,
        "metadata": dict,
        "payload": DATA,
        "timestamp": INT,
    },
    "ReadRequest": {"topic": TEXT, "limit": UINT, "offset": UINT},
    "WriteRequest": {},
    "WriteResponse": {},
    "AckRequest": {"id": TEXT, "success": BOOL},
}
SECOND = 1_000_000_000


def micros_own():
    """The classes of Micro's messages, made from their numbers alone."""
    file = FileDescriptorProto(name="micro.proto", package="events", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            one = message.field.add(name=field, number=number, label=F.LABEL_OPTIONAL)
            if kind is dict:
                entry = message.nested_type.add(name="MetadataEntry")
                entry.options.map_entry = True
                for at, key in enumerate(("key", "value"), 1):
                    entry.field.add(name=key, number=at, type=TEXT, label=F.LABEL_OPTIONAL)
                one.type, one.label = F.TYPE_MESSAGE, F.LABEL_REPEATED
                one.type_name = f".events.{name}.MetadataEntry"
            else:
                one.type = kind
    response = file.message_type.add(name="ReadResponse")
    response.field.add(
        name="events",
        number=1,
        type=F.TYPE_MESSAGE,
        type_name=".events.Event",
        label=F.LABEL_REPEATED,
    )
    pool = fresh_pool()
    pool.Add(file)
    names = [*MESSAGES, "ReadResponse"]
    kinds = {name: pool.FindMessageTypeByName(f"events.{name}") for name in names}
    return SimpleNamespace(
        **{name: message_factory.GetMessageClass(kind) for name, kind in kinds.items()}
    )


PB = micros_own()


class Micro:
    def __init__(self, door, log):
        self.channel = door.channel
        self.log = log

    async def ask(self, path, request, answer):
        stub = self.channel.unary_unary(f"/events.{path}", response_deserializer=answer.FromString)
        return await stub(request.SerializeToString())

    def consume(self, **fields):
        """A stream as Micro's Go client has it: what is sent on it is of two kinds."""
        call = self.channel.stream_stream(
            "/events.Stream/Consume",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=PB.Event.FromString,
        )()
        return Consuming(call, PB.ConsumeRequest(**fields))

    async def group(self, name):
        return next(one for one in await self.log.groups() if one.name == name)


class Consuming:
    def __init__(self, call, request):
        self.call = call
        self.request = request

    async def __aenter__(self):
        await self.call.write(self.request)
        return self

    async def __aexit__(self, *_):
        self.call.cancel()

    async def next(self):
        event = await asyncio.wait_for(self.call.read(), 60)
        assert event is not grpc.aio.EOF
        return event

    async def ack(self, event, success=True):
        await self.call.write(PB.AckRequest(id=event.id, success=success))


@pytest.fixture
def opened(proxy):
    @contextlib.asynccontextmanager
    async def open_one():
        log = MemoryLog()
        async with proxy() as door:
            await door.host([EventsService(lambda _: log, lambda *_: None).hosted()])
            yield Micro(door, log)

    return open_one


async def until(true) -> None:
    async with asyncio.timeout(60):
        while not await true():  # noqa: ASYNC110 - the log does not tell
            await asyncio.sleep(0.01)


async def test_events_are_published_and_read(opened) -> None:
    async with opened() as micro:
        request = PB.PublishRequest(
            topic="chat.1", metadata={"from": "jane"}, payload=b"\x00\xff", timestamp=1234567890
        )
        await micro.ask("Stream/Publish", request, PB.PublishResponse)
        await micro.ask("Stream/Publish", PB.PublishRequest(topic="chat.1"), PB.PublishResponse)
        answer = await micro.ask("Store/Read", PB.ReadRequest(topic="chat.1"), PB.ReadResponse)
        first, second = answer.events
        assert (first.topic, first.payload, first.timestamp) == ("chat.1", b"\x00\xff", 1234567890)
        assert dict(first.metadata) == {"From": "jane"}
        assert second.timestamp > 1234567890
        page = PB.ReadRequest(topic="chat.1", limit=1, offset=1)
        answer = await micro.ask("Store/Read", page, PB.ReadResponse)
        assert [one.id for one in answer.events] == [second.id]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await micro.ask("Store/Write", PB.WriteRequest(), PB.WriteResponse)
        assert caught.value.code().name == "UNIMPLEMENTED"


async def test_an_acknowledged_event_is_done_with_and_another_is_sent_again(opened) -> None:
    async with opened() as micro:
        await micro.log.publish(*(Draft("orders", b"%d" % n, id=f"o{n}") for n in range(3)))
        fields = {"group": "billing", "topic": "orders", "offset": 1, "retry_limit": -1}
        async with micro.consume(**fields, ack_wait=SECOND // 10) as consuming:
            events = [await consuming.next() for _ in range(3)]
            assert [one.payload for one in events] == [b"0", b"1", b"2"]
            await consuming.ack(events[0])
            await consuming.ack(events[2])
            again = await consuming.next()
            assert again.id == "o1"
            await consuming.ack(again)

            async def settled():
                state = await micro.group("billing")
                return state.pending == state.lag == 0

            await until(settled)
        assert await micro.log.dead() == []


async def test_a_refused_event_is_sent_again_until_the_limit_and_then_is_a_dead_letter(
    opened,
) -> None:
    async with opened() as micro:
        await micro.log.publish(Draft("orders", b"bad", id="bad"), Draft("orders", b"good"))
        fields = {"group": "billing", "topic": "orders", "offset": 1, "ack_wait": 60 * SECOND}
        async with micro.consume(**fields, retry_limit=1) as consuming:
            bad, good = await consuming.next(), await consuming.next()
            await consuming.ack(good)
            await consuming.ack(bad, success=False)
            again = await consuming.next()
            assert again.id == "bad"
            await consuming.ack(again, success=False)
            await until(micro.log.dead)
        [letter] = await micro.log.dead()
        assert (letter.event.id, letter.group, letter.attempts) == ("bad", "billing", 2)
        assert "refused 2 times" in letter.reason


async def test_zero_retries_of_who_waits_means_none(opened) -> None:
    async with opened() as micro:
        await micro.log.publish(Draft("orders", b"bad", id="bad"))
        fields = {"group": "billing", "topic": "orders", "offset": 1, "ack_wait": SECOND // 10}
        async with micro.consume(**fields) as consuming:
            assert (await consuming.next()).id == "bad"
            await until(micro.log.dead)
        [letter] = await micro.log.dead()
        assert "sent 1 times and never acknowledged" in letter.reason


async def test_a_group_shares_and_those_without_one_get_everything(opened) -> None:
    async with opened() as micro:
        fields = {"topic": "orders", "auto_ack": True, "retry_limit": -1, "offset": 1}
        shared = [micro.consume(**fields, group="g") for _ in range(2)]
        async with shared[0] as one, shared[1] as two, micro.consume(**fields) as alone:
            await micro.log.publish(Draft("orders", b"a"), Draft("orders", b"b"))
            assert [(await alone.next()).payload for _ in range(2)] == [b"a", b"b"]
            reads = [asyncio.ensure_future(c.call.read()) for c in (one, two)]
            await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)

            async def settled():
                state = await micro.group("g")
                return state.pending == state.lag == 0

            await until(settled)


async def test_a_client_that_says_nothing_and_cannot_acknowledge_is_sent_each_event_once(
    opened,
) -> None:
    async with opened() as micro:
        await micro.log.publish(Draft("orders", b"a"), Draft("orders", b"b"))
        call = micro.channel.unary_stream(
            "/events.Stream/Consume", response_deserializer=PB.Event.FromString
        )(PB.ConsumeRequest(topic="orders", group="g", offset=1).SerializeToString())
        assert [(await call.read()).payload for _ in range(2)] == [b"a", b"b"]

        async def settled():
            state = await micro.group("g")
            return state.pending == state.lag == 0

        await until(settled)
        call.cancel()


async def test_what_a_client_leaves_behind_is_given_to_the_next(opened) -> None:
    async with opened() as micro:
        await micro.log.publish(Draft("orders", b"a"))
        fields = {"group": "g", "topic": "orders", "offset": 1, "ack_wait": 60 * SECOND}
        async with micro.consume(**fields, retry_limit=-1) as first:
            assert (await first.next()).payload == b"a"
        async with micro.consume(**fields, retry_limit=-1) as second:
            event = await second.next()
            assert event.payload == b"a"
            await second.ack(event)


@pytest.mark.parametrize("named", [True, False])
async def test_json_on_the_wire_acknowledges_too(opened, named) -> None:
    async with opened() as micro:
        await micro.log.publish(Draft("orders", b"a", id="o1"))
        call = micro.channel.stream_stream("/events.Stream/Consume")()
        request = b'{"topic":"orders","group":"g","offset":1,"auto_ack":false,"ack_wait":%d}'
        await call.write(request % (60 * SECOND))
        assert b'"id":"o1"' in await call.read()
        ack = b'{"id":"o1","success":true}'
        await call.write(b'{"acks":%s}' % ack if named else ack)

        async def settled():
            state = await micro.group("g")
            return state.pending == state.lag == 0

        await until(settled)
        call.cancel()


async def test_what_is_no_acknowledgement_ends_the_stream(opened) -> None:
    async with opened() as micro:
        await micro.log.publish(Draft("orders", b"a"))
        fields = {"group": "g", "topic": "orders", "offset": 1, "ack_wait": SECOND}
        async with micro.consume(**fields) as consuming:
            await consuming.next()
            await consuming.ack(SimpleNamespace(id="unknown"))
            bad = SimpleNamespace(SerializeToString=lambda: b"\xff\xff")
            await consuming.call.write(bad)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await consuming.next()
            assert caught.value.code().name == "INVALID_ARGUMENT"


async def test_bad_requests_say_what_is_wrong(opened) -> None:
    async with opened() as micro:
        for fields in ({"topic": "a..b"}, {"topic": "orders", "group": "two words"}, {}):
            async with micro.consume(**fields) as consuming:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await consuming.next()
                assert caught.value.code().name == "INVALID_ARGUMENT", fields
