"""Shapes: type hints seen as the value trees of the registry, and text turned into values.

A value tree is what Micro v3 shows of a request or a response: a name, a type, and the fields
below. Types are ``string int64 float64 bool bytes any``, ``[]T`` for lists, ``map[string]T``, or
the name of a struct, whose fields are the values.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import msgspec.inspect as mi

from . import codec, errors

MAX_DEPTH = 6
"""How deep a value tree goes; recursive types end there (as in Micro v3)."""


MAX_NESTING = 32
"""How deep the names of one text go: ``a.b.c`` is three."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a value tree."""

    name: str = ""
    type: str = ""
    values: list[Value] = []

    def field(self, name: str) -> Value | None:
        """The field of a name, or None."""
        return next((value for value in self.values if value.name == name), None)

    @property
    def is_list(self) -> bool:
        return self.type.startswith("[]")

    @property
    def is_map(self) -> bool:
        return self.type.startswith("map[")


_SIMPLE: dict[type[mi.Type], str] = {
    mi.StrType: "string",
    mi.IntType: "int64",
    mi.FloatType: "float64",
    mi.BoolType: "bool",
    mi.BytesType: "bytes",
    mi.ByteArrayType: "bytes",
    mi.MemoryViewType: "bytes",
    mi.DecimalType: "string",
    mi.DateTimeType: "string",
    mi.DateType: "string",
    mi.TimeType: "string",
    mi.TimeDeltaType: "string",
    mi.UUIDType: "string",
    mi.NoneType: "null",
    mi.AnyType: "any",
    mi.RawType: "any",
}


_info = functools.lru_cache(maxsize=2048)(mi.type_info)


def type_info(kind: Any) -> mi.Type:
    """What msgspec knows of a type; looked at once, as that takes long.

    Raises:
        TypeError: it knows nothing of it.
    """
    try:
        hash(kind)
    except TypeError:
        # With something in it that cannot be remembered, such as a list among its constraints.
        return mi.type_info(kind)
    return _info(kind)


def tree(kind: Any, name: str = "") -> Value:
    """The value tree of a type.

    Args:
        kind: a msgspec struct, dataclass, TypedDict, attrs class, or anything below one.
        name: the field's name; else the type's own.
    """
    info = type_info(kind)
    root = _tree(info, name, 0)
    return Value(name=root.name or root.type, type=root.type, values=root.values)


def _tree(info: mi.Type, name: str, depth: int) -> Value:
    if isinstance(info, mi.Metadata):
        return _tree(info.type, name, depth)
    if simple := _SIMPLE.get(type(info)):
        return Value(name=name, type=simple)
    match info:
        case mi.UnionType():
            kinds = [kind for kind in info.types if not isinstance(kind, mi.NoneType)]
            return _tree(kinds[0], name, depth) if len(kinds) == 1 else Value(name=name, type="any")
        case mi.ListType() | mi.SetType() | mi.FrozenSetType() | mi.VarTupleType():
            item = _tree(info.item_type, "", depth + 1)
            return Value(name=name, type=f"[]{item.type}", values=item.values)
        case mi.DictType():
            item = _tree(info.value_type, "", depth + 1)
            return Value(name=name, type=f"map[string]{item.type}", values=item.values)
        case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
            fields = [] if depth >= MAX_DEPTH else _fields(info.fields, depth)
            return Value(name=name, type=info.cls.__name__, values=fields)
        case mi.EnumType() | mi.LiteralType():
            return Value(name=name, type=_choice(info))
        case mi.CustomType() if info.cls is not object and not hasattr(info.cls, "model_validate"):
            raise TypeError(
                f"{f'{name}: ' if name else ''}{info.cls.__name__} has no form in JSON; use a "
                "struct, a dataclass, a TypedDict, or the types of JSON"
            )
        case _:
            return Value(name=name, type="any")


def _fields(fields: Iterable[mi.Field], depth: int) -> list[Value]:
    return [_tree(field.type, field.encode_name, depth + 1) for field in fields]


def _choice(info: mi.EnumType | mi.LiteralType) -> str:
    values = (
        [member.value for member in info.cls]
        if isinstance(info, mi.EnumType) and issubclass(info.cls, enum.Enum)
        else list(getattr(info, "values", ()))
    )
    return "int64" if values and all(isinstance(value, int) for value in values) else "string"


_TRUE = frozenset({"true", "1", "yes", "on", ""})
_FALSE = frozenset({"false", "0", "no", "off"})


