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
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from .document import DEFAULT_DRAFT, validator

MAX_SHAPES = 256
"""Shapes of one schema; with more it is not compared."""

FORMATS = frozenset(
    (
        *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname"),
        *("ipv4", "ipv6", "iri", "iri-reference", "json-pointer", "regex"),
        *("relative-json-pointer", "time", "uri", "uri-reference", "uri-template", "uuid"),
    )
)
"""The formats that texts are held against; others say nothing."""

Node = tuple[Any, ...]
"""Schemas that hold together; none of them is no constraint."""

_LITERAL = frozenset(("const", "enum", "default", "examples", "example"))
# What stands below these are schemas by names of anybody's choice.
_MAPS = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))

# What says nothing of which values fit.
_NOTES = frozenset(
    (
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly"),
        *("writeOnly", "discriminator", "contentEncoding", "contentMediaType", "contentSchema"),
        *("$comment", "$schema", "$id", "id", "$anchor", "$defs", "definitions", "$vocabulary"),
    )
)
# Keywords that are not understood, those together that mean something together only, and the type
# of values that they are about.
_OPAQUE = {
    "not": (("not",), ""),
    "if": (("if", "then", "else"), ""),
    "contains": (("contains", "minContains", "maxContains"), "array"),
    "unevaluatedItems": (("unevaluatedItems",), "array"),
    "dependentRequired": (("dependentRequired",), "object"),
    "dependentSchemas": (("dependentSchemas",), "object"),
    "dependencies": (("dependencies",), "object"),
    "unevaluatedProperties": (("unevaluatedProperties",), "object"),
}
# These judge what other keywords beside them have not: alone they mean nothing.
_BESIDE = frozenset(("unevaluatedProperties", "unevaluatedItems"))
# More that fits in here is less that fits.
_CONTRARY = frozenset(("oneOf", "not", "if", "contains", "unevaluatedProperties"))
# A property may be declared in here too.
_DECLARING = frozenset(("if", "then", "else", "dependentSchemas", "dependencies"))


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
            return _node(self.first[index])
        return _node(self.rest)


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
        found = _node(self.declared[name]) if name in self.declared else ()
        matching = [one for pattern, one in self.patterns.items() if matches(pattern, name)]
        found += tuple(itertools.chain.from_iterable(map(_node, matching)))
        return found if matching or name in self.declared else _node(self.rest)


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
                found[pattern] = (*found.get(pattern, ()), *_node(schema))
        return found

    @property
    def others(self) -> Node | None:
        """What holds for names beside those spoken of; None when none is written."""
        said = [one.rest for one in self.names if one.rest is not None]
        if False in said:
            return None
        spoken = any(one.declared is not _NOT_SAID or one.patterns for one in self.names)
        if self.more or said or not spoken:
            return tuple(itertools.chain.from_iterable(map(_node, said)))
        return None


_NOT_SAID: dict[str, Any] = {}
"""Stands for the absence of ``properties``."""


