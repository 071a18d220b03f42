"""`micro proto`: text that protoc takes, that says what reflection says, and whose stubs work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microcosmos.base.schema import Value
from microcosmos.proxy import text, wire
from microcosmos.proxy.files import describe
from microcosmos.proxy.numbers import Field, Pins, Wanted
from microcosmos.registry import Endpoint


class Line(msgspec.Struct):
    text: str
    tags: list[str] = []
    by_key: dict[str, int] = {}
    free: Any = None
    dashed: int = msgspec.field(name="dashed-name", default=0)
    userId: str = ""  # noqa: N815 - its name in protoc's JSON is its own


async def say(line: Line) -> Line:
    """Say a line again.

    Nobody reads this.
    """
    return Line(line.text.upper(), line.tags, line.by_key, line.free, line.dashed, line.userId)


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


async def add(numbers: AsyncIterator[int]) -> int:
    return sum([number async for number in numbers])


async def chat(lines: AsyncIterator[Line], shout: bool = False) -> AsyncIterator[Line]:
    async for line in lines:
        yield Line(line.text.upper() if shout else line.text)


PROTO = """\
syntax = "proto3";

package shop;

import "google/protobuf/struct.proto";

service Shop {
  rpc Add(stream AddRequest) returns (AddResponse);
  rpc Chat(stream ChatRequest) returns (stream Line);
  rpc Count(CountRequest) returns (stream CountResponse);
  // Say a line again.
  rpc Say(Line) returns (Line);
}

message AddRequest {
  optional int64 value = 1;
}

message AddResponse {
  optional int64 value = 1;
}

message ChatRequest {
  optional bool shout = 1;
  Line lines = 2;
}

message CountRequest {
  optional int64 to = 1;
}

message CountResponse {
  optional int64 value = 1;
}

message Line {
  optional string text = 1;
  repeated string tags = 2;
  map<string, int64> by_key = 3 [json_name = "by_key"];
  google.protobuf.Value free = 4;
  optional int64 dashed_name = 5 [json_name = "dashed-name"];
  optional string userId = 6;
}
"""

CALLS = """
import sys, grpc
from google.protobuf.struct_pb2 import Value
import shop_pb2 as m, shop_pb2_grpc as s

with grpc.insecure_channel(sys.argv[1]) as channel:
    shop = s.ShopStub(channel)
    line = m.Line(text="a", tags=["x"], by_key={"k": 2}, free=Value(number_value=3))
    line.dashed_name, line.userId = 4, "u"
    said = shop.Say(line)
    print(said.text, said.tags, dict(said.by_key), said.free.number_value, said.dashed_name,
          said.userId)
    print([one.value for one in shop.Count(m.CountRequest(to=3))])
    print(shop.Add(m.AddRequest(value=n) for n in (1, 2, 3)).value)
    a, b = (m.Line(text=text) for text in "ab")
    lines = [m.ChatRequest(shout=True, lines=a), m.ChatRequest(lines=b)]
    print([one.text for one in shop.Chat(iter(lines))])
"""


class Basket(msgspec.Struct):
    """What somebody carries.

    It may be empty.
    """

    items: list[str]
    prices: dict[str, float]
    notes: list[str] | None = None


async def carry(
    baskets: list[Basket], who: Annotated[str, msgspec.Meta(description="Its name.")] = "you"
) -> dict[str, Any]:
    return {"baskets": baskets}


NOTED = """\
message CarryRequest {
  repeated Basket baskets = 1;
  // Its name.
  optional string who = 2;
}