def parse(text: str, kind: str, where: str) -> Any:
    """Turn one text (of a query string, a form, a flag) into a value of a tree's type.

    Raises:
        errors.BadRequest: the text is none; the detail names ``where``.
    """
    match kind:
        case "int64" | "int32" | "uint64" | "uint32" | "int" | "long":
            return _number(int, text, where, "a whole number")
        case "float64" | "float32" | "double" | "float":
            return _number(float, text, where, "a number")
        case "bool":
            return _bool(text, where)
        case "any" | "null":
            return _any(text)
        case "string" | "bytes":
            return text
    if kind.startswith("map[") or text[:1] in ("{", "[") or text == "null":
        return _json(text, where)
    return text


def _number(kind: type[int] | type[float], text: str, where: str, what: str) -> int | float | None:
    try:
        if "_" in text or text != text.strip():
            raise ValueError(text)
        number = kind(text)
        if not math.isfinite(number):
            raise ValueError(text)
    except (ValueError, OverflowError):
        if text == "null":
            return None  # whether that may be is for the callee to say
        raise errors.BadRequest("schema", f"{where}: {text[:40]!r} is not {what}") from None
    return number


def _bool(text: str, where: str) -> bool | None:
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    if text == "null":
        return None
    raise errors.BadRequest("schema", f"{where}: {text[:40]!r} is not true or false")


def _json(text: str, where: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except codec.DECODE_ERRORS:
        raise errors.BadRequest("schema", f"{where}: {text[:40]!r} is not JSON") from None


def _any(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except codec.DECODE_ERRORS:
        return text


class Form:
    """Reads requests of one shape from texts by name, as query strings and forms carry them.

    ``a=1&a=2``, ``a[]=1`` and ``a=1,2`` fill a list, ``a.b=1`` and ``a[b]=1`` a field of a field;
    names that the shape does not have stay as texts, for the callee to judge.
    """

    __slots__ = ("_fields", "_shape")

    def __init__(self, shape: Value) -> None:
        self._shape = shape
        self._fields = {value.name: value for value in shape.values}

    def read(self, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """The request that the texts make.

        Raises:
            errors.BadRequest: a text that does not fit its field.
        """
        request: dict[str, Any] = {}
        fields = self._fields
        for name, text in pairs:
            field = fields.get(name)
            if field is None and ("." in name or "[" in name):
                _set_nested(request, self._shape, name, text)
            elif field is None:
                _append(request, name, text)
            elif field.type == "string":
                request[name] = text
            elif field.is_list:
                _extend(request, name, field, text)
            else:
                request[name] = parse(text, field.type, name)
        return request


def from_pairs(shape: Value, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A request from texts by name, once; see `Form`."""
    return Form(shape).read(pairs)


def _set_nested(request: dict[str, Any], shape: Value, name: str, text: str) -> None:
    # ``tags[]=a`` is how many clients write a list.
    named = name.removesuffix("[]").replace("[", ".")
    path = [part.rstrip("]") for part in named.split(".")]
    if len(path) > MAX_NESTING:
        raise errors.BadRequest("schema", f"{name[:40]}: nested more than {MAX_NESTING} deep")
    value: Value | None = shape
    for part in path[:-1]:
        value = _below(value, part)
        request = request.setdefault(part, {})
        if not isinstance(request, dict):
            raise errors.BadRequest("schema", f"{name}: {part} is given twice")
    leaf = _below(value, path[-1])
    if leaf and leaf.is_list:
        _extend(request, path[-1], leaf, text)
    else:
        request[path[-1]] = parse(text, leaf.type, name) if leaf else text


def _below(value: Value | None, part: str) -> Value | None:
    if value is not None and value.is_map:
        return Value(name=part, type=value.type.removeprefix("map[string]"), values=value.values)
    return value.field(part) if value else None


def _extend(request: dict[str, Any], name: str, field: Value, text: str) -> None:
    items = request.setdefault(name, [])
    if not isinstance(items, list):
        raise errors.BadRequest("schema", f"{name} is given twice")
    if text[:1] == "[":
        items.extend(_json(text, name))
        return
    kind = field.type[2:]
    items.extend(parse(item, kind, name) for item in (text.split(",") if text else ()))


def _append(request: dict[str, Any], name: str, text: str) -> None:
    if name in request:
        before = request[name]
        if isinstance(before, list):
            before.append(text)
        else:
            request[name] = [before, text]
    else:
        request[name] = text


def example(shape: Value) -> Mapping[str, Any]:
    """A request with a plain value for each field, for help texts."""
    plain: dict[str, Any] = {"string": "text", "int64": 1, "float64": 1.5, "bool": True}
    return {
        field.name: [] if field.is_list else {} if field.is_map else plain.get(field.type, {})
        for field in shape.values
    }
