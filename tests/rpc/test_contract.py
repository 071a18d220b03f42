"""Schemas say exactly what is read and written."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import jsonschema
import msgspec
import pydantic
import pytest
from msgspec import Meta

from microcosmos.base import errors
from microcosmos.rpc import contract, docstring
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.schemas import Schemas


def told(kind: Any) -> dict[str, Any]:
    """The schema of a type, whole."""
    schemas = Schemas()
    return {**schemas.of(kind), "$defs": schemas.defs}


def takes(kind: Any, value: Any) -> bool:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(told(kind), format_checker=checker).is_valid(value)


def reads(kind: Any, value: Any) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except msgspec.ValidationError:
        return False
    return True


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    name: str
    friend: Dog | None = None


class Listed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    x: int
    y: int = 0


class TaggedList(msgspec.Struct, array_like=True, tag="t"):
    x: int


class Pair(NamedTuple):
    a: int
    b: str = ""


class Box(TypedDict, total=False):
    wide: int


@dataclass
class Size:
    width: int
    height: int = 1


VALUES: list[Any] = [
    *(None, True, 0, -1, 7, 10**30, 1.5, "", "text", [], [1], [1, "a"], [1, 1], {}, {"1": 2}),
    *("red", "YQ==", "YQ", "a===", "1.5", "-1e5", "NaN", "1,5", "P1D", "P", "PT", "PT1.5S", "P1Y"),
    *("P1DT2H3M4S", "-PT5S", "12:30:00", "25:00:00", "12:30:00Z", "12:30", "2026-01-31"),
    *("2026-02-31", "2026-01-31T12:30:00Z", "7d2f4b1e-8c3a-4f5d-9b6e-1a2c3d4e5f60", "7d2f"),
    *({"type": "Cat"}, {"lives": 1}, {"name": "Rex"}, {"type": "Dog", "name": "Rex"}),
    *({"type": "Dog", "name": "Rex", "friend": {"name": "Max"}}, {"type": "Cow"}),
    *({"type": "Dog", "name": "Rex", "age": 3}, {"wide": "x"}, {"wide": 1}, {"width": 1}, ["t", 1]),
    *({"width": None}, [1, 2, 3], [1, 2], {"a": 1}, {"01": 2}, {"-5": 2}, {"1": "x"}, [[1]]),
]
KINDS: list[Any] = [
    *(None, bool, int, str, bytes, Any, decimal.Decimal, uuid.UUID, Colour, Cat, Dog, Listed),
    *(Pair, Box, Size, TaggedList, datetime.timedelta, datetime.time, datetime.date),
    *(list[int], set[int], tuple[int, str], tuple[int, ...], dict[str, int], dict[int, int]),
    *(int | None, int | str, Cat | Dog, Cat | Dog | None, Cat | None, list[Cat | Dog | int]),
    *(
        Literal["red", 7, None],
        Annotated[int, Meta(ge=0, lt=7)],
        Annotated[str, Meta(min_length=4)],
    ),
    *(Annotated[float, Meta(multiple_of=0.5)], Annotated[list[int], Meta(max_length=1)]),
    *(Annotated[str, Meta(pattern="^[a-z]+$")], Annotated[dict[str, int], Meta(min_length=1)]),
    *(dict[uuid.UUID, int], Annotated[bytes, Meta(max_length=3)]),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_the_schema_takes_is_what_is_read(kind: Any) -> None:
    wrong = [value for value in VALUES if takes(kind, value) != reads(kind, value)]
    assert not wrong


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (datetime.timedelta, datetime.timedelta(days=-3, seconds=1.5)),
        (datetime.timedelta, datetime.timedelta(days=100_000, microseconds=1)),
        (datetime.time, datetime.time(1, 2, 3, 4)),
        (datetime.datetime, datetime.datetime(2026, 1, 31, 1, 2, 3, 4, datetime.UTC)),
        (decimal.Decimal, decimal.Decimal("1E+30")),
        (decimal.Decimal, decimal.Decimal("-Infinity")),
        (bytes, b"\xff\x00"),
        (dict[int, int], {-5: 1}),
        (set[int], {1, 2}),
    ],
)
def test_what_is_written_fits_the_schema(kind: Any, value: Any) -> None:
    assert takes(kind, msgspec.json.decode(msgspec.json.encode(value)))


def test_types_of_one_name_are_two() -> None:
    other = msgspec.defstruct("Cat", [("paws", int)])
    defs = told(tuple[Cat, other])["$defs"]  # type: ignore[valid-type]
    assert defs["Cat"]["properties"].keys() == {"type", "lives"}
    assert defs["Cat_2"]["properties"].keys() == {"paws"}


class Inner(pydantic.BaseModel):
    x: int = pydantic.Field(alias="ex")


class Outer(pydantic.BaseModel):
    inner: Inner
    more: list[Outer] = []


class Holder(msgspec.Struct):
    outer: Outer
    inner: Inner


def test_models_have_their_definitions_among_the_others() -> None:
    found = msgspec.json.decode(contract.schema(Holder, Outer))
    defs = found["$defs"]
    jsonschema.Draft202012Validator.check_schema(found)
    refs = {ref for schema in defs.values() for ref in _refs(schema)}
    assert {ref.removeprefix("#/$defs/") for ref in refs} <= defs.keys()
    assert all("$defs" not in schema for schema in defs.values())
    # Read by the alias, written by the name, as the handler does it.
    assert {"ex", "x"} == {name for s in defs.values() for name in s["properties"] if "x" in name}


def _refs(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"]] if "$ref" in schema else []
        return own + [ref for value in schema.values() for ref in _refs(value)]
    return [ref for value in schema for ref in _refs(value)] if isinstance(schema, list) else []


async def _paint(wall: Outer) -> None: ...


def test_models_have_shapes() -> None:
    shape = endpoint(_paint, "s", name="Paint").request
    assert [value.name for value in shape.values] == ["inner", "more"]


def test_docstrings_describe_fields() -> None:
    found = docstring.parse(
        """Do it.

        At length.

        Args:
            one: the first,
                and so on.
            two (int): the second.

        Returns:
            nothing: at all.
        """
    )
    assert found.text == "Do it.\n\nAt length."
    assert found.fields == {"one": "the first, and so on.", "two": "the second."}
    assert docstring.parse(None) == ("", {})


async def _told(one: int, two: Annotated[int, Meta(description="mine")] = 2) -> None:
    """Do it.

    Args:
        one: the first.
        two: the second.
    """


def test_a_request_has_the_descriptions_of_its_docstring() -> None:
    found = msgspec.json.decode(endpoint(_told, "s").schema)
    fields = found["$defs"]["ToldRequest"]["properties"]
    assert found["description"] == "Do it."
    assert fields["one"]["description"] == "the first."
    assert fields["two"]["description"] == "mine"


async def _count(number: int, ratio: float = 0.5) -> list[float]:
    return [number, ratio]


@pytest.mark.parametrize("body", [b'{"number": 2.0}', b'{"number": 2e0, "ratio": 0.5}'])
async def test_a_whole_number_may_have_a_point(body: bytes) -> None:
    answer = endpoint(_count, "s").function
    assert answer is not None
    assert await answer(body) == b"[2,0.5]"


@pytest.mark.parametrize("number", [b"2.5", b"1e300", b'"2.0"', b"2.0" + b" " * 70_000])
async def test_any_other_number_with_a_point_is_none(number: bytes) -> None:
    answer = endpoint(_count, "s").function
    assert answer is not None
    with pytest.raises(errors.BadRequest, match="expected `int`"):
        await answer(b'{"number": ' + number + b"}")
