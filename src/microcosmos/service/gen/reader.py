"""JSON Schemas of the registry, read into a model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from microcosmos.base import names
from microcosmos.base.schema import Value
from microcosmos.registry.interface import Described, Description, Service
from microcosmos.rpc import schemas

from . import words
from .model import (
    ANY,
    NULL,
    Alias,
    Choice,
    Either,
    Field,
    Kind,
    Many,
    Map,
    Method,
    Model,
    Named,
    Plain,
    Record,
    Row,
    Type,
)

MAX_DEPTH = 32
"""How deep a schema is followed; what is nested deeper may be anything."""

Schema = dict[str, Any]
Scope = tuple[Schema, ...]

_PLAIN: dict[str, Kind] = {
    "null": "null", "boolean": "bool", "integer": "int", "number": "float", "string": "str",
}  # fmt: skip
_FORMATS: dict[str, Kind] = {
    "date-time": "datetime", "date": "date", "time": "time", "duration": "duration",
    "uuid": "uuid", "decimal": "decimal",
}  # fmt: skip
_REFERENCE = re.compile(r"#/(?:\$defs|definitions)/(.+)")
# No msgspec struct has a field of such a name.
_UNSPEAKABLE = re.compile(r'[\x00-\x1f"\\]')
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches {}",
}


def read(description: Description, reserved: Iterable[str] = ()) -> Model:
    """The model of a service.

    Args:
        description: what the registry says of it.
        reserved: names of types that the language wants for itself.
    """
    client = words.type_name(names.handler_of(description.name))
    taken = set(reserved)
    client = words.unique(client, taken, f"{client}Client")
    reader = Reader(client, taken | {client})
    methods = [_method(reader, description.name, endpoint) for endpoint in _sorted(description)]
    tell_apart(reader, _types(methods))
    return Model(description.name, client, methods, reader.records, reader.aliases)


def _sorted(description: Description) -> list[Described]:
    return sorted(description.endpoints, key=lambda endpoint: endpoint.name)


def _method(reader: Reader, service: str, endpoint: Described) -> Method:
    schema, about = endpoint.schema, endpoint.metadata
    scope: Scope = (schema,)
    hint = words.type_name(words.method_words(service, endpoint.name))
    stream = about.get("micro.stream", "")
    items = None
    if stream in ("client", "both") or "items" in schema:
        items = reader.type(schema.get("items"), scope, f"{hint}Item")
    request = reader.type(schema.get("request"), scope, f"{hint}Request")
    method = Method(
        endpoint.name,
        names.to_path(service, endpoint.name),
        _text(schema.get("description")) or about.get("description", ""),
        request,
        reader.type(schema.get("response"), scope, f"{hint}Response"),
        items,
        streams=about.get("stream") == "true" and stream != "client",
        retry=about.get("retry") != "false",
    )
    _mark_parameters(reader, endpoint, request)
    return method


def _mark_parameters(reader: Reader, endpoint: Described, request: Type) -> None:
    """What a function's parameters make is called ``CallRequest`` of ``Helloworld.Call``."""
    record = reader.records.get(request.name) if isinstance(request, Named) else None
    if record is None:
        return
    schema = reader.resolve(endpoint.schema.get("request"), (endpoint.schema,))[0]
    title = schema.get("title", "")
    record.parameters = title in ("", f"{endpoint.name.rpartition('.')[2]}Request")


