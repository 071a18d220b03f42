"""Schemas as they are registered: JSON Schema that can be read, checked and told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec

from microcosmos.base import codec, errors

from .interface import BAD_SCHEMA, MAX_SCHEMA, unprocessable

MAX_NESTING = 100
"""How deep a schema is nested."""

DEFAULT_DRAFT = "https://json-schema.org/draft/2020-12/schema"
"""What a schema is read by that has no ``$schema``."""

SHOWN = "the value"
"""What stands for a value in the text of a refusal, so that nothing private is told."""


class Document:
    """A schema that may be registered.

    Attributes:
        value: the JSON: a dict or a boolean.
        text: the same as compact text, in its sender's order.
        identity: what tells it from others: two that differ in nothing but the order of names
            and blanks have the same.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self.text = codec.encode(value).decode()
        ordered = msgspec.json.encode(value, order="deterministic")
        self.identity = hashlib.sha256(ordered).hexdigest()

    def normal(self) -> Document:
        """The same with its names in order."""
        return Document(codec.decode(msgspec.json.encode(self.value, order="deterministic")))


def parse(schema: Any) -> Document:
    """A schema, from its JSON text or from a dict or boolean.

    Raises:
        errors.Error: 422: it is no JSON Schema, too large, or points to other documents.
    """
    value = _decoded(schema) if isinstance(schema, str | bytes) else schema
    if not isinstance(value, dict | bool):
        raise _bad("a JSON Schema is an object or a boolean")
    try:
        document = Document(value)
    except (TypeError, ValueError, UnicodeError, RecursionError):
        raise _bad("it cannot be written as JSON") from None
    if len(document.text.encode()) > MAX_SCHEMA:
        raise errors.TooLarge(BAD_SCHEMA, f"a schema has at most {MAX_SCHEMA} bytes of JSON")
    for at, node in _nodes(value, "$", 0):
        _check_pointers(at, node)
    # Compiling it checks it against its meta-schema, with its patterns and references.
    validator(value)
    return document


def validator(value: Any) -> jsonschema_rs.Validator:
    """What holds values against a schema: formats are checked, nothing is fetched.

    Raises:
        errors.Error: 422: it is no JSON Schema.
    """
    try:
        return jsonschema_rs.validator_for(value, validate_formats=True, offline=True, mask=SHOWN)
    except jsonschema_rs.ValidationError as exc:
        path = "".join(_step(part) for part in exc.instance_path)
        raise _bad(f"${path}: {exc.message}") from None
    except (ValueError, RecursionError) as exc:
        raise _bad(str(exc)) from None


def misfit(check: jsonschema_rs.Validator, value: Any) -> str:
    """Where and why a value does not fit, ``$.age: …``, or empty when it does."""
    try:
        if check.is_valid(value):
            return ""
        for error in check.iter_errors(value):
            path = "".join(_step(part) for part in error.instance_path)
            return f"${path}: {_plainly(error.message)}"
    except (ValueError, RecursionError):
        return "$: it is nested too deeply"
    return ""


def _plainly(message: str) -> str:
    return message.replace("Unevaluated properties are not allowed", "undeclared properties")


def _step(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part}"


def _decoded(text: str | bytes) -> Any:
    if len(text) > MAX_SCHEMA:
        raise errors.TooLarge(BAD_SCHEMA, f"a schema has at most {MAX_SCHEMA} bytes of JSON")
    try:
        return msgspec.json.decode(text)
    except codec.DECODE_ERRORS as exc:
        raise _bad(f"it is no JSON: {codec.bad_input('', exc).detail}") from None


_LITERAL = ("const", "enum", "default", "examples", "example")
# What stands below these are schemas by names of anybody's choice.
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")


def _nodes(
    value: Any, at: str, depth: int, named: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    if depth > MAX_NESTING:
        raise _bad(f"it is nested more than {MAX_NESTING} deep")
    if isinstance(value, dict):
        if not named:
            yield at, value
        for key, inner in value.items():
            if named or key not in _LITERAL:
                within = not named and key in _MAPS
                yield from _nodes(inner, f"{at}.{key}", depth + 1, within)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nodes(inner, f"{at}[{index}]", depth + 1)


def _check_pointers(at: str, node: dict[str, Any]) -> None:
    """Refuse what leads out of the document, or is found there otherwise than by its path."""
    target = node.get("$ref")
    if isinstance(target, str) and target != "#" and not target.startswith("#/"):
        raise _bad(
            f"{at}.$ref: {target[:80]} points elsewhere; references to other schemas are not "
            "supported: put it under $defs"
        )
    for key in ("$dynamicRef", "$recursiveRef"):
        if key in node:
            raise _bad(f"{at}.{key} is not supported: use $ref")
    if at != "$" and isinstance(node.get("$id"), str):
        raise _bad(f"{at}.$id: only the whole schema may have one")


def _bad(why: str) -> errors.Error:
    return unprocessable(BAD_SCHEMA, f"this is no schema that can be registered: {why}")
