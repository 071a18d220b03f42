"""Reads the notation of `wire`: lines of services, messages and enums become a protobuf file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}
_FIELD = re.compile(r"(\d+) (\w+) (repeated )?(?:map<string, ([\w.]+)>|([\w.]+))")
_METHOD = re.compile(r"(\w+)\((stream )?(\w+)\) -> (stream )?(\w+)")


def read(package: str, notation: str) -> FileDescriptorProto:
    """The file that a notation describes, all its messages, enums and services."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    entries = list(_entries(notation))
    enums = {name for kind, name, _ in entries if kind == "enum"}
    if "google.protobuf.Any" in notation:
        file.dependency.append("google/protobuf/any.proto")
    for kind, name, parts in entries:
        if kind == "message":
            _message(file, name, parts, enums)
        elif kind == "enum":
            _enum(file, name, parts)
        else:
            _service(file, name, parts)
    return file


def _entries(notation: str) -> Iterator[tuple[str, str, list[str]]]:
    for line in notation.strip().replace("\n  ", " ").splitlines():
        head, _, rest = line.partition(":")
        kind, _, name = head.partition(" ")
        yield kind, name, [part.strip() for part in rest.split(";") if part.strip()]


def _matched(pattern: re.Pattern[str], part: str) -> re.Match[str]:
    if match := pattern.fullmatch(part):
        return match
    raise ValueError(f"{part!r} is not in the notation of `wire`")


def _message(file: FileDescriptorProto, name: str, parts: list[str], enums: set[str]) -> None:
    message = file.message_type.add(name=name)
    for part in parts:
        number, field_name, repeated, of_map, of = _matched(_FIELD, part).groups()
        field = message.field.add(name=field_name, json_name=field_name, number=int(number))
        field.label = field.LABEL_REPEATED if repeated or of_map else field.LABEL_OPTIONAL
        if of_map:
            value = map_entry(message, field, f".{file.package}.{name}")
            _set_type(value, of_map, file.package, enums)
        else:
            _set_type(field, of, file.package, enums)


def _set_type(field: FieldDescriptorProto, word: str, package: str, enums: set[str]) -> None:
    if scalar := _SCALARS.get(word):
        field.type = scalar
        return
    field.type = field.TYPE_ENUM if word in enums else field.TYPE_MESSAGE
    field.type_name = f".{word}" if "." in word else f".{package}.{word}"


def map_entry(
    message: DescriptorProto, field: FieldDescriptorProto, full_name: str
) -> FieldDescriptorProto:
    """Make a field a map with texts as keys, and return the field of its values, still untyped.

    Args:
        message: the message that the field is of.
        field: becomes the map.
        full_name: the message's, with a dot before it.
    """
    # protoc demands this very name: the field's in camel case, and Entry.
    camel = "".join(part[:1].upper() + part[1:] for part in field.name.split("_"))
    entry = message.nested_type.add(name=f"{camel}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    field.type, field.label = field.TYPE_MESSAGE, field.LABEL_REPEATED
    field.type_name = f"{full_name}.{entry.name}"
    return entry.field.add(name="value", number=2, label=field.LABEL_OPTIONAL)


def _enum(file: FileDescriptorProto, name: str, parts: list[str]) -> None:
    enum = file.enum_type.add(name=name)
    for part in parts:
        number, _, word = part.partition(" ")
        enum.value.add(name=word, number=int(number))


def _service(file: FileDescriptorProto, name: str, parts: list[str]) -> None:
    service = file.service.add(name=name)
    for part in parts:
        method, many_in, takes, many_out, gives = _matched(_METHOD, part).groups()
        service.method.add(
            name=method,
            input_type=f".{file.package}.{takes}",
            output_type=f".{file.package}.{gives}",
            client_streaming=bool(many_in),
            server_streaming=bool(many_out),
        )
