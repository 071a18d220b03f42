"""JSON Schema seen as value trees."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from microcosmos.base import schema
from microcosmos.base.json_schema import tree
from microcosmos.base.schema import MAX_DEPTH, Value


class Place(msgspec.Struct):
    x: float
    up: Place | None = None


class Order(msgspec.Struct):
    id: int
    name: str
    paid: bool
    data: bytes
    tags: list[str]
    counts: dict[str, int]
    lines: list[Place]
    where: Place | None = None
    more: Any = None


def test_a_type_and_its_json_schema_have_one_tree() -> None:
    (told,), defs = msgspec.json.schema_components([Order])
    given = tree(told, {"Order": defs["Order"], "Place": defs["Place"]})
    assert given == schema.tree(Order)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["null", "integer"]}, "int64"),
        ({"type": ["string", "integer"]}, "any"),
        ({"type": "string", "contentEncoding": "base64"}, "bytes"),
        ({"enum": ["a", "b"]}, "string"),
        ({"enum": [1, "b"]}, "any"),
        ({"const": True}, "bool"),
        ({"type": "array"}, "[]any"),
        ({"type": "array", "items": {"type": "number"}}, "[]float64"),
        ({"type": "object"}, "map[string]any"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "map[string]bool"),
        ({"type": "object", "additionalProperties": False}, "Request"),
        ({"type": "object", "title": "a place", "properties": {"x": True}}, "Aplace"),
        ({"properties": {"x": {}}}, "Request"),
        ({"anyOf": [{"type": "null"}, {"type": "number"}]}, "float64"),
        ({"oneOf": [{"type": "string"}, {"type": "number"}]}, "any"),
        ({"$ref": "#/$defs/Name"}, "string"),
        ({"$ref": "#/$defs/Round"}, "any"),
        ({"$ref": "elsewhere.json"}, "any"),
        (True, "any"),
        ({}, "any"),
        ("nonsense", "any"),
        ({"type": 5, "items": 6, "enum": []}, "any"),
    ],
)
def test_kinds(given: Any, kind: str) -> None:
    defs = {"Name": {"type": "string"}, "Round": {"$ref": "#/$defs/Round"}}
    assert tree(given, defs, "Request").type == kind


def test_definitions_may_stand_in_the_schema_itself() -> None:
    given = {"$ref": "#/definitions/P", "definitions": {"P": {"properties": {"a": {}}}}}
    assert tree(given).values == [Value(name="a", type="any")]


def test_a_recursive_schema_ends() -> None:
    node: Any = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    found: Value | None = tree({"$ref": "#/$defs/Node"}, {"Node": node})
    depth = 0
    while found is not None and found.values:
        found = found.field("next")
        depth += 1
    assert depth == MAX_DEPTH
