"""The TypeScript client of a service, as source text.

One file without dependencies, for browsers, Node, Deno and Bun: an interface for each type, a
class with a method for each endpoint, errors as classes. Values are what JSON carries: dates,
durations and decimals are texts, bytes are base64.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import msgspec

from . import words
from .model import (
    ANY,
    Choice,
    Either,
    Field,
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
from .topics import NOTE, Topics

WIDTH = 100

RESERVED = frozenset(
    {
        *("AbortController", "AbortSignal", "Answer", "Answers", "Array", "AsyncGenerator"),
        *("AsyncIterable", "BadGateway", "BadRequest", "Boolean", "CallOptions"),
        *("ClientClosed", "ClientOptions", "Conflict", "ConnectionLost", "Date"),
        *("DeadlineExceeded", "Dialogue", "Error", "Forbidden", "Infinity", "InternalServerError"),
        *("Item", "Iterable", "JSON", "Map", "Math", "MethodNotAllowed", "MicroError", "NaN"),
        *("NotFound", "Number", "Object", "Promise", "ReadableStream", "Record"),
        *("RequestTimeout", "Response", "Sent", "String", "Symbol", "Talk", "TextDecoder"),
        *("TooLarge", "TooManyRequests", "Transport", "URLSearchParams", "Uint8Array"),
        *("Unauthorized", "Unavailable", "Unimplemented", "WebSocket", "CLASSES"),
    }
)
"""Names that no type of a generated file may have."""

_METHODS = frozenset({"constructor", "transport", "toString", "valueOf", "toJSON", "then"})
_PLAIN = {"any": "unknown", "null": "null", "bool": "boolean", "int": "number", "float": "number"}
_HELD = {
    "bytes": "bytes in base64",
    "datetime": "a date and time",
    "date": "a date",
    "time": "a time of day",
    "duration": "a duration such as PT90S",
    "uuid": "a UUID",
    "decimal": "a decimal number",
}
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def write(model: Model, *, again: str) -> str:
    """The file of a client.

    Args:
        model: the service, read with `RESERVED`.
        again: the command that writes it again.
    """
    lines = [
        f"// Made by `{again}`; make it again when the service changes.",
        "/* eslint-disable */",
        "",
    ]
    lines += [*_declarations(model), *_client(model), ""]
    part = (resources.files(__package__) / "parts" / "client.ts").read_text("utf-8")
    return "\n".join(lines) + "\n" + part


def write_topics(topics: Topics, *, again: str) -> str:
    """The file of the types of topics.

    Args:
        topics: read with `RESERVED`.
        again: the command that writes it again.
    """
    lines = [f"// Made by `{again}`; {NOTE}", "/* eslint-disable */", ""]
    lines += _declarations(topics.model)
    for topic, name in topics.names.items():
        kind = topics.types[topic]
        lines += [*_comment([f"What {topic} has."], 0)]
        lines += [f"export type {name} = {_type(kind)};", ""]
    lines += ["/** What each topic has. */", "export interface Topics {"]
    for topic, kind in topics.types.items():
        lines.append(f"  {_text(topic)}: {topics.names.get(topic) or _type(kind)};")
    return "\n".join([*lines, "}", ""])


def _declarations(model: Model) -> list[str]:
    """The choices and the records."""
    lines: list[str] = []
    for alias in model.aliases.values():
        lines += [*_comment(words.prose(alias.about, 90), 0)]
        lines += [f"export type {alias.name} = {_type(alias.type)};", ""]
    for record in model.records.values():
        lines += [*_record(record), ""]
    return lines


def method_names(model: Model) -> dict[str, str]:
    """The method of each endpoint, as TypeScript calls it."""
    names: dict[str, str] = {}
    used = set(_METHODS)
    for method in model.methods:
        words_ = words.identifier(words.method_words(model.name, method.endpoint))
        name = words_[:1].lower() + words_[1:]
        names[method.endpoint] = name = words.unique(name, used, f"{name}_")
        used.add(name)
    return names


def _record(record: Record) -> list[str]:
    about = _comment(words.prose(record.about, 90), 0)
    if not record.fields:
        return [*about, f"export type {record.name} = Record<string, never>;"]
    lines = [*about, f"export interface {record.name} {{"]
    for field in record.fields:
        lines += _field(field)
    return [*lines, "}"]


def _field(field: Field) -> list[str]:
    told = words.prose(field.about, 86)
    if held := _held(field.type):
        told = [*told, held]
    if field.default is not msgspec.UNSET and not field.required:
        told = [*told, f"@default {_text(field.default)[:80]}"]
    mark = "" if field.required else "?"
    return [*_comment(told, 2), f"  {_name(field.name)}{mark}: {_type(field.type)};"]


def _held(kind: Type) -> str:
    """What a text holds, for people."""
    match kind:
        case Plain(name):
            held = _HELD.get(name, "")
            return f"{held[:1].upper()}{held[1:]}." if held else ""
        case Either(options):
            return next((held for option in options if (held := _held(option))), "")
        case Many(item):
            return _held(item)
    return ""


def _type(kind: Type) -> str:
    match kind:
        case Plain(name):
            return _PLAIN.get(name, "string")
        case Named(name):
            return name
        case Choice(values):
            return " | ".join(_text(value) for value in values)
        case Many(item):
            inner = _type(item)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case Row(items):
            return f"[{', '.join(_type(item) for item in items)}]"
        case Map(value):
            return f"Record<string, {_type(value)}>"
        case Either(options):
            return " | ".join(dict.fromkeys(_type(option) for option in options))


def _name(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) and name != "__proto__" else _text(name)


def _text(value: Any) -> str:
    """A JSON value as an expression, nothing in it invisible."""
    return "".join(
        mark if mark.isprintable() else _unicode(mark)
        for mark in json.dumps(value, ensure_ascii=False)
    )


def _unicode(mark: str) -> str:
    encoded = mark.encode("utf-16-be", "surrogatepass")
    units = [encoded[at : at + 2].hex() for at in range(0, len(encoded), 2)]
    return "".join(f"\\u{unit}" for unit in units)


def _comment(told: list[str], indent: int) -> list[str]:
    space = " " * indent
    safe = [line.replace("*/", "*\\/") for line in told]
    if not safe:
        return []
    if len(safe) == 1:
        return [f"{space}/** {safe[0]} */"]
    return [f"{space}/**", *(f"{space} * {line}".rstrip() for line in safe), f"{space} */"]


def _client(model: Model) -> list[str]:
    lines = [
        f"/** The service {model.name}. */",
        f"export class {model.client} {{",
        "  private readonly transport: Transport;",
        "",
        "  constructor(options: ClientOptions = {}) {",
        "    this.transport = new Transport(options);",
        "  }",
    ]
    names = method_names(model)
    for method in model.methods:
        lines += ["", *_method(model, method, names[method.endpoint])]
    return [*lines, "}"]


def _method(model: Model, method: Method, name: str) -> list[str]:
    about = _comment(words.prose(method.about, 90), 2)
    answer = _type(method.response)
    item = _type(method.items) if method.items is not None else ""
    request = f"request: {_type(method.request)}"
    if model.optional(method.request):
        request = "request?: unknown" if method.request == ANY else f"{request} = {{}}"
    parameters = [request, "options: CallOptions = {}"]
    sent = f"{{ endpoint: {_text(method.endpoint)}, path: {_text(method.path)}, request, options }}"
    if item and not method.streams:
        parameters.insert(0, f"items: Iterable<{item}> | AsyncIterable<{item}>")
        if not request.endswith(("= {}", "unknown")):
            parameters = [parameters[0], *parameters[1:]]
        returns, call = f"Promise<{answer}>", f"only<{item}, {answer}>({sent}, items)"
    elif item:
        returns, call = f"Dialogue<{item}, {answer}>", f"dialogue<{item}, {answer}>({sent})"
    elif method.streams:
        returns, call = f"Answers<{answer}>", f"answers<{answer}>({sent})"
    else:
        retry = "true" if method.retry else "false"
        returns, call = f"Promise<{answer}>", f"call<{answer}>({sent}, {retry})"
    head = f"  {name}({', '.join(parameters)}): {returns} {{"
    if len(head) > WIDTH:
        listed = [f"    {parameter}," for parameter in parameters]
        heads = [f"  {name}(", *listed, f"  ): {returns} {{"]
    else:
        heads = [head]
    return [
        *about,
        *heads,
        f"    const sent = {sent};",
        f"    return this.transport.{call.replace(sent, 'sent')};",
        "  }",
    ]