class Side:
    """One schema of a comparison, taken apart as far as is asked.

    Args:
        schema: the whole of it.
        reading: what is left out is filled in where there is a default; unless the schema says
            somewhere what must not fit (``oneOf``, ``not``, ``if``): more would fit that then.
    """

    def __init__(self, schema: Any, *, reading: bool) -> None:
        self.root = schema
        self.reading = reading
        self._fills = reading and not _says(schema, _CONTRARY)
        named = schema.get("$schema", "") if isinstance(schema, dict) else ""
        self._draft = named or DEFAULT_DRAFT
        # Up to draft 7 a reference stands alone, whatever is beside it.
        self._lonely = any(f"draft-0{number}" in self._draft for number in (3, 4, 6, 7))
        self._texts: dict[int, str] = {}
        self._shapes: dict[tuple[str, ...], list[Shape]] = {}
        self._validators: dict[tuple[str, ...], jsonschema_rs.Validator] = {}
        self._wholes: dict[tuple[str, ...], str] = {}

    def key(self, node: Node) -> tuple[str, ...]:
        """What tells nodes of this side apart."""
        return tuple(sorted({self._text(one) for one in node}))

    def whole(self, node: Node) -> str:
        """What tells nodes of any side apart: with everything that they refer to."""
        key = self.key(node)
        if key not in self._wholes:
            found: dict[str, str] = {}
            waiting = [pointer for one in node for pointer in _pointers(one)]
            while waiting:
                pointer = waiting.pop()
                if pointer not in found:
                    target = self.at(pointer)
                    found[pointer] = self._text(target)
                    waiting += _pointers(target)
            self._wholes[key] = repr((self._lonely, key, sorted(found.items())))
        return self._wholes[key]

    def fits(self, node: Node, value: Any) -> bool:
        """Whether a value fits."""
        key = self.key(node)
        if key not in self._validators:
            root = self.root
            if isinstance(root, dict):
                root = {name: inner for name, inner in root.items() if name != "$schema"}
            held = {"$schema": self._draft, "$defs": {"root": root}, "allOf": list(node)}
            self._validators[key] = validator(_moved(held, reading=self._fills))
        try:
            return self._validators[key].is_valid(value)
        except ValueError:  # it is nested too deeply
            return False

    def at(self, pointer: str) -> Any:
        """What a reference leads to."""
        found = self.root
        for part in pointer.removeprefix("#").split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise CannotTellError(f"{pointer} leads nowhere") from None
        return found

    def shapes(self, node: Node) -> list[Shape]:
        """The shapes that a value may have.

        Raises:
            CannotTellError: a part of it is not understood, or there are too many.
        """
        key = self.key(node)
        if key not in self._shapes:
            found = self._all(node, frozenset())
            self._shapes[key] = [one for one in found if self._stands(one, node)]
        return self._shapes[key]

    def _stands(self, shape: Shape, node: Node) -> bool:
        """Whether there is a value of a shape, where that can be told at once."""
        if not isinstance(shape, Value) or (shape.any_of_type and not shape.opaque):
            return True
        return self.fits(node, shape.value)

    def _all(self, node: Iterable[Any], open_refs: frozenset[str]) -> list[Shape]:
        found = ANY
        for one in node:
            found = _both(found, self._of(one, open_refs))
        return found

    def _of(self, schema: Any, open_refs: frozenset[str]) -> list[Shape]:
        if not isinstance(schema, dict):
            return ANY if schema is not False else []
        reference = schema.get("$ref")
        if reference is not None and self._lonely:
            return self._referred(reference, open_refs)
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return [Value(value=one) for one in values if self.fits((schema,), one)]
        found = list(_plain(schema, self._lonely, reading=self._fills))
        if reference is not None:
            found = _both(found, self._referred(reference, open_refs))
        for inner in schema.get("allOf", ()):
            found = _both(found, self._of(inner, open_refs))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                branches = [self._of(inner, open_refs) for inner in schema[keyword]]
                if keyword == "oneOf" and self.reading:
                    self._check_apart(branches)
                found = _both(found, list(itertools.chain.from_iterable(branches)))
        return found

    def _referred(self, reference: str, open_refs: frozenset[str]) -> list[Shape]:
        if reference in open_refs:
            raise CannotTellError(f"{reference} refers to itself")
        return self._of(self.at(reference), open_refs | {reference})

    def _check_apart(self, branches: list[list[Shape]]) -> None:
        """A value of two branches of ``oneOf`` does not fit, so there may be none."""
        for one, other in itertools.combinations(branches, 2):
            for left, right in itertools.product(one, other):
                if not self._apart(left, right):
                    raise CannotTellError("the branches of oneOf may overlap; use anyOf")

    def _apart(self, one: Shape, other: Shape) -> bool:
        if isinstance(one, Value) and isinstance(other, Value):
            return not _same(one.value, other.value)
        if isinstance(one, Value) or isinstance(other, Value):
            value, shape = (one, other) if isinstance(one, Value) else (other, one)
            assert isinstance(value, Value)
            return _kind_of(value.value) != shape.kind
        if one.kind != other.kind:
            return True
        if isinstance(one, Object) and isinstance(other, Object):
            return any(self._tells(name, one, other) for name in one.required | other.required)
        return False

    def _tells(self, name: str, one: Object, other: Object) -> bool:
        """Whether a property has values in one that it has not in the other."""
        left, right = self.values(one.of(name)), self.values(other.of(name))
        if left is None or right is None:
            return False
        return not any(_same(a, b) for a, b in itertools.product(left, right))

    def values(self, node: Node) -> list[Any] | None:
        """The values that fit, if they are listed."""
        listed = [one for one in node if isinstance(one, dict) and {"const", "enum"} & one.keys()]
        if not listed:
            return None
        return [
            shape.value for shape in self._of(listed[0], frozenset()) if isinstance(shape, Value)
        ]

    def _text(self, schema: Any) -> str:
        if not isinstance(schema, dict):
            return _encoded(schema)
        known = self._texts.get(id(schema))
        if known is None:
            known = self._texts[id(schema)] = _encoded(_bare(schema))
        return known


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