class Reader:
    """Collects the types of a service, or of topics.

    Attributes:
        records: by name.
        aliases: by name.
        prefix: what the name of a type begins with if another one has it.

    Args:
        prefix: the name of the client's class.
        taken: names that no type may have.
    """

    def __init__(self, prefix: str, taken: set[str]) -> None:
        self.records: dict[str, Record] = {}
        self.aliases: dict[str, Alias] = {}
        self.prefix = prefix
        self._taken = taken
        self._known: dict[str, str] = {}

    def type(self, schema: Any, scope: Scope, hint: str, depth: int = 0) -> Type:
        """The type that a schema describes.

        Args:
            schema: the schema; what is none describes anything.
            scope: the schemas around it, whose ``$defs`` it may name, the innermost last.
            hint: a name for a record that has none.
            depth: how deep it is nested.
        """
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return ANY
        if "$defs" in schema and (not scope or scope[-1] is not schema):
            scope = (*scope, schema)
        if "$ref" in schema:
            found, inner, key = self._target(schema["$ref"], scope)
            return self._referenced(found, inner, key, depth)
        return self._inline(schema, scope, hint, depth)

    def name(self, wanted: str) -> str:
        """A name for a type, which no other one gets."""
        name = words.unique(wanted, self._taken, f"{self.prefix}{wanted}")
        self._taken.add(name)
        return name

    def resolve(self, schema: Any, scope: Scope) -> tuple[Schema, Scope]:
        """A schema, or what it refers to."""
        for _ in range(MAX_DEPTH):
            if not isinstance(schema, dict):
                return {}, scope
            if "$ref" not in schema:
                return schema, scope
            schema, scope, _key = self._target(schema["$ref"], scope)
        return {}, scope

    def _target(self, reference: Any, scope: Scope) -> tuple[Schema, Scope, str]:
        found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        if found:
            key = found[1].replace("~1", "/").replace("~0", "~")
            for at in range(len(scope), 0, -1):
                for place in ("$defs", "definitions"):
                    shared = scope[at - 1].get(place)
                    if isinstance(shared, dict) and isinstance(shared.get(key), dict):
                        return shared[key], scope[:at], key
        return {}, scope, ""

    def _referenced(self, schema: Schema, scope: Scope, key: str, depth: int) -> Type:
        if _is_record(schema) or _choices(schema):
            return self._named(schema, scope, str(schema.get("title") or key), depth)
        # What is neither is told where it stands; one that names itself ends at MAX_DEPTH.
        return self.type(schema, scope, key, depth + 1)

    def _inline(self, schema: Schema, scope: Scope, hint: str, depth: int) -> Type:
        if "const" in schema:
            schema = {**schema, "enum": [schema["const"]]}
        if choices := _choices(schema):
            return Choice(choices)
        for word in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(word), list) and options:
                return _either(self.type(one, scope, hint, depth + 1) for one in options)
        if isinstance(schema.get("allOf"), list) and schema["allOf"]:
            return self._all(schema, scope, hint, depth)
        if schema.get("format") == "decimal":
            return Plain("decimal")  # as a text or as a number
        if isinstance(kinds := schema.get("type"), list):
            each = ({**schema, "type": kind} for kind in kinds)
            return _either(self.type(one, scope, hint, depth + 1) for one in each)
        if _is_record(schema):
            return self._named(schema, scope, str(schema.get("title") or hint), depth)
        return self._simple(schema, scope, hint, depth)

    def _all(self, schema: Schema, scope: Scope, hint: str, depth: int) -> Type:
        if len(schema["allOf"]) == 1 and not _is_record(schema):
            return self.type(schema["allOf"][0], scope, hint, depth + 1)
        return ANY

    def _simple(self, schema: Schema, scope: Scope, hint: str, depth: int) -> Type:
        match schema.get("type"):
            case "array":
                return self._array(schema, scope, hint, depth)
            case "object":
                more = schema.get("additionalProperties")
                return Map(self.type(more, scope, f"{hint}Value", depth + 1))
            case "string" if schema.get("contentEncoding") == "base64":
                return Plain("bytes")
            case "string":
                return Plain(_text_kind(schema))
            case str(kind):
                return Plain(_PLAIN.get(kind, "any"))
        return ANY

    def _array(self, schema: Schema, scope: Scope, hint: str, depth: int) -> Type:
        places = schema.get("prefixItems")
        if isinstance(places, list) and places:
            items = tuple(self.type(one, scope, f"{hint}Item", depth + 1) for one in places)
            fixed = schema.get("minItems") == len(items)
            closed = schema.get("items") is False or schema.get("maxItems") == len(items)
            return Row(items) if fixed and closed else Many(ANY)
        return Many(self.type(schema.get("items"), scope, f"{hint}Item", depth + 1))

    def _named(self, schema: Schema, scope: Scope, title: str, depth: int) -> Type:
        """A record or a choice by name, the same for what is the same everywhere."""
        closure = _closure(schema, scope)
        if known := self._known.get(closure):
            return Named(known)
        name = self.name(words.type_name(title))
        self._known[closure] = name
        about = _text(schema.get("description"))
        if choices := _choices(schema):
            self.aliases[name] = Alias(name, Choice(choices), about)
            return Named(name)
        self.records[name] = record = Record(name, [], about)
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        for field, its in schema["properties"].items():
            kind = self.type(its, scope, words.type_name(f"{name} {field}"), depth + 1)
            record.fields.append(_field(field, its, kind, field in required))
        return Named(name)


