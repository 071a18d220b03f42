"""Types as JSON Schema 2020-12, exactly as they are read and written.

msgspec can make schemas too, but not of what it reads to the letter: it takes numbers for a
decimal and twice the same for a set, says of durations what no other program reads, and leaves
out what a moment or a key of a map looks like. A document whose examples are refused, or one that
does not tell what is accepted, is worth little, so the schemas are made here.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
import msgspec.inspect as mi

from microcosmos.base.schema import type_info

from . import docstring

Schema = dict[str, Any]
Side = Literal["validation", "serialization"]

_REF = "#/$defs/"

# What JSON Schema has no format for, or formats that are narrower than what is read and written.
BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
DECIMAL = r"^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,5})?$|^[+-]?(?:NaN|Infinity)$"
_SECONDS = r"\d{1,8}(?:\.\d{1,6})?S"
_MINUTES = rf"(?:\d{{1,8}}M(?:{_SECONDS})?|{_SECONDS})"
_HOURS = rf"(?:\d{{1,8}}H(?:{_MINUTES})?|{_MINUTES})"
DURATION = rf"^[+-]?P(?:\d{{1,8}}D(?:T{_HOURS})?|T{_HOURS})$"
TIME = r"^(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_OFFSET = r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
WHOLE = r"^(?:0|-?[1-9]\d*)$"


class Schemas:
    """Makes schemas; those of types with names stand once in ``defs``, and are referred to.

    Attributes:
        defs: schemas by the names of their types; of two types with one name the second is
            ``Name_2``.
    """

    def __init__(self) -> None:
        self.defs: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}

    def of(self, kind: Any, side: Side = "validation") -> Schema:
        """The schema of a type; what has none may be anything.

        Args:
            kind: anything that msgspec takes, or a pydantic model.
            side: ``validation`` if it is read, ``serialization`` if it is written; only models of
                pydantic tell these apart.
        """
        try:
            info = type_info(kind)
        except TypeError:
            return {}
        return _Walk(self, side).of(info)

    def name(self, key: Any, wanted: str) -> str:
        """A free name for a type, kept for it."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted).strip("_") or "Type"
        taken, name, count = set(self._names.values()), plain, 1
        while name in taken:
            count += 1
            name = f"{plain}_{count}"
        self._names[key] = name
        return name

    def known(self, key: Any) -> str | None:
        """The name of a type that has one already."""
        return self._names.get(key)


