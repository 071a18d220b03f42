"""Messages made of value trees: names, numbers and types that stay as they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from microcosmos import rpc
from microcosmos.base.schema import Value, tree
from microcosmos.proxy.descriptors import Descriptors
from microcosmos.proxy.files import describe
from microcosmos.proxy.shapes import identifier, package
from microcosmos.registry import Endpoint, Node, Service, Table
from microcosmos.rpc import Hosted


class Tree(msgspec.Struct):
    name: str
    left: Tree | None = None
    right: list[Tree] = []


class Odd(msgspec.Struct):
    dashed: int = msgspec.field(name="user-id")
    underscored: int = msgspec.field(name="user_id")
    digit: dict[str, int] = msgspec.field(name="2nd")
    ok: dict[str, list[int]] = {}


def made(*endpoints: Endpoint, service: str = "s"):
    file = describe(service, endpoints)
    return {m.name: m for m in file.proto.message_type}, file


def fields(message) -> list[tuple[str, int]]:
    return [(field.json_name, field.number) for field in message.field]


def test_numbers_follow_the_order_of_the_fields():
    messages, _ = made(Endpoint(name="S.Call", request=tree(Tree)))
    assert fields(messages["Tree"]) == [("name", 1), ("left", 2), ("right", 3)]


def test_a_recursive_type_is_one_recursive_message():
    messages, file = made(Endpoint(name="S.Call", request=tree(Tree), response=tree(Tree)))
    assert list(messages) == ["Tree"]
    descriptor = file.pool.FindMessageTypeByName("s.Tree")
    assert descriptor.fields_by_name["left"].message_type is descriptor
    assert descriptor.fields_by_name["right"].is_repeated


def test_names_that_protobuf_has_not_are_escaped_and_keep_their_json_names():
    messages, file = made(Endpoint(name="S.Call", request=tree(Odd)))
    assert [f.name for f in messages["Odd"].field] == ["user_id_2", "user_id", "n2nd", "ok"]
    assert [f.json_name for f in messages["Odd"].field] == ["user-id", "user_id", "2nd", "ok"]
    assert file.method("S.Call") is not None


def test_two_structs_of_one_name_are_two_messages():
    one = Value(type="Item", values=[Value(name="a", type="string")])
    two = Value(type="Item", values=[Value(name="b", type="int64")])
    messages, _ = made(
        Endpoint(name="S.One", request=one, response=one), Endpoint(name="S.Two", request=two)
    )
    assert fields(messages["Item"]) == [("a", 1)]
    # They share their numbers, so that it does not matter which of them is called Item.
    assert fields(messages["Item2"]) == [("b", 2)]
    assert [(one.start, one.end) for one in messages["Item2"].reserved_range] == [(1, 2)]


def test_a_struct_may_be_called_like_the_handler():
    shape = Value(type="S", values=[Value(name="a", type="string")])
    messages, file = made(Endpoint(name="S.Call", request=shape))
    assert fields(messages["S2"]) == [("a", 1)]
    assert file.pool.FindServiceByName("s.S")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Value(), "google.protobuf.Value"),
        (Value(type="any"), "google.protobuf.Value"),
        (tree(dict[str, Any]), "google.protobuf.Struct"),
        (Value(name="User", type="User"), "google.protobuf.Struct"),
        (Value(name="CallResponse", type="CallResponse"), "s.CallResponse"),
        (tree(str), "s.CallResponse"),
        (tree(list[Tree]), "s.CallResponse"),
        (tree(Tree), "s.Tree"),
    ],
)
def test_what_an_answer_is(kind, name):
    file = describe("s", [Endpoint(name="S.Call", response=kind)])
    method = file.pool.FindServiceByName("s.S").FindMethodByName("Call")
    assert method.output_type.full_name == name
    assert method.input_type.full_name == "google.protobuf.Struct"


@pytest.mark.parametrize(
    "body",
    [b'"text"', b"[1,2.5,null]", b'{"a":{"b":[true]}}', b"null", b"9007199254740992", b"-0.5"],
)
def test_json_of_no_known_shape_goes_through_unchanged(body):
    form = describe("s", [Endpoint(name="S.Call")]).method("S.Call").response
    assert form.to_json(form.from_json(body, "s"), "s") == body


def test_not_a_number_is_written_as_proto3_json_writes_it():
    shape = Value(type="F", values=[Value(name="f", type="[]float64")])
    form = describe("s", [Endpoint(name="S.Call", request=shape)]).method("S.Call").request
    data = form.from_json(b'{"f":["NaN","Infinity",1]}', "s")
    assert form.to_json(data, "s") == b'{"f":["NaN","Infinity",1.0]}'


@pytest.mark.parametrize(
    ("word", "plain"),
    [("a-b", "a_b"), ("2x", "n2x"), ("", "n"), ("_1", "n_1"), ("ä", "n_"), ("_fine", "_fine")],
)
def test_identifiers(word, plain):
    assert identifier(word) == plain


def test_packages_keep_their_dots():
    assert package("v1.my-shop.2") == "v1.my_shop.n2"


def known(*nodes: str, endpoint: str = "S.Call") -> Service:
    endpoints = [Endpoint(name=endpoint, request=tree(Tree))]
    return Service(name="s", endpoints=endpoints, nodes=[Node(id=node) for node in nodes])


async def test_a_file_stays_while_the_endpoints_do():
    table = Table()
    descriptors = Descriptors(table)
    table.replace([known("1")])
    file = await descriptors.file("s")
    table.replace([known("1", "2")])
    assert await descriptors.file("s") is file
    table.replace([known("1", endpoint="S.Other")])
    assert await descriptors.file("s") is not file
    assert (await descriptors.file("s")).method("S.Call") is None


def test_of_two_services_with_one_package_the_true_name_wins():
    table = Table()
    nodes = [Node(id="1")]
    table.replace([Service(name="a-b", nodes=nodes), Service(name="a_b", nodes=nodes)])
    assert Descriptors(table).service_of("a_b") == "a_b"
    table.replace([Service(name="a-b", nodes=nodes), Service(name="c", nodes=nodes)])
    descriptors = Descriptors(table)
    assert [descriptors.service_of("a_b") for _ in range(2)] == ["a-b", "a-b"]
    assert descriptors.service_of("a.b") is None


async def test_shapes_that_make_no_messages_are_still_called_by_json(proxy):
    async def answer(body: bytes) -> bytes:
        return body

    twice = Value(type="T", values=[Value(name="a", type="string"), Value(name="a", type="bool")])
    async with proxy(Hosted("odd", [rpc.Endpoint("Odd.Call", answer, twice)])) as door:
        assert await door.call("/odd.Odd/Call", b'{"a":1}') == b'{"a":1}'
        error = await door.fails("/odd.Odd/Call", b"")
        assert error.code().name == "INTERNAL"
        assert "its shapes make no protobuf messages; call it by JSON" in error.details()
