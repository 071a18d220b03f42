"""Schemas taken apart: a schema as the shapes that a value by it may have.

A shape is of one type of JSON, or one value: ``anyOf``, ``oneOf``, ``enum`` and lists of types are
several shapes, ``allOf`` and references are worked in. What is inside of arrays and objects stays
a `Node`: schemas that hold together, to be taken apart in their turn.

Which names an object may have is asked of writers alone: one writes the properties that it
declares, and others only if it says so (``additionalProperties``, or no ``properties`` at all,
which is a map). The same holds for the places of ``prefixItems``.
"""

from __future__ import annotations

import functools
import itertools
from decimal import Decimal
from typing import Any

import jsonschema_rs
import msgspec

from .document import validator

MAX_SHAPES = 256
"""Shapes of one schema; with more it is not compared."""

Node = tuple[Any, ...]
"""Schemas that hold together; none of them is no constraint."""


class CannotTellError(Exception):
    """A schema that cannot be taken apart; the text says why."""


class Shape(msgspec.Struct, frozen=True):
    """What all shapes have.

    Attributes:
        opaque: keywords that are not understood, with their JSON: who reads by one has to find the
            same in what was written by.
    """

    opaque: frozenset[tuple[str, str]] = frozenset()

    kind = ""


class Value(Shape, frozen=True):
    """One value; ``any_of_type`` tells that all of its type are meant, as by ``type: boolean``."""

    value: Any = None
    any_of_type: bool = False

    kind = "value"


class Number(Shape, frozen=True):
    """Numbers; of integers the bounds are integers and included."""

    integer: bool = False
    least: Decimal | None = None
    above: Decimal | None = None
    most: Decimal | None = None
    below: Decimal | None = None
    steps: frozenset[Decimal] = frozenset()

    kind = "number"


class Text(Shape, frozen=True):
    """Texts."""

    least: int = 0
    most: int | None = None
    patterns: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()

    kind = "string"


class Places(msgspec.Struct, frozen=True):
    """What one schema says of an array's items: the first ones, and the rest (None: nothing)."""

    first: tuple[Any, ...]
    rest: Any = None

    def at(self, index: int) -> Node:
        if index < len(self.first):
            return node(self.first[index])
        return node(self.rest)


class Array(Shape, frozen=True):
    """Arrays."""

    places: tuple[Places, ...] = ()
    least: int = 0
    most: int | None = None
    unique: bool = False

    kind = "array"

    @property
    def first(self) -> int:
        """How many items are spoken of one by one."""
        return max((len(one.first) for one in self.places), default=0)

    def at(self, index: int) -> Node:
        """What holds for an item."""
        return tuple(itertools.chain.from_iterable(one.at(index) for one in self.places))

    @property
    def longest(self) -> int | None:
        """How many items are written at most."""
        first = self.first
        nothing_more = first > 0 and all(one.rest is None for one in self.places)
        if (nothing_more and self.least <= first) or False in self.at(first):
            return first if self.most is None else min(first, self.most)
        return self.most


class Names(msgspec.Struct, frozen=True):
    """What one schema says of an object's properties; ``rest`` is None when it says nothing."""

    declared: dict[str, Any]
    patterns: dict[str, Any]
    rest: Any = None

    def of(self, name: str) -> Node:
        found = node(self.declared[name]) if name in self.declared else ()
        matching = [one for pattern, one in self.patterns.items() if matches(pattern, name)]
        found += tuple(itertools.chain.from_iterable(map(node, matching)))
        return found if matching or name in self.declared else node(self.rest)


class Object(Shape, frozen=True):
    """Objects; ``more`` tells that other names may be declared where nobody looks."""

    names: tuple[Names, ...] = ()
    required: frozenset[str] = frozenset()
    called: Node = ()
    least: int = 0
    most: int | None = None
    more: bool = False

    kind = "object"

    def of(self, name: str) -> Node:
        """What holds for a property."""
        return tuple(itertools.chain.from_iterable(one.of(name) for one in self.names))

    @property
    def declared(self) -> list[str]:
        """The names that are spoken of, sorted."""
        return sorted(set().union(*(one.declared for one in self.names)))

    @property
    def patterns(self) -> dict[str, Node]:
        """The patterns that are spoken of, with what each says."""
        found: dict[str, Node] = {}
        for one in self.names:
            for pattern, schema in one.patterns.items():
                found[pattern] = (*found.get(pattern, ()), *node(schema))
        return found

    @property
    def others(self) -> Node | None:
        """What holds for names beside those spoken of; None when none is written."""
        said = [one.rest for one in self.names if one.rest is not None]
        if False in said:
            return None
        spoken = any(one.declared is not NOT_SAID or one.patterns for one in self.names)
        if self.more or said or not spoken:
            return tuple(itertools.chain.from_iterable(map(node, said)))
        return None


