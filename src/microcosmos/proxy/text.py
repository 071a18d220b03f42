"""A protobuf file as the text that ``protoc`` reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

_SCALARS = {
    getattr(FieldDescriptorProto, f"TYPE_{word.upper()}"): word
    for word in ("double", "float", "int32", "int64", "uint32", "uint64", "bool", "string", "bytes")
}
# Where a type is named, these would be read as something else.
_WORDS = frozenset(
    (*_SCALARS.values(), "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64")
) | {
    *("enum", "extend", "extensions", "group", "map", "message", "oneof", "option", "optional"),
    *("repeated", "required", "reserved", "stream"),
}


def write(file: FileDescriptorProto) -> str:
    """The text of a file: what the descriptors of reflection say, with their comments."""
    return "\n".join(_Writer(file).lines()) + "\n"


class _Writer:
    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {
            tuple(place.path): place.leading_comments for place in file.source_code_info.location
        }

    def lines(self) -> Iterator[str]:
        yield 'syntax = "proto3";'
        yield ""
        yield f"package {self._file.package};"
        if self._file.dependency:
            yield ""
            yield from (f'import "{name}";' for name in self._file.dependency)
        for at, service in enumerate(self._file.service):
            yield ""
            yield from self._service(at, service)
        for enum in self._file.enum_type:
            yield ""
            yield from _enum(enum)
        for at, message in enumerate(self._file.message_type):
            yield ""
            yield from self._comment((4, at), "")
            yield from self._message(at, message)

    def _service(self, at: int, service: ServiceDescriptorProto) -> Iterator[str]:
        methods = {method.name for method in service.method}
        yield f"service {service.name} {{"
        for number, method in enumerate(service.method):
            yield from self._comment((6, at, 2, number))
            takes, gives = self._ways(method, methods)
            yield f"  rpc {method.name}({takes}) returns ({gives});"
        yield "}"

    def _ways(self, method: MethodDescriptorProto, near: Collection[str]) -> tuple[str, str]:
        takes, gives = (self._type(kind, near) for kind in (method.input_type, method.output_type))
        return (
            f"stream {takes}" if method.client_streaming else takes,
            f"stream {gives}" if method.server_streaming else gives,
        )

    def _comment(self, path: tuple[int, ...], indent: str = "  ") -> Iterator[str]:
        for line in self._comments.get(path, "").splitlines():
            yield f"{indent}//{line.rstrip()}"

    def _message(self, at: int, message: DescriptorProto) -> Iterator[str]:
        inside = f".{self._file.package}.{message.name}."
        entries = {inside + one.name: one for one in message.nested_type}
        lines = [f"  {line}" for line in _reserved(message)]
        for number, field in enumerate(message.field):
            lines += self._comment((4, at, 2, number))
            lines.append(f"  {self._field(field, entries)}")
        yield f"message {message.name} {{" + ("" if lines else "}")
        yield from lines
        if lines:
            yield "}"

    def _field(self, field: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
        near = {name.rpartition(".")[2] for name in entries}
        kind = self._kind(field, near)
        if entry := entries.get(field.type_name):
            kind = f"map<string, {self._kind(entry.field[1], near)}>"
        elif field.label == field.LABEL_REPEATED:
            kind = f"repeated {kind}"
        elif field.proto3_optional:
            kind = f"optional {kind}"
        # Without it protoc would make `userId` of `user_id`, which no service of ours knows.
        shown = "" if field.json_name == _camel(field.name) else _json_name(field.json_name)
        return f"{kind} {field.name} = {field.number}{shown};"

    def _kind(self, field: FieldDescriptorProto, near: Collection[str]) -> str:
        return _SCALARS.get(field.type) or self._type(field.type_name, near)

    def _type(self, full_name: str, near: Collection[str]) -> str:
        """A type, with its package only where it must be: ``near`` are names that come first."""
        name = full_name.removeprefix(f".{self._file.package}.")
        if name != full_name:
            return full_name if name in _WORDS or name in near else name
        hidden = {self._file.package.partition(".")[0], *_names(self._file), *near}
        return full_name if "google" in hidden else full_name[1:]


def _names(file: FileDescriptorProto) -> list[str]:
    groups = (file.message_type, file.service, file.enum_type)
    return [one.name for group in groups for one in group]


def _reserved(message: DescriptorProto) -> Iterator[str]:
    ranges = [(one.start, one.end - 1) for one in message.reserved_range]
    if ranges:
        shown = (str(a) if a == b else f"{a} to {b}" for a, b in ranges)
        yield f"reserved {', '.join(shown)};"


def _enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    yield from (f"  {value.name} = {value.number};" for value in enum.value)
    yield "}"


def _camel(name: str) -> str:
    """What protoc makes a field's name in JSON, unless told otherwise."""
    return re.sub(r"_+([^_]?)", lambda found: found[1].upper(), name)


def _json_name(name: str) -> str:
    escaped = re.sub(r'([\\"])', r"\\\1", name)
    return f' [json_name = "{_escaped(escaped)}"]'


def _escaped(text: str) -> str:
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)