def _field(name: str, schema: Any, kind: Type, required: bool) -> Field:
    schema = schema if isinstance(schema, dict) else {}
    default = schema.get("default", msgspec.UNSET)
    return Field(name, kind, required, default, _about(schema))


def _about(schema: Schema) -> str:
    """What a schema says to people: its description, then its bounds."""
    told = [text] if (text := _text(schema.get("description"))) else []
    inner = [one for one in schema.get("anyOf") or [] if isinstance(one, dict)]
    told += [f"({', '.join(bounds)})" for one in (schema, *inner) if (bounds := _bounds(one))]
    return " ".join(told)


def _bounds(schema: Schema) -> list[str]:
    """What a value may be, as far as its type does not say it."""
    if schema.get("type") == "string":
        typed = "contentEncoding" in schema or _text_kind(schema) != "str"
    else:
        typed = schema.get("type") not in ("integer", "number", "array") or "prefixItems" in schema
    if typed or "format" in schema:
        return []
    return [say.format(schema[word]) for word, say in _BOUNDS.items() if word in schema]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _text_kind(schema: Schema) -> Kind:
    """What a text holds; of some kinds only the pattern tells."""
    pattern = str(schema.get("pattern", ""))
    if pattern == schemas.DURATION:
        return "duration"
    if pattern.startswith(schemas.TIME):
        return "time"
    return _FORMATS.get(str(schema.get("format")), "str")


def _is_record(schema: Schema) -> bool:
    if schema.get("type", "object") != "object":
        return False
    properties = schema.get("properties")
    if not isinstance(properties, dict) or any(map(_UNSPEAKABLE.search, properties)):
        return False
    return bool(properties) or schema.get("additionalProperties") is False or "title" in schema