// What somebody carries.
//
// It may be empty.
message Basket {
  repeated string items = 1;
  map<string, double> prices = 2;
  repeated string notes = 3;
}
"""


async def test_what_the_schemas_say_of_structs_and_fields_is_said_in_comments(
    proxy, service
) -> None:
    async with proxy(service("shop", carry)) as door:
        assert (await door.proto("shop")).endswith(NOTED)


async def test_a_list_that_must_be_there_may_be_empty(proxy, service) -> None:
    async with proxy(service("shop", carry)) as door:
        answer = await door.invoke("shop.Shop", "Carry")
        assert json_format.MessageToDict(answer) == {"baskets": []}
        answer = await door.invoke("shop.Shop", "Carry", baskets=[{"items": ["a"]}, {}])
        assert json_format.MessageToDict(answer)["baskets"] == [
            {"items": ["a"], "prices": {}, "notes": None},
            {"items": [], "prices": {}, "notes": None},
        ]


async def test_the_stubs_that_protoc_makes_of_it_can_call(proxy, service, compiled) -> None:
    async with proxy(service("shop", say, count, add, chat)) as door:
        shown = await door.proto("shop")
        assert shown == PROTO
        said = await door.script(CALLS, compiled({"shop.proto": shown}))
    assert said.splitlines() == ["A ['x'] {'k': 2} 3.0 4 u", "[0, 1, 2]", "6", "['A', 'B']"]


def parsed(folder: Path, file: FileDescriptorProto) -> FileDescriptorProto:
    """What protoc reads in the text of a file."""
    (folder / file.name).write_text(text.write(file))
    out = folder / "out"
    options = [f"-I{folder}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    assert protoc.main(["protoc", *options, f"--descriptor_set_out={out}", file.name]) == 0
    found = FileDescriptorSet.FromString(out.read_bytes()).file
    return next(one for one in found if one.name == file.name)


def plain(file: FileDescriptorProto) -> Any:
    """A file without its comments, and with its parts in the order of their names."""
    copy = FileDescriptorProto.FromString(file.SerializeToString())
    copy.ClearField("source_code_info")
    for method in (one for service in copy.service for one in service.method):
        for way in ("client_streaming", "server_streaming"):
            method.ClearField(way) if not getattr(method, way) else None
    for message in (*copy.message_type, *(n for m in copy.message_type for n in m.nested_type)):
        message.field.sort(key=lambda field: field.number)
        for field in message.field:
            field.ClearField("oneof_index")
            # protoc leaves out what it makes by itself, in map entries.
            field.ClearField("json_name") if field.name in ("key", "value") else None
        message.ClearField("oneof_decl")
    return copy


@pytest.mark.parametrize("package", wire.PACKAGES)
def test_the_files_of_core_services_are_read_back_as_they_were(tmp_path, package) -> None:
    file = describe(package, []).proto
    assert plain(parsed(tmp_path, file)) == plain(file)


WORDS = ["message", "string", "optional", "map", "google", "s", "S", "Value", "FooEntry", "Call"]
NAMES = st.sampled_from(["foo", "_", "option", "2nd", "a-b", "a_b", "aB", "ä", 'q"\\', "Foo", "x"])
TYPES = st.sampled_from(["string", "any", "[]int64", "map[string]bool", "bytes", "[][]string"])


def structs(depth: int) -> Any:
    named = st.sampled_from(WORDS)
    below = TYPES.map(lambda kind: (kind, []))
    if depth:
        inner = structs(depth - 1).map(lambda value: (value.type, value.values))
        below |= inner | inner.map(lambda one: (f"[]{one[0]}", one[1]))
        below |= inner.map(lambda one: (f"map[string]{one[0]}", one[1]))

    def made(name: str, fields: dict[str, tuple[str, list[Value]]]) -> Value:
        values = [Value(name=n, type=kind, values=v) for n, (kind, v) in fields.items()]
        return Value(name=name, type=name, values=values)

    return st.builds(made, named, st.dictionaries(NAMES, below, max_size=4))


@given(request=structs(2), response=structs(2), ways=st.sampled_from(["", "client", "both"]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_a_service_publishes_is_read_back_as_it_was(
    tmp_path, request, response, ways
) -> None:
    about = {"stream": "true", "micro.stream": ways, "description": "It is\u2028this */ // that."}
    endpoints = [
        Endpoint(name="S.Call", request=request, response=response, metadata=about),
        Endpoint(name="S.message", request=response, response=request),
    ]
    file = describe("s", endpoints).proto
    assert plain(parsed(tmp_path, file)) == plain(file)


def test_reserved_numbers_are_told(tmp_path) -> None:
    pins = Pins().grown(Wanted([Field("User", name, "string") for name in "abcdef"], {}))
    user = Value(type="User", values=[Value(name=name, type="string") for name in "bf"])
    file = describe("s", [Endpoint(name="S.Call", request=user)], pins).proto
    assert "  reserved 1, 3 to 5;\n" in text.write(file)
    assert plain(parsed(tmp_path, file)) == plain(file)