class _Walk:
    """One type after another, as one side sees them."""

    def __init__(self, schemas: Schemas, side: Side) -> None:
        self._schemas = schemas
        self._side = side

    def of(self, info: mi.Type) -> Schema:
        if isinstance(info, mi.Metadata):
            return {**self.of(info.type), **(info.extra_json_schema or {})}
        match info:
            case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
                return self._named(info.cls, lambda: self._fields(info))
            case mi.EnumType():
                return self._named(info.cls, lambda: _enum(info))
            case mi.CustomType():
                return self._foreign(info.cls)
            case mi.UnionType():
                return self._union(info)
            case mi.TupleType():
                return self._tuple([self.of(item) for item in info.item_types])
            case mi.DictType() | mi.FrozenDictType():
                return self._map(info)
            case mi.CollectionType():
                return _sized(info, "Items", {"type": "array", **self._items(info.item_type)})
        return _scalar(info)

    def _named(self, cls: Any, make: Callable[[], Schema]) -> Schema:
        name = self._schemas.known(cls)
        if name is None:
            name = self._schemas.name(cls, _class_name(cls))
            self._schemas.defs[name] = {}  # it may be made of itself
            self._schemas.defs[name] = {"title": _class_name(cls), **make()}
        return {"$ref": _REF + name}

    def _items(self, item: mi.Type) -> Schema:
        found = self.of(item)
        return {"items": found} if found else {}

    def _tuple(self, items: list[Schema]) -> Schema:
        if not items:
            return {"type": "array", "maxItems": 0}
        exact = {"minItems": len(items), "maxItems": len(items)}
        return {"type": "array", "prefixItems": items, **exact}

    def _map(self, info: mi.DictType | mi.FrozenDictType) -> Schema:
        found: Schema = {"type": "object"}
        if names := self._key(info.key_type):
            found["propertyNames"] = names
        if values := self.of(info.value_type):
            found["additionalProperties"] = values
        return _sized(info, "Properties", found)

    def _key(self, info: mi.Type) -> Schema:
        """What a name of a map looks like; numbers are texts there."""
        if isinstance(info, mi.IntType):
            return {"pattern": WHOLE}
        if isinstance(info, mi.FloatType):
            return {"pattern": r"^-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?$"}
        found = self.of(info)
        return {} if found == {"type": "string"} else found

    def _union(self, info: mi.UnionType) -> Schema:
        null = [kind for kind in info.types if isinstance(kind, mi.NoneType)]
        rest = [kind for kind in info.types if not isinstance(kind, mi.NoneType)]
        tagged = {
            kind.tag: kind
            for kind in map(_bare, rest)
            if isinstance(kind, mi.StructType) and kind.tag is not None and not kind.array_like
        }
        if len(tagged) < 2:
            return {"anyOf": [self.of(kind) for kind in [*rest, *null]]}
        # Only where there is a choice has the tag to be there.
        (field,) = {kind.tag_field for kind in tagged.values()}
        choice: Schema = {
            "anyOf": [{**self.of(kind), "required": [field]} for kind in tagged.values()],
            "discriminator": {
                "propertyName": field,
                "mapping": {str(tag): self.of(kind)["$ref"] for tag, kind in tagged.items()},
            },
        }
        chosen = {id(kind) for kind in tagged.values()}
        others = [kind for kind in rest if id(_bare(kind)) not in chosen]
        if not others and not null:
            return choice
        return {"anyOf": [*(self.of(kind) for kind in others), choice, *map(self.of, null)]}

    def _fields(
        self, info: mi.StructType | mi.DataclassType | mi.TypedDictType | mi.NamedTupleType
    ) -> Schema:
        about = docstring.parse(_doc(info.cls))
        schemas = {field.encode_name: self._field(field, about.fields) for field in info.fields}
        required = [field.encode_name for field in info.fields if field.required]
        listed = isinstance(info, mi.NamedTupleType)
        closed = False
        if isinstance(info, mi.StructType):
            listed, closed = info.array_like, info.forbid_unknown_fields
            if info.tag_field is not None:
                schemas = {info.tag_field: {"const": info.tag}, **schemas}
                if self._side == "serialization" and not listed:
                    # It is always written, though it need not be there to be read.
                    required = [info.tag_field, *required]
        described = {"description": about.text} if about.text else {}
        if listed:
            count = {"minItems": len(required) + (len(schemas) - len(info.fields))}
            if closed or isinstance(info, mi.NamedTupleType):
                count["maxItems"] = len(schemas)
            return {"type": "array", **described, "prefixItems": [*schemas.values()], **count}
        found: Schema = {"type": "object", **described, "properties": schemas}
        if required:
            found["required"] = required
        if closed:
            found["additionalProperties"] = False
        return found

    def _field(self, field: mi.Field, described: dict[str, str]) -> Schema:
        found = self.of(field.type)
        if text := described.get(field.name):
            found = {"description": text, **found}
        return {**found, **_default(field)}

    def _foreign(self, cls: Any) -> Schema:
        """Let pydantic models be told by themselves."""
        if not (describe := getattr(cls, "model_json_schema", None)):
            return {}
        if known := self._schemas.known((cls, self._side)):
            return {"$ref": _REF + known}
        written = self._side == "serialization"
        try:
            found: Schema = describe(mode=self._side, by_alias=not written)
        except Exception:  # noqa: BLE001 - a type of it has no schema; what it says is its own
            return {}
        return self._hoisted(cls, found)

    def _hoisted(self, cls: Any, found: Schema) -> Schema:
        """A model's schema with its own definitions among all the others."""
        inner: dict[str, Schema] = found.pop("$defs", {})
        if found.keys() == {"$ref"}:  # a model made of itself
            found = inner.pop(top := found["$ref"].removeprefix(_REF), {})
        else:
            top = ""
        name = self._schemas.name((cls, self._side), cls.__name__)
        named = {key: self._schemas.name((cls, self._side, key), key) for key in inner}
        if top:
            named[top] = name
        moved = {_REF + key: _REF + value for key, value in named.items()}
        for key, schema in [*inner.items(), (top, found)]:
            self._schemas.defs[named.get(key, name)] = pointed(schema, moved)
        return {"$ref": _REF + name}


def pointed(schema: Any, moved: dict[str, str]) -> Any:
    """A schema whose references to moved places lead to the new ones."""
    if isinstance(schema, list):
        return [pointed(item, moved) for item in schema]
    if isinstance(schema, dict):
        return {key: pointed(value, moved) for key, value in schema.items()}
    return moved.get(schema, schema) if isinstance(schema, str) else schema


