"""Value trees as protobuf messages, by rules that give the same numbers every time.

- A struct is a message of its name; two that differ under one name are ``Item`` and ``Item2``.
- A field's number is its place in the shape: 1, 2, 3 … A new field belongs at the end.
- ``string int64 float64 bool bytes`` are ``string int64 double bool bytes``, with presence
  (``optional``), so that a handler's own defaults stand where a client has set nothing, and a zero
  that it has set arrives.
- ``[]T`` is ``repeated T``, ``map[string]T`` is ``map<string, T>``; a list or map inside a list or
  map, ``any``, and whatever has no known type is ``google.protobuf.Value``.
- A struct of which no field is known is ``google.protobuf.Struct``.
- A request or an answer that is no struct is a message with the one field ``value``; ``any`` is
  ``google.protobuf.Value`` itself and ``map[string]any`` is ``google.protobuf.Struct``.
- In a name, what is neither letter, digit nor ``_`` becomes ``_``; one that begins with a digit
  gets an ``n`` before it, and one that is taken a number after it. A field's ``json_name`` is
  always its true name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from microcosmos.base.schema import Value

from .notation import map_entry

STRUCT = ".google.protobuf.Struct"
ANY = ".google.protobuf.Value"
STRUCT_FILE = "google/protobuf/struct.proto"

_F = FieldDescriptorProto
_SCALARS = {
    "string": _F.TYPE_STRING,
    "bytes": _F.TYPE_BYTES,
    "bool": _F.TYPE_BOOL,
    **dict.fromkeys(("int64", "int", "long"), _F.TYPE_INT64),
    "int32": _F.TYPE_INT32,
    "uint64": _F.TYPE_UINT64,
    "uint32": _F.TYPE_UINT32,
    **dict.fromkeys(("float64", "float", "double"), _F.TYPE_DOUBLE),
    "float32": _F.TYPE_FLOAT,
}
_UNTYPED = frozenset(("", "any", "null"))


def identifier(word: str) -> str:
    """A name as protobuf allows it: ``user-id`` is ``user_id``, ``2nd`` is ``n2nd``."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", word)
    # Underscores do not count: map entries are named after their fields without them.
    return plain if re.match(r"_*[A-Za-z]", plain) else f"n{plain}"


def package(service: str) -> str:
    """The protobuf package of a service: its name, each part of it an identifier."""
    return ".".join(identifier(part) for part in service.split("."))


def _item(kind: str) -> str:
    """``T`` of ``[]T`` and ``map[string]T``, else the type itself."""
    return kind.removeprefix("[]" if kind.startswith("[]") else "map[string]")


def _is_struct(kind: str) -> bool:
    return not (kind in _SCALARS or kind in _UNTYPED or kind.startswith(("[]", "map[")))


def _same(one: Value, other: Value) -> bool:
    """Whether two structs are one type; a tree that was cut at its depth says nothing against."""
    if not one.values or not other.values:
        return True
    return [(v.name, v.type) for v in one.values] == [(v.name, v.type) for v in other.values] and (
        all(map(_same, one.values, other.values))
    )


class Shapes:
    """The messages that value trees need.

    Args:
        file: where they go; its package and the names in it are set already.
        taken: further names of the package that messages may not have.
    """

    def __init__(self, file: FileDescriptorProto, taken: Collection[str]) -> None:
        self._file = file
        self._taken = {*taken, *(message.name for message in file.message_type)}
        self._taken.update(enum.name for enum in file.enum_type)
        self._structs: dict[str, list[tuple[Value, str]]] = {}
        self.wrappers: set[str] = set()

    def collect(self, value: Value) -> None:
        """See a tree before anything is written, so that cut branches find their whole types."""
        kind = _item(value.type)
        if value.values and _is_struct(kind) and not self._message_of(kind, value):
            self._structs.setdefault(kind, []).append((value, self._claim(kind)))
        for field in value.values:
            self.collect(field)

    def _message_of(self, kind: str, value: Value) -> str:
        known = self._structs.get(kind, ())
        return next((name for struct, name in known if _same(struct, value)), "")

    def _claim(self, word: str) -> str:
        base = name = identifier(word)
        number = 1
        while name in self._taken:
            number += 1
            name = f"{base}{number}"
        self._taken.add(name)
        return f".{self._file.package}.{name}"

    def write(self) -> None:
        """Add the messages of all trees that were collected."""
        for structs in self._structs.values():
            for struct, full_name in structs:
                self._add(full_name, struct.values)

    def _add(self, full_name: str, fields: list[Value]) -> None:
        message = self._file.message_type.add(name=full_name.rpartition(".")[2])
        names = _field_names([value.name for value in fields])
        for number, value in enumerate(fields, 1):
            field = message.field.add(name=names[value.name], json_name=value.name, number=number)
            self._type(message, field, value, full_name)

    def _type(self, message: DescriptorProto, field: _F, value: Value, full_name: str) -> None:
        field.label = field.LABEL_OPTIONAL
        if value.is_list:
            field.label = field.LABEL_REPEATED
            self._type_item(field, _item(value.type), value)
        elif value.is_map:
            self._type_item(map_entry(message, field, full_name), _item(value.type), value)
        else:
            self._type_item(field, value.type, value)
            if field.type != field.TYPE_MESSAGE:
                field.proto3_optional = True
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")

    def _type_item(self, field: _F, kind: str, value: Value) -> None:
        if scalar := _SCALARS.get(kind):
            field.type = scalar
            return
        field.type = field.TYPE_MESSAGE
        if _is_struct(kind):
            field.type_name = self._message_of(kind, value) or STRUCT
        else:
            field.type_name = ANY

    def root(self, value: Value, name: str) -> str:
        """The full name of the message for a request or an answer.

        Args:
            value: its tree.
            name: what the message is called if the tree does not say: ``CallRequest``.
        """
        kind = value.type
        if kind in _UNTYPED:
            return STRUCT if name.endswith("Request") and not kind else ANY
        if kind == "map[string]any":
            return STRUCT
        if not _is_struct(kind):
            return self._wrapper(value, name)
        if known := self._message_of(kind, value):
            return known
        # rpc names the shape of nothing at all like this; any other is an author's type whose
        # fields are not told. Both are the same on the wire as long as they are empty.
        return self._new(name, []) if kind == name else STRUCT

    def _wrapper(self, value: Value, name: str) -> str:
        inner = Value(name="value", type=value.type, values=value.values)
        full_name = self._new(name, [inner])
        self.wrappers.add(full_name)
        return full_name

    def _new(self, name: str, fields: list[Value]) -> str:
        full_name = self._claim(name)
        self._add(full_name, fields)
        return full_name


def _field_names(true_names: Sequence[str]) -> dict[str, str]:
    """The names of fields in protobuf, by their true ones.

    protobuf wants more than that they differ: they must as well in JSON's camel case, in the
    names of map entries, and from each other's true names. Those that can stay come first.
    """
    names: dict[str, str] = {}
    used: set[str] = set()
    for true_name in sorted(true_names, key=lambda name: identifier(name) != name):
        base = name = identifier(true_name)
        number = 1
        while _plain(name) in used or (name != true_name and name in true_names):
            number += 1
            name = f"{base}_{number}"
        used.add(_plain(name))
        names[true_name] = name
    return names


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