@functools.lru_cache(1024)
def _pattern(pattern: str) -> jsonschema_rs.Validator:
    return validator({"pattern": pattern})


def matches(pattern: str, name: str) -> bool:
    """Whether a name is one of a pattern's."""
    return _pattern(pattern).is_valid(name)


def _plain(schema: dict[str, Any], lonely: bool, *, reading: bool) -> Iterator[Shape]:
    """The shapes of a schema without what it is made of by others."""
    types = schema.get("type")
    wanted = {types} if isinstance(types, str) else set(types or ()) or None
    plain = _opaque(schema, "")
    if wanted is None or "null" in wanted:
        yield Value(plain, None, any_of_type=True)
    if wanted is None or "boolean" in wanted:
        yield Value(plain, True, any_of_type=True)
        yield Value(plain, False, any_of_type=True)
    if wanted is None or wanted & {"number", "integer"}:
        whole = wanted is not None and "number" not in wanted
        yield _numbers(schema, plain, whole)
    if wanted is None or "string" in wanted:
        yield _texts(schema, plain)
    if wanted is None or "array" in wanted:
        yield _arrays(schema, _opaque(schema, "array"), lonely)
    if wanted is None or "object" in wanted:
        yield _objects(schema, _opaque(schema, "object"), reading)


def _opaque(schema: dict[str, Any], kind: str) -> frozenset[tuple[str, str]]:
    """The keywords that are not understood and are about values of a type."""
    found = set()
    for keyword, (together, about) in _OPAQUE.items():
        if keyword in schema and about in ("", kind):
            said = {one: _bare(schema[one]) for one in together if one in schema}
            # What stands beside others is never the same as something elsewhere.
            found.add((keyword, str(id(schema)) if keyword in _BESIDE else _encoded(said)))
    return frozenset(found)


def _numbers(schema: dict[str, Any], opaque: frozenset[tuple[str, str]], whole: bool) -> Number:
    least, above = _decimal(schema.get("minimum")), schema.get("exclusiveMinimum")
    most, below = _decimal(schema.get("maximum")), schema.get("exclusiveMaximum")
    if isinstance(above, bool):  # draft 4
        least, above = (None, schema.get("minimum")) if above else (least, None)
    if isinstance(below, bool):
        most, below = (None, schema.get("maximum")) if below else (most, None)
    step = _decimal(schema.get("multipleOf"))
    steps = frozenset() if step is None else frozenset((step,))
    return _tight(Number(opaque, whole, least, _decimal(above), most, _decimal(below), steps))


def _texts(schema: dict[str, Any], opaque: frozenset[tuple[str, str]]) -> Text:
    formats = {schema["format"]} & FORMATS if isinstance(schema.get("format"), str) else set()
    return Text(
        opaque,
        int(schema.get("minLength", 0)),
        _whole(schema.get("maxLength")),
        frozenset((schema["pattern"],) if "pattern" in schema else ()),
        frozenset(formats),
    )


def _arrays(schema: dict[str, Any], opaque: frozenset[tuple[str, str]], lonely: bool) -> Array:
    first, rest = schema.get("prefixItems", ()), schema.get("items")
    if isinstance(rest, list):  # before 2020-12
        first, rest = rest, schema.get("additionalItems")
    elif lonely:
        first = ()
    said = bool(first) or rest is not None
    return Array(
        opaque,
        (Places(tuple(first), rest),) if said else (),
        int(schema.get("minItems", 0)),
        _whole(schema.get("maxItems")),
        bool(schema.get("uniqueItems")),
    )


def _objects(schema: dict[str, Any], opaque: frozenset[tuple[str, str]], reading: bool) -> Object:
    declared = schema.get("properties", _NOT_SAID)
    patterns, rest = schema.get("patternProperties", {}), schema.get("additionalProperties")
    required = frozenset(name for name in _required(schema, reading=reading))
    said = declared is not _NOT_SAID or patterns or rest is not None
    unevaluated = schema.get("unevaluatedProperties", False)
    return Object(
        opaque,
        (Names(declared, patterns, rest),) if said else (),
        required,
        _node(schema.get("propertyNames")),
        int(schema.get("minProperties", 0)),
        _whole(schema.get("maxProperties")),
        more=bool(_DECLARING & schema.keys()) or unevaluated is not False,
    )