def _bare(info: mi.Type) -> mi.Type:
    while isinstance(info, mi.Metadata):
        info = info.type
    return info


def _class_name(cls: Any) -> str:
    if origin := getattr(cls, "__origin__", None):
        inside = ", ".join(getattr(one, "__name__", repr(one)) for one in cls.__args__)
        return f"{origin.__name__}[{inside}]"
    name: str = cls.__name__
    return name


def _doc(cls: Any) -> str:
    """A type's own docstring; not the one that dataclass writes, nor an inherited one."""
    own: str = vars(getattr(cls, "__origin__", cls)).get("__doc__") or ""
    return "" if own.startswith(f"{cls.__name__}(") else inspect.cleandoc(own)


def _enum(info: mi.EnumType) -> Schema:
    found: Schema = {"enum": [member.value for member in info.cls]}
    if text := docstring.parse(_doc(info.cls)).text:
        found = {"description": text, **found}
    return found


def _default(field: mi.Field) -> Schema:
    """What stands in for a field that is left out, where that is fixed and can be told."""
    value = field.default
    make = field.default_factory
    if make in (list, dict, set, frozenset, tuple, bytearray) or (
        isinstance(make, functools.partial) and make.func is copy.deepcopy
    ):
        value = make()
    if value is msgspec.NODEFAULT or (value is None and not _takes_none(field.type)):
        return {}
    try:
        return {"default": msgspec.to_builtins(value, str_keys=True)}
    except (TypeError, ValueError):
        return {}


def _takes_none(info: mi.Type) -> bool:
    info = _bare(info)
    if isinstance(info, mi.UnionType):
        return any(map(_takes_none, info.types))
    return isinstance(info, mi.NoneType | mi.AnyType | mi.RawType)


def _sized(info: Any, what: str, found: Schema) -> Schema:
    """With the bounds of a length."""
    for bound, keyword in ((info.min_length, f"min{what}"), (info.max_length, f"max{what}")):
        if bound is not None:
            found[keyword] = bound
    return found


_TEXTS: dict[type[mi.Type], Schema] = {
    mi.DateType: {"format": "date"},
    mi.UUIDType: {"format": "uuid"},
    mi.TimeDeltaType: {"pattern": DURATION},
    mi.DecimalType: {"type": ["string", "number"], "format": "decimal", "pattern": DECIMAL},
}

_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def _scalar(info: mi.Type) -> Schema:
    match info:
        case mi.NoneType():
            return {"type": "null"}
        case mi.BoolType():
            return {"type": "boolean"}
        case mi.IntType() | mi.FloatType():
            return _number(info)
        case mi.StrType():
            found = _sized(info, "Length", {"type": "string"})
            return found if info.pattern is None else {**found, "pattern": info.pattern}
        case mi.BytesType() | mi.ByteArrayType() | mi.MemoryViewType():
            return _bytes(info)
        case mi.DateTimeType():
            # Without a zone it is read and written too, but nobody else would read that.
            return {"type": "string"} | ({} if info.tz is False else {"format": "date-time"})
        case mi.TimeType():
            offset = {True: _OFFSET, False: "", None: f"{_OFFSET}?"}[info.tz]
            return {"type": "string", "pattern": f"{TIME}{offset}$"}
        case mi.LiteralType():
            return {"enum": _sorted(info.values)}
    if text := _TEXTS.get(type(info)):
        return {"type": "string", **text}
    return {}


def _sorted(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=lambda value: (str(type(value)), value is None or value))


def _number(info: mi.IntType | mi.FloatType) -> Schema:
    found: Schema = {"type": "integer" if isinstance(info, mi.IntType) else "number"}
    for bound, keyword in _BOUNDS.items():
        if (value := getattr(info, bound)) is not None:
            found[keyword] = value
    return found


def _bytes(info: mi.BytesType | mi.ByteArrayType | mi.MemoryViewType) -> Schema:
    """Base64; a length in bytes is one in groups of four characters."""
    found: Schema = {"type": "string", "contentEncoding": "base64", "pattern": BASE64}
    for bound, keyword in ((info.min_length, "minLength"), (info.max_length, "maxLength")):
        if bound is not None:
            found[keyword] = 4 * ((bound + 2) // 3)
    return found
