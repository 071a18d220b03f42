"""The document: what it says of topics, and that AsyncAPI's own parser reads it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from microcosmos.gateway.asyncapi import yaml as ours
from microcosmos.gateway.asyncapi.flows import Flow, Payload

from .conftest import FLOWS, ORDER, Parse, made


def payload_of(api: dict[str, Any], channel: str) -> dict[str, Any]:
    found: dict[str, Any] = api["components"]["messages"][channel]["payload"]
    return found


async def test_a_topic_is_a_channel_with_its_message() -> None:
    api = made(ORDER, flows=FLOWS, server="127.0.0.1:4222")
    channel = api["channels"]["orders.placed"]
    assert channel["address"] == "orders.placed"
    assert channel["x-nats-subject"] == "events.log.*.orders.placed"
    assert list(channel["messages"]) == ["orders.placed"]
    message = api["components"]["messages"]["orders.placed"]
    assert (message["name"], message["x-schema-id"], message["x-schema-version"]) == ("Order", 7, 2)
    assert message["payload"] == {"$ref": "#/components/schemas/Order"}
    assert message["headers"]["properties"].keys() >= {"Micro-Schema", "Micro-Key", "Nats-Msg-Id"}
    assert api["servers"]["nats"]["host"] == "127.0.0.1:4222"
    assert api["info"]["title"] == "micro"


async def test_an_example_fits_its_schema() -> None:
    api = made(ORDER)
    example = api["components"]["messages"]["orders.placed"]["examples"][0]["payload"]
    schema = {"$ref": "#/components/schemas/Order", "components": api["components"]}
    jsonschema.validate(example, schema)
    assert example["lines"][0].keys() == {"sku", "count"}


async def test_services_at_both_ends_are_operations() -> None:
    api = made(ORDER, flows=FLOWS)
    told = {
        one["x-service"]: (one["action"], one.get("bindings", {}).get("nats", {}).get("queue"))
        for one in api["operations"].values()
    }
    assert told == {
        "shop": ("send", None),
        "billing": ("receive", "billing"),
        "audit": ("receive", "audit"),
    }
    by_service = {one["x-service"]: one for one in api["operations"].values()}
    assert by_service["billing"]["x-ordered"] is True
    assert by_service["audit"]["x-pattern"] == "orders.>"
    assert by_service["audit"]["channel"] == {"$ref": "#/channels/orders.placed"}
    assert by_service["shop"]["messages"] == [
        {"$ref": "#/channels/orders.placed/messages/orders.placed"}
    ]


async def test_a_pattern_of_no_topic_is_a_channel_with_parameters() -> None:
    api = made(flows=[Flow(service="a", action="receive", topic="x.*.y.>", group="a")])
    (channel,) = api["channels"].values()
    assert channel["address"] == "x.{part2}.y.{rest}"
    assert channel["parameters"].keys() == {"part2", "rest"}


async def test_a_topic_of_the_broker_is_another_than_that_of_events() -> None:
    flows = [
        Flow(service="a", action="send", topic="t"),
        Flow(service="a", action="send", topic="t", kind="broker", schema={"type": "integer"}),
    ]
    api = made(flows=flows)
    assert {key: one["x-nats-subject"] for key, one in api["channels"].items()} == {
        "t": "events.log.*.t",
        "broker.t": "broker.t",
    }
    assert payload_of(api, "broker.t") == {"type": "integer"}


async def test_what_a_service_says_of_itself_counts_where_nothing_is_registered() -> None:
    reader = Flow(service="r", action="receive", topic="t", group="r", schema={"type": "number"})
    writer = Flow(service="w", action="send", topic="t", schema={"type": "integer"})
    assert payload_of(made(flows=[reader]), "t") == {"type": "number"}
    assert payload_of(made(flows=[reader, writer]), "t") == {"type": "integer"}
    registered = Payload(topic="t", schema={"type": "string"}, id=1, version=1)
    assert payload_of(made(registered, flows=[reader, writer]), "t") == {"type": "string"}


async def test_types_of_one_name_stay_two() -> None:
    def of(kind: str) -> dict[str, Any]:
        field = {"type": "object", "properties": {"x": {"type": kind}}}
        return {"$ref": "#/$defs/Thing", "$defs": {"Thing": {"title": "Thing", **field}}}

    api = made(
        Payload(topic="a", schema=of("string")),
        Payload(topic="b", schema=of("integer")),
        Payload(topic="c", schema=of("string")),
    )
    assert api["components"]["schemas"].keys() == {"Thing", "Thing-b"}
    assert payload_of(api, "a") == payload_of(api, "c") != payload_of(api, "b")


async def test_a_schema_of_draft_7_keeps_its_definitions() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/A"}},
        "definitions": {"A": {"type": "integer", "minimum": 3}},
    }
    api = made(Payload(topic="t", schema=schema))
    assert payload_of(api, "t")["properties"]["a"] == {"$ref": "#/components/schemas/A"}
    assert api["components"]["schemas"]["A"] == {"type": "integer", "minimum": 3}


HOSTILE: list[Any] = [
    True,
    False,
    {},
    {"$ref": "#/nowhere"},
    {"$ref": "https://example.com/schema"},
    {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
    {"type": "object", "properties": {"schema": {"type": "string"}}, "required": ["schema"]},
    {"type": "object", "properties": {"$ref": {"type": "string"}, "a/b~c": {"type": "null"}}},
    {"title": "a b/c", "anyOf": [{"type": "string"}, {"type": ["null", "integer"]}]},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
    {"enum": ["yes", "no", None, 1.5]},
    {"description": ["no text"], "minimum": "none", "x-own": {"deep": [1]}},
]


async def test_asyncapis_parser_finds_nothing_wrong(parse: Parse) -> None:
    tagged = msgspec.json.schema(_Cat | _Dog)
    payloads = [Payload(topic=f"odd.{at}", schema=one, id=at) for at, one in enumerate(HOSTILE)]
    names = ["a:b@c/d+e=f~g-h", "odd_-", "1", "broker.odd"]
    payloads += [Payload(topic=one, schema=tagged, id=1, version=1) for one in names]
    flows = [
        *FLOWS,
        Flow(service="v1.foo", action="receive", topic=">", group="g"),
        Flow(service="foo", action="receive", topic="*", kind="broker", group="q"),
        Flow(service="foo", action="send", topic="odd", kind="broker"),
    ]
    api = made(ORDER, *payloads, flows=flows, server="127.0.0.1:4222")
    found = parse(json.dumps(api))
    assert found["wrong"] == []
    assert {"orders.placed", *names, "odd"} <= {*found["channels"]}
    assert ["send", "shop.send.orders.placed"] in found["operations"]


async def test_an_empty_namespace_has_a_document_too(parse: Parse) -> None:
    found = parse(ours.write(made()))
    assert found == {"channels": [], "operations": [], "wrong": []}


@pytest.mark.parametrize(
    "value",
    [
        made(ORDER, flows=FLOWS, server="[::1]:4222"),
        {"a": [], "b": {}, "c": [[1, [2]], {"d": None}], "": "", " ": " x ", "no": "no"},
        ["- x", "a: b", "#", "'", '"', "\n", "\t", "ü\u2028\x7f", "0x1", "1e3", "~", "2026-01-01"],
        {"1": True, "true": 1, "key: x": 1.5, "?": "*a", "&": "!x", "<<": "|"},
        "yes",
        {},
    ],
)
async def test_yaml_says_what_the_json_says(value: Any) -> None:
    assert yaml.safe_load(ours.write(value)) == value


class _Cat(msgspec.Struct, tag="cat"):
    lives: int = 9


class _Dog(msgspec.Struct, tag="dog"):
    good: bool
