"""Calls by JSON and by protobuf, with what travels beside them."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format, message_factory
from grpc import aio

from microcosmos.base.context import Context
from microcosmos.rpc import MAX_BODY


class Greeting(msgspec.Struct):
    msg: str


async def call(name: str = "World") -> Greeting:
    """Say hello."""
    return Greeting(f"Hello {name}")


async def add(a: int, b: int, scale: float = 1.0) -> int:
    return int((a + b) * scale)


async def seen(context: Context) -> dict[str, Any]:
    left = context.remaining()
    return {"metadata": dict(context.metadata), "namespace": context.namespace, "left": left}


async def echo(text: str) -> str:
    return text


async def test_a_json_call_is_answered_in_json(proxy, service):
    async with proxy(service("helloworld", call)) as door:
        answer = await door.call("/helloworld.Helloworld/Call", b'{"name":"John"}')
        assert answer == b'{"msg":"Hello John"}'


async def test_a_protobuf_call_is_answered_in_protobuf(proxy, service):
    async with proxy(service("helloworld", call)) as door:
        assert (await door.invoke("helloworld.Helloworld", "Call", name="John")).msg == "Hello John"
        # By hand: field 1 is the first of the shape, on both sides.
        answer = await door.call("/helloworld.Helloworld/Call", b"\x0a\x04John")
        assert answer == b"\x0a\x0aHello John"


async def test_an_empty_protobuf_message_leaves_the_defaults_of_the_handler(proxy, service):
    async with proxy(service("helloworld", call)) as door:
        answer = await door.call("/helloworld.Helloworld/Call", b"")
        assert answer == b"\x0a\x0bHello World"


async def test_a_zero_that_was_set_arrives(proxy, service):
    async with proxy(service("sums", add)) as door:
        assert (await door.invoke("sums.Sums", "Add", a=0, b=0)).value == 0
        assert (await door.invoke("sums.Sums", "Add", a=3, b=0, scale=0.0)).value == 0
        assert (await door.invoke("sums.Sums", "Add", a=2**60, b=0)).value == 2**60


async def test_an_empty_payload_is_json_if_the_header_says_so(proxy, service):
    async with proxy(service("helloworld", call)) as door:
        headers = (("x-content-type", "application/json"),)
        answer = await door.call("/helloworld.Helloworld/Call", b"", metadata=headers)
        assert answer == b'{"msg":"Hello World"}'


async def test_services_may_have_dots_and_dashes_in_their_names(proxy, service):
    async with proxy(service("v1.foo", call), service("my-shop", call)) as door:
        for path in ("/v1.foo.Foo/Call", "/my-shop.MyShop/Call", "/my_shop.MyShop/Call"):
            assert await door.call(path) == b'{"msg":"Hello World"}'
        assert (await door.invoke("my_shop.MyShop", "Call", name="you")).msg == "Hello you"


async def test_names_that_start_with_a_digit_are_written_with_a_letter_before(proxy, service):
    async with proxy(service("2nd", call)) as door:
        assert await door.call("/2nd.2nd/Call") == b'{"msg":"Hello World"}'
        assert (await door.invoke("n2nd.n2nd", "Call", name="you")).msg == "Hello you"


async def test_metadata_travels_without_what_is_grpcs_own(proxy, service):
    headers = (
        ("authorization", "Bearer x"),
        ("micro-namespace", "foo"),
        ("foobar", "1"),
        ("foobar", "2"),
        ("blob-bin", b"\x00\xff"),
        ("x-content-type", "application/json"),
    )
    async with proxy(service("probe", seen)) as door:
        answer = msgspec.json.decode(await door.call("/probe.Probe/Seen", metadata=headers))
    assert answer["namespace"] == "foo"
    trace = answer["metadata"].pop("Micro-Trace")
    assert len(trace) == 32
    assert answer["metadata"] == {
        "Authorization": "Bearer x",
        "Micro-Namespace": "foo",
        "Foobar": "1, 2",
    }


@pytest.mark.parametrize(
    ("deadline", "header", "least", "most"),
    [
        (None, None, 5, 10),
        (30.0, None, 20, 31),
        (None, "90000000000", 80, 90),
        (30.0, "5000000000", 1, 5),
        (5.0, "90000000000", 1, 6),
    ],
)
async def test_the_sooner_deadline_counts(proxy, service, deadline, header, least, most):
    metadata = (("timeout", header),) if header else ()
    async with proxy(service("probe", seen)) as door:
        data = await door.call("/probe.Probe/Seen", timeout=deadline, metadata=metadata)
    assert least < msgspec.json.decode(data)["left"] <= most


async def test_a_call_that_is_late_is_cancelled_in_the_handler(proxy, service, code):
    cancelled = asyncio.Event()

    async def sleep() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with proxy(service("slow", sleep)) as door:
        error = await door.fails("/slow.Slow/Sleep", timeout=0.5)
        assert error.code() is code.DEADLINE_EXCEEDED
        await cancelled.wait()
        cancelled.clear()
        error = await door.fails("/slow.Slow/Sleep", metadata=(("timeout", "500000000"),))
        assert error.code() is code.DEADLINE_EXCEEDED
        assert "slow Slow.Sleep did not answer within 0." in error.details()
        await cancelled.wait()


async def test_a_client_that_cancels_cancels_the_handler(proxy, service):
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def sleep() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with proxy(service("slow", sleep)) as door:
        call = door.channel.unary_unary("/slow.Slow/Sleep")(b"{}")
        await started.wait()
        call.cancel()
        await cancelled.wait()


async def test_closing_waits_for_calls_and_ends_streams_that_stand(proxy, service):
    started, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        started.set()
        await go.wait()
        return "done"

    opened = proxy(service("slow", slow))
    door = await opened.__aenter__()
    async with aio.insecure_channel(door.address) as channel:
        call = channel.unary_unary("/slow.Slow/Slow")(b"{}")
        standing = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert await standing.read() == b"\x08\x01"
        await started.wait()
        closing = asyncio.create_task(opened.__aexit__(None, None, None))
        assert await standing.read() is aio.EOF
        assert not call.done()
        go.set()
        assert await call == b'"done"'
    await closing


async def test_messages_up_to_the_limit_pass_and_others_are_refused(proxy, service, code):
    async with proxy(service("big", echo)) as door:
        text = "x" * (MAX_BODY - 100)
        assert (await door.invoke("big.Big", "Echo", text=text)).value == text
        body = msgspec.json.encode({"text": text})
        assert len(await door.call("/big.Big/Echo", body)) == len(text) + 2
        for size in (MAX_BODY + 1, MAX_BODY + 2**20):
            error = await door.fails("/big.Big/Echo", b"\x0a" + _varint(size) + b"x" * size)
            assert error.code() is code.RESOURCE_EXHAUSTED
        assert await door.call("/big.Big/Echo", b'{"text":"still here"}') == b'"still here"'


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


@dataclasses.dataclass
class Item:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    children: list[Item] = dataclasses.field(default_factory=list)


class Everything(msgspec.Struct, omit_defaults=True):
    text: str = ""
    whole: int = 0
    ratio: float = 0.0
    flag: bool = False
    data: bytes = b""
    free: Any = None
    either: int | str = 0
    texts: list[str] = []
    items: list[Item] = []
    scores: dict[str, float] = {}
    by_name: dict[str, Item] = {}
    grid: list[list[int]] = []
    item: Item | None = None
    dashed: int = msgspec.field(name="dashed-name", default=0)
    camelCase: int = 0  # noqa: N815 - a name that protobuf's JSON would change
    camel_case: int = 0


async def same(everything: Everything) -> Everything:
    return everything


EVERYTHING = {
    "text": "ä",
    "whole": 2**62,
    "ratio": 0.5,
    "flag": True,
    "data": "AP8=",
    "free": {"a": [1, 2.5, None, "x", True, {}]},
    "either": 7,
    "texts": ["a", "b"],
    "items": [{"name": "i", "tags": ["t"], "children": [{"name": "j"}]}],
    "scores": {"x": 1.5},
    "by_name": {"k": {"name": "v"}},
    "grid": [[1, 2], [3]],
    "item": {"name": "n", "children": [{"name": "o", "children": [{"name": "p"}]}]},
    "dashed-name": 1,
    "camelCase": 2,
    "camel_case": 3,
}


async def test_every_type_of_a_shape_goes_there_and_back(proxy, service):
    async with proxy(service("types", same)) as door:
        pool = await door.pool("types.Types")
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("types.Everything"))
        message = json_format.ParseDict(EVERYTHING, kind())
        answer = kind.FromString(await door.call("/types.Types/Same", message.SerializeToString()))
    assert answer == message
    shown = json_format.MessageToDict(answer)
    # proto3 JSON writes 64-bit integers as texts, and doubles for what is any.
    assert shown == {
        **EVERYTHING,
        "whole": str(2**62),
        "dashed-name": "1",
        "camelCase": "2",
        "camel_case": "3",
    }