def _required(schema: dict[str, Any], *, reading: bool) -> list[str]:
    """The names that have to be there; what has a default need not, for who reads."""
    names = schema.get("required", [])
    if not isinstance(names, list):  # draft 3
        return []
    if not reading:
        return names
    declared = schema.get("properties", {})
    return [name for name in names if "default" not in _as_dict(declared.get(name))]


def _both(one: list[Shape], other: list[Shape]) -> list[Shape]:
    """The shapes of what has one of these and one of those."""
    if one is ANY:
        return other
    if other is ANY:
        return one
    if len(one) * len(other) > MAX_SHAPES**2:
        raise CannotTellError("it has too many alternatives")
    found = []
    for left, right in itertools.product(one, other):
        if (met := _meet(left, right)) is not None:
            found.append(met)
    if len(found) > MAX_SHAPES:
        raise CannotTellError("it has too many alternatives")
    return found


def _meet(one: Shape, other: Shape) -> Shape | None:
    """The shape of what has both; None when nothing has.

    Whether a value is of another shape is looked at once, in the end.
    """
    opaque = one.opaque | other.opaque
    match one, other:
        case (Value(), Value()):
            if not _same(one.value, other.value):
                return None
            any_of_type = one.any_of_type and other.any_of_type
            return Value(opaque, one.value, any_of_type)
        case (Value(), _):
            return one if _kind_of(one.value) == other.kind else None
        case (_, Value()):
            return _meet(other, one)
        case (Number(), Number()):
            return _tight(
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


def _tight(number: Number) -> Number:
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


def _decimal(number: Any) -> Decimal | None:
    return None if number is None or isinstance(number, bool) else Decimal(str(number))


def _whole(number: Any) -> int | None:
    return None if number is None else int(number)


def _kind_of(value: Any) -> str:
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


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one to JSON Schema: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _node(schema: Any) -> Node:
    """A node of what one schema says; None and true say nothing."""
    return () if schema is None or schema is True or schema == {} else (schema,)


def _as_dict(schema: Any) -> dict[str, Any]:
    return schema if isinstance(schema, dict) else {}


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def _bare(schema: Any, *, named: bool = False) -> Any:
    """A schema without notes, but for defaults of properties: those matter to who reads."""
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if named:
        return {name: _with_default(_bare(inner), inner) for name, inner in schema.items()}
    return {
        key: value if key in _LITERAL else _bare(value, named=key in _MAPS)
        for key, value in schema.items()
        if key not in _NOTES
    }


def _with_default(bare: Any, schema: Any) -> Any:
    if isinstance(schema, dict) and "default" in schema:
        return {**bare, "default": schema["default"]}
    return bare


def _pointers(schema: Any, *, named: bool = False) -> list[str]:
    """The references in a schema."""
    if isinstance(schema, list):
        return [pointer for one in schema for pointer in _pointers(one)]
    if not isinstance(schema, dict):
        return []
    if named:
        return _pointers(list(schema.values()))
    found = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    for key, value in schema.items():
        if key not in _LITERAL and key not in ("$defs", "definitions"):
            found += _pointers(value, named=key in _MAPS)
    return found


def _says(schema: Any, keywords: frozenset[str]) -> bool:
    """Whether one of these keywords occurs; a property of that name counts too."""
    if isinstance(schema, list):
        return any(_says(one, keywords) for one in schema)
    if not isinstance(schema, dict):
        return False
    return not keywords.isdisjoint(schema) or _says(list(schema.values()), keywords)


def _moved(schema: Any, *, reading: bool, named: bool = False) -> Any:
    """A schema whose references lead to the root's new place, for who reads without defaults."""
    if isinstance(schema, list):
        return [_moved(one, reading=reading) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if named:
        return {name: _moved(one, reading=reading) for name, one in schema.items()}
    moved: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("$id", "id", "$anchor"):
            continue
        if key == "$ref" and isinstance(value, str):
            moved[key] = "#/$defs/root" + value.removeprefix("#")
        elif key == "required":
            moved[key] = _required(schema, reading=reading)
        elif key in _LITERAL:
            moved[key] = value
        else:
            moved[key] = _moved(value, reading=reading, named=key in _MAPS)
    return moved