NOT_SAID: dict[str, Any] = {}
"""Stands for the absence of ``properties``."""


@functools.lru_cache(1024)
def _pattern(pattern: str) -> jsonschema_rs.Validator:
    return validator({"pattern": pattern})


def matches(pattern: str, name: str) -> bool:
    """Whether a name is one of a pattern's."""
    return _pattern(pattern).is_valid(name)


ANY: list[Shape] = [
    Value(value=None, any_of_type=True),
    Value(value=True, any_of_type=True),
    Value(value=False, any_of_type=True),
    Number(),
    Text(),
    Array(),
    Object(),
]
"""The shapes of any value."""


def both(one: list[Shape], other: list[Shape]) -> list[Shape]:
    """The shapes of what has one of these and one of those."""
    if one is ANY:
        return other
    if other is ANY:
        return one
    if len(one) * len(other) > MAX_SHAPES**2:
        raise CannotTellError("it has too many alternatives")
    found = []
    for left, right in itertools.product(one, other):
        if (met := meet(left, right)) is not None:
            found.append(met)
    if len(found) > MAX_SHAPES:
        raise CannotTellError("it has too many alternatives")
    return found


def meet(one: Shape, other: Shape) -> Shape | None:
    """The shape of what has both; None when nothing has.

    Whether a value is of another shape is looked at once, in the end.
    """
    opaque = one.opaque | other.opaque
    match one, other:
        case (Value(), Value()):
            if not same(one.value, other.value):
                return None
            any_of_type = one.any_of_type and other.any_of_type
            return Value(opaque, one.value, any_of_type)
        case (Value(), _):
            return one if kind_of(one.value) == other.kind else None
        case (_, Value()):
            return meet(other, one)
        case (Number(), Number()):
            return tight(
                Number(
                    opaque,
                    one.integer or other.integer,
                    _larger(one.least, other.least),
                    _larger(one.above, other.above),
                    _smaller(one.most, other.most),
                    _smaller(one.below, other.below),
                    one.steps | other.steps,
                )
            )
        case (Text(), Text()):
            least, most = max(one.least, other.least), _smaller(one.most, other.most)
            patterns, formats = one.patterns | other.patterns, one.formats | other.formats
            return Text(opaque, least, most, patterns, formats)
        case (Array(), Array()):
            least, most = max(one.least, other.least), _smaller(one.most, other.most)
            places, unique = one.places + other.places, one.unique or other.unique
            return Array(opaque, places, least, most, unique)
        case (Object(), Object()):
            return Object(
                opaque,
                one.names + other.names,
                one.required | other.required,
                one.called + other.called,
                max(one.least, other.least),
                _smaller(one.most, other.most),
                one.more or other.more,
            )
    return None


def tight(number: Number) -> Number:
    """The same, with bounds of integers that are integers and included."""
    if not number.integer:
        return number
    least, most = number.least, number.most
    least = None if least is None else least.to_integral_value("ROUND_CEILING")
    most = None if most is None else most.to_integral_value("ROUND_FLOOR")
    if number.above is not None:
        least = _larger(least, number.above.to_integral_value("ROUND_FLOOR") + 1)
    if number.below is not None:
        most = _smaller(most, number.below.to_integral_value("ROUND_CEILING") - 1)
    return Number(number.opaque, True, least, None, most, None, number.steps)


def _larger(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else max(one, other)


def _smaller(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else min(one, other)


def kind_of(value: Any) -> str:
    """The kind of shape that a value would be of."""
    match value:
        case str():
            return "string"
        case None | bool():
            return "value"
        case int() | float():
            return "number"
        case list():
            return "array"
    return "object"


def same(one: Any, other: Any) -> bool:
    """Whether two values are one to JSON Schema: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def node(schema: Any) -> Node:
    """A node of what one schema says; None and true say nothing."""
    return () if schema is None or schema is True or schema == {} else (schema,)
