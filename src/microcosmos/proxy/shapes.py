"""Value trees as protobuf messages.

- A struct is a message of its name; two that differ under one name are ``Item`` and ``Item2``,
  the one with the older fields first.
- The numbers of its fields are given once and kept for ever, by the rules of `numbers`; those it
  does not use any more are ``reserved``.
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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from microcosmos.base.schema import Value

from .notation import map_entry
from .notes import Notes
from .numbers import Field, Pins, Wanted

# Field numbers of descriptor.proto: a file's messages, and a message's fields.
_MESSAGES, _FIELDS = 4, 2

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
_WORDS = {kind: word for word, kind in reversed(_SCALARS.items())}
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


def _same(one: Sequence[Value], other: Sequence[Value]) -> bool:
    """Whether two structs are one type; a tree that was cut at its depth says nothing against."""
    if not one or not other:
        return True
    return [(v.name, v.type) for v in one] == [(v.name, v.type) for v in other] and (
        all(_same(a.values, b.values) for a, b in zip(one, other, strict=True))
    )


@dataclass(slots=True)
class _Message:
    """A message on its way into the file.

    Attributes:
        base: its name, if nobody else has it.
        struct: what its numbers go by.
        fields: what it has.
        wraps: whether its one field stands for what is no struct.
        name: its full name, with a dot before it; empty until it is written.
    """

    base: str
    struct: str
    fields: list[Value]
    wraps: bool = False
    name: str = ""


class Shapes:
    """The messages that value trees need.

    First every tree is collected, then it is known what needs numbers, then they are written.

    Args:
        file: where they go; its package and the names in it are set already.
        taken: further names of the package that messages may not have.
        notes: what is known of structs beside their shapes.

    Attributes:
        wrappers: the messages in the file that stand for what is no struct.
        required: lists and maps that must be there, though protobuf has no empty ones, by message.
    """

    def __init__(
        self, file: FileDescriptorProto, taken: Collection[str], notes: Notes | None = None
    ) -> None:
        self._file = file
        self._notes = notes or Notes()
        self._taken = {*taken, *(message.name for message in file.message_type)}
        self._taken.update(enum.name for enum in file.enum_type)
        self._structs: dict[str, list[_Message]] = {}
        self._roots: dict[str, _Message | Value | str] = {}
        self.wrappers: set[str] = set()
        self.required: dict[str, list[str]] = {}

    def collect(self, value: Value, place: str) -> None:
        """See the tree of a request or an answer before anything is written.

        Args:
            value: the tree.
            place: whose it is: ``Helloworld.CallRequest``.
        """
        kind, name = value.type, place.rpartition(".")[2]
        if kind in _UNTYPED:
            self._roots[place] = STRUCT if name.endswith("Request") and not kind else ANY
        elif kind == "map[string]any":
            self._roots[place] = STRUCT
        elif not _is_struct(kind):
            inner = Value(name="value", type=kind, values=value.values)
            self._roots[place] = _Message(name, place, [inner], wraps=True)
            self._collect(inner)
        elif kind == name:
            # rpc names so what is made of a handler's parameters, though there be none; it is of
            # this one endpoint.
            self._roots[place] = _Message(name, place, value.values)
            for field in value.values:
                self._collect(field)
        else:
            self._collect(value)
            self._roots[place] = value

    def _collect(self, value: Value) -> None:
        kind = _item(value.type)
        if value.values and _is_struct(kind) and self._message_of(value) is None:
            self._structs.setdefault(kind, []).append(_Message(kind, kind, value.values))
        for field in value.values:
            self._collect(field)

    def _message_of(self, value: Value) -> _Message | None:
        """The message of a struct, or of a list or map of it; None if no field is known."""
        known = self._structs.get(_item(value.type), ())
        return next((one for one in known if _same(one.fields, value.values)), None)

    def _messages(self) -> Iterator[_Message]:
        """All of them, those of one endpoint first."""
        yield from (root for root in self._roots.values() if isinstance(root, _Message))
        for structs in self._structs.values():
            yield from structs

    def wanted(self) -> Wanted:
        """What needs numbers, once all trees were collected."""
        fields = [field for message in self._messages() for field in self._fields(message)]
        roots = {place: self._root(place) for place in self._roots}
        places = {place: root.struct for place, root in roots.items() if root is not None}
        return Wanted(fields, places)

    def _root(self, place: str) -> _Message | None:
        root = self._roots[place]
        if isinstance(root, Value):
            return self._message_of(root)
        return root if isinstance(root, _Message) else None

    def _fields(self, message: _Message) -> list[Field]:
        return [Field(message.struct, value.name, self._kind(value)) for value in message.fields]

    def _kind(self, value: Value) -> str:
        """The type of a field on the wire, in the words of value trees."""
        item = _item(value.type)
        prefix = value.type[: len(value.type) - len(item)]
        if scalar := _SCALARS.get(item):
            return prefix + _WORDS[scalar]
        if not _is_struct(item):
            return f"{prefix}any"
        return prefix + (item if self._message_of(value) else "map[string]any")

    def write(self, pins: Pins) -> None:
        """Add the messages of all trees that were collected, with numbers from a table."""

        def age(message: _Message) -> list[int]:
            return sorted(pins.number(field) for field in self._fields(message))

        for structs in self._structs.values():
            structs.sort(key=age)
        for message in self._messages():
            message.name = self._claim(message.base)
        for message in self._messages():
            self._add(message, pins)

    def _claim(self, word: str) -> str:
        base = name = identifier(word)
        number = 1
        while name in self._taken:
            number += 1
            name = f"{base}{number}"
        self._taken.add(name)
        return f".{self._file.package}.{name}"

    def _add(self, message: _Message, pins: Pins) -> None:
        written = self._file.message_type.add(name=message.name.rpartition(".")[2])
        names = _field_names([value.name for value in message.fields])
        for value, known in zip(message.fields, self._fields(message), strict=True):
            number = pins.number(known)
            field = written.field.add(name=names[value.name], json_name=value.name, number=number)
            self._type(written, field, value, message.name)
        _reserve(written, pins.taken(message.struct) - {field.number for field in written.field})
        if message.wraps:
            self.wrappers.add(message.name)
        else:
            self._annotate(message)

    def _annotate(self, message: _Message) -> None:
        """Note what protobuf cannot say, and what is said for people."""
        required = self._notes.required(message.base)
        many = [v.name for v in message.fields if v.name in required and (v.is_list or v.is_map)]
        if many:
            self.required[message.name[1:]] = many
        path = (_MESSAGES, len(self._file.message_type) - 1)
        comment(self._file, path, self._notes.about(message.base))
        for at, value in enumerate(message.fields):
            comment(self._file, (*path, _FIELDS, at), self._notes.about(message.base, value.name))

    def _type(self, message: DescriptorProto, field: _F, value: Value, full_name: str) -> None:
        field.label = field.LABEL_OPTIONAL
        if value.is_list:
            field.label = field.LABEL_REPEATED
            self._type_item(field, value)
        elif value.is_map:
            self._type_item(map_entry(message, field, full_name), value)
        else:
            self._type_item(field, value)
            if field.type != field.TYPE_MESSAGE:
                field.proto3_optional = True
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")

    def _type_item(self, field: _F, value: Value) -> None:
        kind = _item(value.type)
        if scalar := _SCALARS.get(kind):
            field.type = scalar
            return
        field.type = field.TYPE_MESSAGE
        if _is_struct(kind):
            known = self._message_of(value)
            field.type_name = known.name if known else STRUCT
        else:
            field.type_name = ANY

    def root(self, place: str) -> str:
        """The full name of the message of a request or an answer, once all are written."""
        if found := self._root(place):
            return found.name
        root = self._roots[place]
        return root if isinstance(root, str) else STRUCT


def comment(file: FileDescriptorProto, path: Sequence[int], text: str) -> None:
    """Let a part of a file be preceded by a comment, if there is something to say."""
    if text := text.strip():
        lines = "".join(f" {line}\n" for line in text.splitlines())
        file.source_code_info.location.add(path=path, leading_comments=lines)


def _reserve(message: DescriptorProto, numbers: Collection[int]) -> None:
    """Keep numbers from being used; they may never mean anything else."""
    for number in sorted(numbers):
        last = message.reserved_range[-1] if message.reserved_range else None
        if last and last.end == number:
            last.end += 1
        else:
            message.reserved_range.add(start=number, end=number + 1)


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