def _choices(schema: Schema) -> tuple[str | int | bool | None, ...]:
    values = schema.get("enum")
    if not isinstance(values, list) or not all(
        value is None or isinstance(value, str) or _is_whole(value) for value in values
    ):
        return ()
    # True equals 1 in Python, and is another value in JSON.
    return tuple({(type(value), value): value for value in values}.values())


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole number, or a truth, that a literal can name."""
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _either(options: Iterable[Type]) -> Type:
    flat: list[Type] = []
    for option in options:
        flat += option.options if isinstance(option, Either) else (option,)
    distinct = tuple(dict.fromkeys(flat))
    if ANY in distinct or not distinct:
        return ANY
    # Null is told last, as people write it.
    distinct = (
        *(one for one in distinct if one != NULL),
        *(one for one in distinct if one == NULL),
    )
    return distinct[0] if len(distinct) == 1 else Either(distinct)


def _closure(schema: Schema, scope: Scope) -> str:
    """A text that is the same for schemas that are the same, with all that they refer to."""
    reached: dict[str, Any] = {}
    seen: set[tuple[int, str]] = set()
    waiting: list[tuple[Any, Scope]] = [(schema, scope)]
    while waiting:
        part, around = waiting.pop()
        if isinstance(part, list):
            waiting += [(one, around) for one in part]
        elif isinstance(part, dict):
            if "$defs" in part and part not in around:
                around = (*around, part)
            if (
                isinstance(reference := part.get("$ref"), str)
                and (len(around), reference) not in seen
            ):
                seen.add((len(around), reference))
                target, inner, _ = Reader("", set())._target(reference, around)
                reached.setdefault(reference, []).append(target)
                waiting.append((target, inner))
            waiting += [(one, around) for word, one in part.items() if word != "$defs"]
    return json.dumps([schema, reached], sort_keys=True, default=str)


def tell_apart(reader: Reader, types: Sequence[Type]) -> None:
    """Find what tells the records of a union apart, in some types and in all records."""
    for union in _unions(reader, types):
        records = [reader.records[one.name] for one in union if one.name in reader.records]
        if len(records) < 2:
            continue
        for field in records[0].fields:
            values = [_constant(record, field.name) for record in records]
            if msgspec.UNSET not in values and len(set(values)) == len(values):
                for record in records:
                    record.tag = record.tag or field.name
                    # Alone it may be left out, among others it may not.
                    for one in record.fields:
                        one.required = one.required or one.name == record.tag
                break


def _constant(record: Record, name: str) -> Any:
    """The one text that a field can be, else UNSET."""
    field = record.field(name)
    if field is None or not isinstance(field.type, Choice):
        return msgspec.UNSET
    (value, *more) = field.type.values
    return value if isinstance(value, str) and not more else msgspec.UNSET


def _types(methods: Iterable[Method]) -> list[Type]:
    each = ((one.request, one.response, one.items) for one in methods)
    return [kind for kinds in each for kind in kinds if kind is not None]


def _unions(reader: Reader, types: Sequence[Type]) -> Iterable[list[Named]]:
    waiting = [*types]
    for record in reader.records.values():
        waiting += [field.type for field in record.fields]
    for part in waiting:
        match part:
            case Either(options):
                yield [one for one in options if isinstance(one, Named)]
                waiting += options
            case Many(one) | Map(one):
                waiting.append(one)
            case Row(items):
                waiting += items


def from_trees(service: Service) -> Description:
    """A description out of the value trees of a service that says no more.

    Args:
        service: one version, as GetService gives it.
    """
    endpoints = [
        Described(
            name=endpoint.name,
            metadata=endpoint.metadata,
            schema={
                "request": _tree(endpoint.request, 0),
                "response": _tree(endpoint.response, 0),
            },
        )
        for endpoint in service.endpoints
    ]
    return Description(
        name=service.name,
        version=service.version,
        metadata=service.metadata,
        endpoints=endpoints,
    )


_TREE_KINDS = {
    "string": "string", "bool": "boolean", "float64": "number", "float32": "number",
    "double": "number", "float": "number", "int64": "integer", "int32": "integer",
    "uint64": "integer", "uint32": "integer", "int": "integer", "long": "integer",
    "null": "null",
}  # fmt: skip


def _tree(value: Value, depth: int) -> Schema:
    kind = value.type
    if depth > MAX_DEPTH:
        return {}
    if kind.startswith("[]"):
        inner = Value(name=value.name, type=kind[2:], values=value.values)
        return {"type": "array", "items": _tree(inner, depth + 1)}
    if kind.startswith("map[string]"):
        inner = Value(name=value.name, type=kind.removeprefix("map[string]"), values=value.values)
        return {"type": "object", "additionalProperties": _tree(inner, depth + 1)}
    if kind == "bytes":
        return {"type": "string", "contentEncoding": "base64"}
    if kind in _TREE_KINDS:
        return {"type": _TREE_KINDS[kind]}
    if not value.values:
        return {}
    fields = {field.name: _tree(field, depth + 1) for field in value.values}
    return {"title": kind, "type": "object", "properties": fields}


def described(description: Description, trees: Sequence[Service]) -> Description:
    """A description whose empty schemas are filled from the value trees."""
    if all(endpoint.schema for endpoint in description.endpoints):
        return description
    told = {
        endpoint.name: endpoint
        for service in trees
        if service.version == description.version
        for endpoint in from_trees(service).endpoints
    }
    endpoints = [
        endpoint if endpoint.schema else told.get(endpoint.name, endpoint)
        for endpoint in description.endpoints
    ]
    return msgspec.structs.replace(description, endpoints=endpoints)
