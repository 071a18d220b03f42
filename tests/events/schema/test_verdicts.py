"""Which changes are compatible, and what is said of those that are not."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import time
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from msgspec import Meta, Struct

from microcosmos.events.schema.compatibility import MAX_PROBLEMS, compare
from microcosmos.events.schema.types import schema_of

ANY: dict[str, Any] = {}
TEXT = {"type": "string"}
NUMBER = {"type": "number"}
WHOLE = {"type": "integer"}


def fields(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


def told(reader: Any, writer: Any) -> list[str]:
    return [str(problem) for problem in compare(reader, writer)]


COMPATIBLE: dict[str, tuple[Any, Any]] = {
    "the same": (fields("a", a=TEXT), fields("a", a=TEXT)),
    "anything is taken": (ANY, fields("a", a=TEXT)),
    "true is anything": (True, {"type": "array"}),
    "nothing is written": (TEXT, False),
    "an integer is a number": (NUMBER, WHOLE),
    "whole steps are integers": (WHOLE, {"type": "number", "multipleOf": 2}),
    "a wider range": ({"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 1}),
    "the same end, one excluded": (
        {"type": "number", "minimum": 0},
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "integers above 0 are from 1": (
        {"type": "integer", "minimum": 1},
        {"type": "integer", "exclusiveMinimum": 0},
    ),
    "steps of steps": ({"type": "integer", "multipleOf": 2}, {"type": "integer", "multipleOf": 4}),
    "a shorter text": ({"type": "string", "maxLength": 9}, {"type": "string", "maxLength": 5}),
    "the same pattern": (
        {"type": "string", "pattern": "^a", "title": "x"},
        {"type": "string", "pattern": "^a", "minLength": 3},
    ),
    "one more value": ({"enum": ["a", "b"]}, {"enum": ["a"]}),
    "values of a type": (TEXT, {"enum": ["a", "b"]}),
    "1.0 is 1": ({"const": 1}, {"const": 1.0}),
    "now null too": ({"type": ["string", "null"]}, TEXT),
    "null by anyOf": ({"anyOf": [TEXT, {"type": "null"}]}, {"type": ["null", "string"]}),
    "both booleans": ({"enum": [True, False]}, {"type": "boolean"}),
    "a new optional property": (fields("a", a=TEXT, b=WHOLE), fields("a", a=TEXT)),
    "an optional property less": (fields("a", a=TEXT), fields("a", a=TEXT, b=WHOLE)),
    "required no more": (fields("", a=TEXT), fields("a", a=TEXT)),
    "required, with a default": (
        fields("a b", a=TEXT, b={**WHOLE, "default": 0}),
        fields("a", a=TEXT),
    ),
    "a struct is a map": ({"type": "object"}, fields("a", a=TEXT)),
    "a map of what a struct has": (
        {"type": "object", "additionalProperties": TEXT},
        fields("a", a=TEXT, b=TEXT),
    ),
    "closed, and no more is written": (
        {**fields("", a=TEXT, b=TEXT), "additionalProperties": False},
        fields("", a=TEXT),
    ),
    "names of a pattern": (
        {"type": "object", "patternProperties": {"^a": TEXT}},
        {"type": "object", "patternProperties": {"^a": {"const": "x"}}},
    ),
    "a place more": (
        {"type": "array", "prefixItems": [TEXT, WHOLE]},
        {"type": "array", "prefixItems": [TEXT]},
    ),
    "items": ({"type": "array", "items": NUMBER}, {"type": "array", "items": WHOLE}),
    "a member more": ({"anyOf": [TEXT, WHOLE, {"type": "null"}]}, {"oneOf": [TEXT, WHOLE]}),
    "branches of oneOf by a tag": (
        {"oneOf": [fields("t", t={"const": "a"}), fields("t", t={"const": "b"})]},
        fields("t", t={"const": "a"}),
    ),
    "allOf is worked in": (
        fields("a", a=NUMBER),
        {"allOf": [fields("a", a=WHOLE), fields("", b=TEXT)]},
    ),
    "the same condition": (
        {**fields("", a=ANY), "if": {"required": ["a"]}, "then": {"minProperties": 1}},
        {**fields("", a=ANY), "if": {"required": ["a"]}, "then": {"minProperties": 1}},
    ),
    "draft 7, items by place": (
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": [NUMBER]},
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": [WHOLE]},
    ),
    "draft 7, definitions": (
        {"$ref": "#/definitions/A", "definitions": {"A": NUMBER}},
        {"$ref": "#/definitions/B", "definitions": {"B": WHOLE}},
    ),
    "what is unknown says nothing": ({"type": "string", "x-note": 1, "format": "color"}, TEXT),
    "a property that is called like a keyword": (
        fields("default", default=TEXT, enum=TEXT, title=WHOLE),
        fields("default", default=TEXT, enum=TEXT, title=WHOLE),
    ),
}


@pytest.mark.parametrize("case", COMPATIBLE)
def test_this_is_compatible(case: str) -> None:
    reader, writer = COMPATIBLE[case]
    assert told(reader, writer) == []


BREAKING: dict[str, tuple[Any, Any, str]] = {
    "another type": (WHOLE, TEXT, "$: a string may be written, and only an integer is taken"),
    "a number": (
        fields("", a=WHOLE),
        fields("", a=NUMBER),
        "$.a: a number may be written, and only an integer is taken",
    ),
    "null": (
        fields("", a=TEXT),
        fields("", a={"type": ["string", "null"]}),
        "$.a: null may be written, and only a string is taken",
    ),
    "a value less": (
        {"enum": ["a", "b"]},
        {"enum": ["a", "c"]},
        '$: "c" may be written, and only "a" or "b" is taken',
    ),
    "any text for values": (
        {"enum": ["a"]},
        TEXT,
        '$: a string may be written, and only "a" is taken',
    ),
    "true is not 1": ({"const": 1}, {"const": True}, "$: true may be written, and only 1 is taken"),
    "a new required property": (
        fields("a b", a=TEXT, b=TEXT),
        fields("a", a=TEXT),
        "$.b: it is required, and is not written",
    ),
    "required now": (
        fields("a", a=TEXT),
        fields("", a=TEXT),
        "$.a: it is required, and may be left out",
    ),
    "closed": (
        {**fields("", a=TEXT), "additionalProperties": False},
        fields("", a=TEXT, b=TEXT),
        "$.b: it may be written, and unknown properties are not taken",
    ),
    "any property may be this one": (
        fields("", a=TEXT),
        {"type": "object"},
        "$.a: any property may be written, this one too: null may be written, and only a string "
        "is taken",
    ),
    "the values of a map": (
        {"type": "object", "additionalProperties": TEXT},
        {"type": "object", "additionalProperties": WHOLE},
        "$.*: an integer may be written, and only a string is taken",
    ),
    "a narrower range": (
        {"type": "integer", "maximum": 9},
        {"type": "integer", "maximum": 10},
        "$: numbers up to 9 are taken, and up to 10 may be written",
    ),
    "the end excluded": (
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "number", "minimum": 0},
        "$: numbers above 0 are taken, and from 0 may be written",
    ),
    "longer texts": (
        {"type": "string", "maxLength": 5},
        TEXT,
        "$: at most 5 characters are taken, and more may be written",
    ),
    "a pattern": (
        {"type": "string", "pattern": "^a"},
        TEXT,
        "$: texts like ^a are taken, and any may be written",
    ),
    "another pattern": (
        {"type": "string", "pattern": "^a"},
        {"type": "string", "pattern": "^ab"},
        "$: it cannot be told whether what is written is like ^a",
    ),
    "a format": (
        {"type": "string", "format": "date"},
        TEXT,
        "$: a date is taken, and any text may be written",
    ),
    "deep inside": (
        fields("", a={"type": "array", "items": fields("", b=WHOLE)}),
        fields("", a={"type": "array", "items": fields("", b=TEXT)}),
        "$.a[*].b: a string may be written, and only an integer is taken",
    ),
    "one place": (
        {"type": "array", "prefixItems": [TEXT, WHOLE]},
        {"type": "array", "prefixItems": [TEXT, TEXT]},
        "$[1]: a string may be written, and only an integer is taken",
    ),
    "fewer items": (
        {"type": "array", "minItems": 1},
        {"type": "array"},
        "$: at least 1 items are taken, and 0 may be written",
    ),
    "twice the same": (
        {"type": "array", "uniqueItems": True},
        {"type": "array"},
        "$: items have to be unique, and may be written twice",
    ),
    "branches of oneOf that overlap": (
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        WHOLE,
        "$: it cannot be told: the branches of oneOf may overlap; use anyOf",
    ),
    "what is not understood": (
        {"not": {"type": "string"}},
        WHOLE,
        "$: it cannot be told whether what is written fits `not`",
    ),
    "odd names": (
        fields("", **{"a b": TEXT}),
        fields("", **{"a b": WHOLE}),
        '$["a b"]: an integer may be written, and only a string is taken',
    ),
    "names": (
        {"type": "object", "propertyNames": {"maxLength": 3}},
        fields("", long=TEXT),
        "$.long: it may be written, and such a name is not taken",
    ),
    "nothing is taken": (False, TEXT, "$: a string may be written, and nothing is taken here"),
    "a reference to nothing but itself": (
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        TEXT,
        "$: it cannot be told: #/$defs/A refers to itself",
    ),
}


@pytest.mark.parametrize("case", BREAKING)
def test_this_breaks(case: str) -> None:
    reader, writer, why = BREAKING[case]
    assert told(reader, writer)[0] == why


# Types, as they change.


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Address(Struct):
    street: str
    zip: str | None = None


class User(Struct):
    name: str
    age: Annotated[int, Meta(ge=0)] = 0
    home: Address | None = None
    tags: list[str] = []
    level: Level = Level.LOW
    born: datetime.date | None = None
    balance: Decimal = Decimal(0)
    id: uuid.UUID | None = None


class Older(Struct):
    name: str
    age: Annotated[int, Meta(ge=0)] = 0
    home: Address | None = None


class Renamed(Struct):
    full_name: str


class Strict(Struct, forbid_unknown_fields=True):
    name: str


class Node(Struct):
    value: int
    children: list[Node] = []


class Fork(Struct):
    value: float
    children: list[Fork] = []


class Long(Struct):
    next: Long | None = None
    other: list[Long] = []


class Cat(Struct, tag=True):
    lives: int


class Dog(Struct, tag=True):
    name: str


class Bird(Struct, tag=True):
    wings: int = 2


class Point(Struct, array_like=True):
    x: int
    y: int


class Space(Struct, array_like=True):
    x: int
    y: int
    z: int = 0


@dataclasses.dataclass
class Plain:
    name: str
    age: int = 0


class Loose(TypedDict):
    name: str


def schema(kind: Any) -> Any:
    return json.loads(schema_of(kind))


@pytest.mark.parametrize(
    ("reader", "writer", "breaks"),
    [
        (User, User, ""),
        (User, Older, ""),
        (Older, User, ""),
        (User, Plain, "$.age: numbers from 0"),
        (Plain, User, ""),
        (Loose, User, ""),
        (User, Loose, ""),
        (Strict, User, "$.age: it may be written, and unknown"),
        (User, Strict, ""),
        (Renamed, User, "$.full_name: it is required, and is not written"),
        (Node, Node, ""),
        (Fork, Node, ""),
        (Node, Fork, "$.value: a number may be written"),
        (Cat | Dog, Cat, ""),
        (Cat | Dog | Bird, Cat | Dog, ""),
        (Cat | Dog, Cat | Dog | Bird, '$.type: "Bird" may be written'),
        (Cat, Cat | Dog, '$.type: "Dog" may be written'),
        (Space, Point, ""),
        (Point, Space, ""),
        (dict[str, int], dict[str, int], ""),
        (dict[str, float], dict[str, int], ""),
        (dict[Literal["a", "b"], int], dict[Literal["a"], int], ""),
        (dict[int, int], dict[int, int], ""),
        (dict, User, ""),
        (list[User], list[Older], ""),
        (set[int], set[int], ""),
        (tuple[int, str], tuple[int, str], ""),
        (tuple[int, str], tuple[int, str, str], "$: at most 2 items"),
        (Literal["a", "b"], Literal["a"], ""),
        (Literal["a"], Literal["a", "b"], '$: "b" may be written'),
        (int | None, int, ""),
        (datetime.datetime, datetime.datetime, ""),
        (datetime.date, datetime.datetime, "$: it cannot be told whether"),
        (bytes, str, None),
    ],
)
def test_types_change(reader: Any, writer: Any, breaks: str | None) -> None:
    if breaks is None:
        assert schema_of(reader) == ""
        return
    found = told(schema(reader), schema(writer))
    assert found[0].startswith(breaks) if breaks else found == []


def test_a_type_that_is_made_of_itself_ends() -> None:
    assert told(schema(Long), schema(Long)) == []
    inner = schema(Long)
    inner["$defs"]["Long"]["properties"]["next"] = {"$ref": "#/$defs/Long"}
    assert (
        told(inner, schema(Long))[0] == "$.next: null may be written, and only an object is taken"
    )


def test_what_rests_on_a_pair_that_breaks_is_not_taken_for_compatible() -> None:
    # B is compatible if A is; A is not, and stands in a union, where that is no end yet.
    reader = {
        "$defs": {
            "A": fields("", b={"$ref": "#/$defs/B"}, n=TEXT),
            "B": fields("", a={"$ref": "#/$defs/A"}),
        },
        **fields("", u={"anyOf": [{"$ref": "#/$defs/A"}, ANY]}, v={"$ref": "#/$defs/B"}),
    }
    writer = json.loads(json.dumps(reader))
    writer["$defs"]["A"]["properties"]["n"] = WHOLE
    assert any(path.startswith("$.v.a.n:") for path in told(reader, writer))


def test_hostile_schemas_end_soon() -> None:
    branches = [{"properties": {f"p{i}": WHOLE}} for i in range(20)]
    exploding = {"type": "object", "allOf": [{"anyOf": branches} for _ in range(20)]}
    wide = fields("", **{f"p{i}": {"anyOf": [TEXT, WHOLE]} for i in range(3000)})
    other = fields("", **{f"p{i}": {"anyOf": [TEXT, NUMBER]} for i in range(3000)})
    deep: Any = TEXT
    for _ in range(90):
        deep = fields("", a=deep)
    began = time.process_time()
    assert "cannot be told" in told(ANY | {"type": "object", "minProperties": 1}, exploding)[0]
    assert len(compare(wide, other)) == MAX_PROBLEMS
    assert told(deep, json.loads(json.dumps(deep))) == []
    assert time.process_time() - began < 10


def test_schemas_of_types_are_stable_and_stand_alone() -> None:
    assert schema_of(User) == schema_of(User)
    assert schema(User)["title"] == "User"
    assert sorted(schema(User)["$defs"]) == ["Address", "Level"]
    assert schema(Node)["$ref"] == "#/$defs/Node"
    assert schema_of(Any) == schema_of(None) == schema_of(bytes) == ""
    text = schema_of(User)
    assert text == msgspec.json.encode(json.loads(text), order="deterministic").decode()
