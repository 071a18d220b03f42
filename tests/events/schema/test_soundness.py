"""What is said to be compatible is: whatever a writer writes, the reader takes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from microcosmos.events.schema.closing import closed
from microcosmos.events.schema.compatibility import compare

from .instances import Impossible, written

NAMES = st.sampled_from(["a", "b", "c", "d"])
small = st.integers(-3, 3)
sizes = st.integers(0, 3)


def _some(*pairs: tuple[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict(pairs))


numbers = st.builds(
    lambda kind, more: {"type": kind, **more},
    st.sampled_from(["integer", "number"]),
    _some(
        ("minimum", small),
        ("maximum", small),
        ("exclusiveMinimum", small),
        ("exclusiveMaximum", small),
        ("multipleOf", st.sampled_from([1, 2, 4, 0.5])),
    ),
)
texts = st.builds(
    lambda more: {"type": "string", **more},
    _some(
        ("minLength", sizes),
        ("maxLength", sizes),
        ("pattern", st.sampled_from(["^a", "b$"])),
        ("format", st.just("date")),
    ).map(lambda one: {key: one[key] for key in one if key != "format" or "pattern" not in one}),
)
values = st.one_of(
    st.builds(
        lambda some: {"enum": some},
        st.lists(st.sampled_from(["a", "b", 1, 2, None, True]), min_size=1, max_size=3),
    ),
    st.builds(lambda one: {"const": one}, st.sampled_from(["a", "b", 1, None])),
)
leaves = st.one_of(
    numbers,
    texts,
    values,
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.just({}),
    st.just(False),
    st.just({"$ref": "#/$defs/A"}),
    st.just({"$ref": "#/$defs/B"}),
)


def _more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(NAMES, inner, max_size=3)
    objects = st.builds(
        lambda properties, more: {"type": "object", "properties": properties, **more},
        fields,
        _some(
            ("required", st.lists(NAMES, max_size=2, unique=True)),
            ("additionalProperties", inner),
            ("minProperties", st.integers(0, 2)),
            ("maxProperties", sizes),
        ),
    )
    maps = st.builds(
        lambda more: {"type": "object", **more},
        _some(
            ("additionalProperties", inner),
            ("propertyNames", st.just({"enum": ["a", "b", "zz"]})),
            ("patternProperties", st.builds(lambda one: {"^[ab]": one}, inner)),
        ),
    )
    arrays = st.builds(
        lambda more: {"type": "array", **more},
        _some(
            ("items", inner),
            ("prefixItems", st.lists(inner, min_size=1, max_size=2)),
            ("minItems", sizes),
            ("maxItems", sizes),
            ("uniqueItems", st.just(True)),
        ),
    )
    unions = st.builds(
        lambda keyword, several: {keyword: several},
        st.sampled_from(["anyOf", "allOf", "oneOf"]),
        st.lists(inner, min_size=1, max_size=3),
    )
    beside = st.builds(
        lambda one, several: {**one, "anyOf": several},
        objects,
        st.lists(objects, min_size=1, max_size=2),
    )
    defaulted = st.builds(
        lambda name, value, required: {
            "type": "object",
            "properties": {name: {**value, "default": "x"}},
            "required": [name] if required else [],
        },
        NAMES,
        st.one_of(numbers, texts, values),
        st.booleans(),
    )
    return st.one_of(objects, maps, arrays, unions, beside, defaulted)


schemas = st.recursive(leaves, _more, max_leaves=6)
documents = st.builds(
    lambda top, a, b: {
        **(top if isinstance(top, dict) else {"allOf": [top]}),
        "$defs": {"A": a, "B": b},
    },
    schemas,
    schemas,
    schemas,
)


def drawn(draw: st.DrawFn) -> Any:
    """A schema of its own: hypothesis gives the same objects again."""
    return json.loads(json.dumps(draw(schemas)))


@st.composite
def evolved(draw: st.DrawFn) -> tuple[Any, Any]:
    """A schema and what became of it: mostly alike, so that many pairs are compatible."""
    one, other = (json.loads(text) for text in itertools.repeat(json.dumps(draw(documents)), 2))
    for _ in range(draw(st.integers(0, 2))):
        nodes = [other, *_objects(other)]
        node = nodes[draw(st.integers(0, len(nodes) - 1))]
        match draw(st.sampled_from(["drop", "put", "add", "swap"])):
            case "drop" if node:
                if (name := draw(st.sampled_from(sorted(node)))) != "$defs":
                    del node[name]
            case "put":
                node.setdefault("properties", {})[draw(NAMES)] = drawn(draw)
            case "add":
                node.setdefault("anyOf", [{}]).append(drawn(draw))
            case "swap":
                more = drawn(draw)
                if isinstance(more, dict):
                    node.update(more)
    return one, other


def _objects(value: Any) -> list[dict[str, Any]]:
    found = []
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("$defs", "properties", "patternProperties", "enum", "const", "default"):
                if isinstance(inner, dict):
                    found.append(inner)
                found += _objects(inner)
            elif key in ("properties", "$defs", "patternProperties") and isinstance(inner, dict):
                for each in inner.values():
                    if isinstance(each, dict):
                        found += [each, *_objects(each)]
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                found.append(inner)
            found += _objects(inner)
    return found


def valid(schema: Any) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(schema, validate_formats=True, offline=True)
    except (jsonschema_rs.ValidationError, ValueError):
        assume(False)
        raise AssertionError from None


def taking(schema: Any) -> Any:
    """A schema as a reader takes it who fills in defaults, unless there is a ``oneOf``."""
    return schema if '"oneOf"' in json.dumps(schema) else filled(schema)


def filled(schema: Any) -> Any:
    """A schema that does not ask for what has a default."""
    if isinstance(schema, list):
        return [filled(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: filled(value) for key, value in schema.items()}
    if isinstance(names := found.get("required"), list):
        declared = found.get("properties", {})
        found["required"] = [
            name
            for name in names
            if not (isinstance(declared.get(name), dict) and "default" in declared[name])
        ]
    return found


def hold(reader: Any, writer: Any, data: st.DataObject, values: int = 4) -> None:
    """What is written is taken, if that is said."""
    takes, writes = valid(taking(reader)), valid(writer)
    assume(not compare(reader, writer))
    for _ in range(values):
        try:
            value = written(data.draw, writer, writer)
        except Impossible:
            continue
        if writes.is_valid(value):  # no other branch or keyword rules it out
            assert takes.is_valid(value), (value, reader, writer)


QUICK = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)


@QUICK
@given(evolved(), st.booleans(), st.data())
def test_what_is_written_is_taken_when_it_is_said_to_be(
    pair: tuple[Any, Any], turned: bool, data: st.DataObject
) -> None:
    reader, writer = reversed(pair) if turned else pair
    hold(reader, writer, data)


# The same of two schemas of one kind, of few words, so that many pairs are nearly compatible.

few = st.sampled_from(
    [
        *({"type": "integer"}, {"type": "number"}, {"type": "string"}, {"const": "a"}, {}),
        *({"enum": ["a", 1]}, {"type": ["integer", "null"]}, {"type": "integer", "minimum": 0}),
    ]
)
A_OR_B = st.sampled_from(["a", "b"])
_objects_of_few = st.builds(
    lambda properties, more: {"type": "object", "properties": properties, **more},
    st.dictionaries(A_OR_B, few, max_size=2),
    _some(
        ("required", st.lists(A_OR_B, max_size=2, unique=True)),
        ("additionalProperties", st.one_of(few, st.booleans())),
        ("minProperties", st.integers(1, 2)),
        ("maxProperties", st.integers(1, 2)),
        ("propertyNames", st.sampled_from([{"enum": ["a", "b"]}, {"maxLength": 1}])),
    ),
)
_tags = st.builds(
    lambda tag, required, inner: {
        "type": "object",
        "properties": {"t": {"const": tag}, "n": inner},
        "required": ["t"] if required else ["n"],
    },
    st.sampled_from(["x", "y", "z"]),
    st.booleans(),
    few,
)
FAMILIES: dict[str, st.SearchStrategy[Any]] = {
    "numbers": numbers,
    "texts": texts,
    "values": st.one_of(values, few),
    "conditions": st.builds(
        lambda one, two: {"type": ["integer", "string"], **one, **two},
        _some(("not", few)),
        _some(("if", few), ("then", few)),
    ),
    "arrays": st.builds(
        lambda more: {"type": "array", **more},
        _some(
            ("items", few),
            ("prefixItems", st.lists(few, min_size=1, max_size=2)),
            ("minItems", st.integers(1, 2)),
            ("maxItems", st.integers(1, 2)),
            ("uniqueItems", st.just(True)),
        ),
    ),
    "objects": _objects_of_few,
    "maps": st.one_of(
        _objects_of_few,
        st.builds(
            lambda more: {"type": "object", **more},
            _some(
                ("additionalProperties", few),
                ("patternProperties", st.builds(lambda one: {"^[ab]$": one}, few)),
            ),
        ),
    ),
    "patterns": st.builds(
        lambda inner, rest: {"type": "object", "patternProperties": {"^[ab]$": inner}, **rest},
        few,
        _some(("additionalProperties", st.one_of(few, st.just(False)))),
    ),
    "names": st.builds(
        lambda names, more: {"type": "object", "propertyNames": names, **more},
        st.sampled_from([{"enum": ["a"]}, {"enum": ["a", "zz"]}, {"maxLength": 1}, {}]),
        _some(("properties", st.just({"a": {}})), ("additionalProperties", st.just(True))),
    ),
    "unions": st.builds(
        lambda keyword, several: {keyword: several},
        st.sampled_from(["anyOf", "oneOf"]),
        st.lists(few, min_size=1, max_size=3),
    ),
    "tagged": st.builds(
        lambda keyword, several: {keyword: several},
        st.sampled_from(["anyOf", "oneOf"]),
        st.lists(_tags, min_size=1, max_size=3),
    ),
    "both": st.builds(
        lambda several: {"allOf": several}, st.lists(_objects_of_few, min_size=2, max_size=2)
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@QUICK
@given(data=st.data())
def test_of_two_alike_too(family: str, data: st.DataObject) -> None:
    reader = data.draw(FAMILIES[family])
    writer = data.draw(st.one_of(FAMILIES[family], st.just(reader)))
    hold(reader, writer, data, 6)


_any = st.recursive(
    st.sampled_from([None, True, 0, 1, -1, 1.5, "a", "b", "x", ""]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b", "t", "n", "zz"]), inner, max_size=3),
    ),
    max_leaves=4,
)


@pytest.mark.parametrize("family", ["objects", "maps", "patterns", "arrays", "tagged", "unions"])
@QUICK
@given(data=st.data())
def test_a_dict_that_may_be_published_is_taken(family: str, data: st.DataObject) -> None:
    reader, writer = data.draw(FAMILIES[family]), data.draw(FAMILIES[family])
    takes, may = valid(taking(reader)), valid(closed(writer))
    assume(not compare(reader, writer))
    for _ in range(8):
        value = data.draw(_any)
        if may.is_valid(value):
            assert takes.is_valid(value), (value, reader, writer, closed(writer))


@pytest.mark.parametrize("family", ["objects", "maps", "patterns", "arrays", "tagged", "both"])
@QUICK
@given(data=st.data())
def test_what_a_writer_writes_may_be_published_as_a_dict(family: str, data: st.DataObject) -> None:
    inner = data.draw(FAMILIES[family])
    writer = {"type": "object", "properties": {"a": inner, "b": {"type": "array", "items": inner}}}
    whole, may = valid(writer), valid(closed(writer))
    for _ in range(4):
        try:
            value = written(data.draw, writer, writer)
        except Impossible:
            continue
        if whole.is_valid(value):
            assert may.is_valid(value), (value, writer, closed(writer))
