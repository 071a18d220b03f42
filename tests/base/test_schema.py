"""Types as value trees, and texts as values."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import enum
import time
import uuid
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import errors, schema
from microcosmos.base.schema import Value, from_pairs, parse, tree


class Address(msgspec.Struct):
    street: str
    number: int | None = None


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Person(msgspec.Struct, rename="camel"):
    full_name: str
    age: int
    height: float
    alive: bool
    photo: bytes
    home: Address
    others: list[Address]
    by_town: dict[str, Address]
    nicknames: set[str]
    scores: dict[str, float]
    born: datetime.date
    worth: decimal.Decimal
    id: uuid.UUID
    colour: Colour
    level: Level
    mood: Literal["good", "bad"]
    rank: Literal[1, 2]
    either: int | str
    anything: Any
    maybe: str | None = None
    unset: int | msgspec.UnsetType = msgspec.UNSET
    pair: tuple[int, str] = (1, "a")
    many: tuple[int, ...] = ()


class Node(msgspec.Struct):
    name: str
    left: Node | None = None
    children: list[Node] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Pair(NamedTuple):
    a: int
    b: str


class Movie(TypedDict, total=False):
    title: str
    year: int


def _shown(value: Value) -> Any:
    """A tree as {name: type} or {name: (type, fields)}."""
    return {
        field.name: (field.type, _shown(field)) if field.values else field.type
        for field in value.values
    }


def test_a_struct_is_a_tree_of_its_fields_under_the_names_they_are_sent_by() -> None:
    shape = tree(Person)
    address = {"street": "string", "number": "int64"}
    assert (shape.name, shape.type) == ("Person", "Person")
    assert _shown(shape) == {
        "fullName": "string",
        "age": "int64",
        "height": "float64",
        "alive": "bool",
        "photo": "bytes",
        "home": ("Address", address),
        "others": ("[]Address", address),
        "byTown": ("map[string]Address", address),
        "nicknames": "[]string",
        "scores": "map[string]float64",
        "born": "string",
        "worth": "string",
        "id": "string",
        "colour": "string",
        "level": "int64",
        "mood": "string",
        "rank": "int64",
        "either": "any",
        "anything": "any",
        "maybe": "string",
        "unset": "int64",
        "pair": "any",
        "many": "[]int64",
    }


def test_dataclasses_typed_dicts_and_named_tuples_are_trees_too() -> None:
    assert _shown(tree(Point)) == {"x": "int64", "y": "int64"}
    assert _shown(tree(Movie)) == {"title": "string", "year": "int64"}
    assert _shown(tree(Pair)) == {"a": "int64", "b": "string"}
    assert tree(Movie).type == "Movie"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (str, "string"),
        (list[int], "[]int64"),
        (dict[str, bool], "map[string]bool"),
        (list[list[str]], "[][]string"),
        (None, "null"),
        (object, "any"),
    ],
)
def test_plain_types_have_a_type_and_no_fields(kind: Any, expected: str) -> None:
    shape = tree(kind)
    assert (shape.type, shape.values) == (expected, [])


def test_a_recursive_type_ends_at_the_greatest_depth() -> None:
    def depth(value: Value) -> int:
        return 1 + max((depth(field) for field in value.values), default=0)

    shape = tree(Node)
    assert shape.field("left") is not None
    assert depth(shape) == schema.MAX_DEPTH + 1


def test_a_name_may_be_given() -> None:
    assert tree(Address, "address").name == "address"


def test_a_type_that_json_cannot_carry_is_refused_with_the_fields_name() -> None:
    class Bad(msgspec.Struct):
        number: complex

    with pytest.raises(TypeError, match="number: complex has no form in JSON"):
        tree(Bad)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("42", "int64", 42),
        ("-1", "int64", -1),
        ("1.5", "float64", 1.5),
        ("1e3", "float64", 1000.0),
        ("true", "bool", True),
        ("", "bool", True),
        ("OFF", "bool", False),
        ("0", "bool", False),
        ("42", "string", "42"),
        ("42", "any", 42),
        ("[1", "any", "[1"),
        ("word", "any", "word"),
        ('{"a":1}', "map[string]int64", {"a": 1}),
        ('{"street":"x"}', "Address", {"street": "x"}),
        ("[1,2]", "[]int64", [1, 2]),
    ],
)
def test_a_text_becomes_a_value_of_its_type(text: str, kind: str, value: Any) -> None:
    assert parse(text, kind, "field") == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *(("", "int64"), ("x", "int64"), ("1.5", "int64"), ("1_000", "int64"), (" 1", "int64")),
        *(("9" * 5000, "int64"), ("x", "float64"), ("nan", "float64"), ("inf", "float64")),
        *(("-Infinity", "float64"), ("1e999", "float64"), ("maybe", "bool"), ("2", "bool")),
        *(("a=1", "map[string]int64"), ("{", "Address"), ("[" * 5000, "Address")),
        ("\udcff", "map[string]int64"),
    ],
)
def test_a_text_that_does_not_fit_is_bad_input_that_names_the_field(text: str, kind: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        parse(text, kind, "the.field")
    assert caught.value.detail.startswith("the.field: ")
    assert len(caught.value.detail) < 120


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(name, text) for name, _, text in (p.partition("=") for p in query.split("&"))]


class Search(msgspec.Struct):
    word: str = ""
    limit: int = 0
    exact: bool = False
    price: float = 0.0
    tags: list[str] = []
    sizes: list[int] = []
    home: Address | None = None
    labels: dict[str, int] = {}
    places: dict[str, Address] = {}
    node: Node | None = None


@pytest.mark.parametrize(
    ("query", "request_"),
    [
        ("word=joe", {"word": "joe"}),
        ("word=42", {"word": "42"}),
        ("limit=3&exact=true&price=1.5", {"limit": 3, "exact": True, "price": 1.5}),
        ("exact", {"exact": True}),
        ("word=a&word=b", {"word": "b"}),
        ("tags=a&tags=b", {"tags": ["a", "b"]}),
        ("tags=a,b&tags=c", {"tags": ["a", "b", "c"]}),
        ("sizes=1,2", {"sizes": [1, 2]}),
        ("sizes=[1,2]", {"sizes": [1, 2]}),
        ("sizes=", {"sizes": []}),
        ("home.street=x&home.number=7", {"home": {"street": "x", "number": 7}}),
        ("home[street]=x&home[number]=7", {"home": {"street": "x", "number": 7}}),
        ('home={"street":"x"}', {"home": {"street": "x"}}),
        ("node.left.left.name=x", {"node": {"left": {"left": {"name": "x"}}}}),
        ("labels.a=1&labels[b]=2", {"labels": {"a": 1, "b": 2}}),
        ("places.rome.number=7", {"places": {"rome": {"number": 7}}}),
        ("other=1", {"other": "1"}),
        ("other=1&other=2&other=3", {"other": ["1", "2", "3"]}),
        ("a.b=1", {"a": {"b": "1"}}),
    ],
)
def test_pairs_become_a_request_of_the_shape(query: str, request_: dict[str, Any]) -> None:
    assert from_pairs(tree(Search), _pairs(query)) == request_


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=many", "limit"),
        ("sizes=1,x", "sizes"),
        ("sizes=[1,", "sizes"),
        ("home.number=x", "home.number"),
        ("labels.a=x", "labels.a"),
        ("exact=perhaps", "exact"),
        ("home={", "home"),
        ("word=x&word.a=1", "word"),
        ("tags=a&tags.b=1", "tags"),
        ("tags.b=1&tags=a", "tags"),
        ("a=1&a.b=1", "a"),
        ("a" + ".a" * 5000 + "=1", "a.a"),
    ],
)
def test_pairs_that_do_not_fit_are_bad_input_that_names_the_field(query: str, named: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        from_pairs(tree(Search), _pairs(query))
    assert named in caught.value.detail


@given(st.lists(st.tuples(st.text(".[]abctagsize", max_size=8), st.text(max_size=5)), max_size=6))
def test_any_pairs_give_a_request_that_can_be_sent_or_bad_input(
    pairs: list[tuple[str, str]],
) -> None:
    shape = tree(Search)
    with contextlib.suppress(errors.BadRequest):
        assert msgspec.json.encode(from_pairs(shape, pairs))


def test_a_name_given_very_often_is_read_in_linear_time() -> None:
    count = 200_000
    started = time.process_time()
    request = from_pairs(Value(), [("a", "x")] * count)
    assert len(request["a"]) == count
    # The square of it would be minutes.
    assert time.process_time() - started < 5


def test_an_example_request_has_every_field() -> None:
    assert schema.example(tree(Search)) == {
        "word": "text",
        "limit": 1,
        "exact": True,
        "price": 1.5,
        "tags": [],
        "sizes": [],
        "home": {},
        "labels": {},
        "places": {},
        "node": {},
    }


def test_a_value_knows_its_fields_and_kind() -> None:
    shape = tree(Search)
    tags, labels = shape.field("tags"), shape.field("labels")
    assert tags is not None
    assert tags.is_list
    assert not tags.is_map
    assert labels is not None
    assert labels.is_map
    assert shape.field("nothing") is None
