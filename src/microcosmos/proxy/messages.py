"""Protobuf messages as the plain JSON that services take and give, and back.

The forms are proto3 JSON's (base64 for bytes, names for enums, bare values for
``google.protobuf.Value``), with one difference on purpose: towards a service 64-bit integers are
numbers; from it both numbers and texts are read.
"""

from __future__ import annotations

import base64
import math
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from microcosmos.base import codec, errors

_EXACT = 2.0**53


class Form:
    """What goes one way of a method.

    Args:
        kind: the class of its message.
        wrapped: whether the message has one field for what is no struct in JSON.
    """

    def __init__(self, kind: type[Message], *, wrapped: bool = False) -> None:
        self._kind = kind
        self._wrapped = wrapped

    def to_json(self, data: bytes, service: str) -> bytes:
        """The JSON of a message; fields that are not set are not there.

        Raises:
            errors.BadRequest: the bytes are no such message.
        """
        try:
            message = self._kind.FromString(data)
        except DecodeError:
            name = self._kind.DESCRIPTOR.full_name
            raise errors.BadRequest(service, f"the payload is no message {name}") from None
        value = plain(message)
        return codec.encode(value.get("value") if self._wrapped else value)

    def from_json(self, body: bytes, service: str) -> bytes:
        """The message of a JSON; fields it does not have are left out.

        Raises:
            errors.InternalServerError: the JSON is not of the published shape.
        """
        value: Any = codec.decode(body, id=service)
        message = self._kind()
        try:
            json_format.ParseDict(
                {"value": value} if self._wrapped else value, message, ignore_unknown_fields=True
            )
        except (json_format.ParseError, TypeError, ValueError, AttributeError) as exc:
            detail = f"the answer does not fit its published shape: {exc}"
            raise errors.InternalServerError(service, detail) from None
        return message.SerializeToString()


def plain(message: Message) -> Any:
    """A message as values that JSON has."""
    match message.DESCRIPTOR.full_name:
        case "google.protobuf.Value":
            return _value(message)
        case "google.protobuf.Struct" | "google.protobuf.ListValue":
            ((_, inside),) = message.ListFields() or ((None, None),)
            return _inside(message, inside)
    return {field.json_name: _field(field, value) for field, value in message.ListFields()}


def _inside(message: Any, inside: Any) -> Any:
    if message.DESCRIPTOR.name == "Struct":
        return {key: _value(item) for key, item in (inside or {}).items()}
    return [_value(item) for item in inside or ()]


def _value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    value = getattr(message, kind)
    if kind == "number_value":
        # protobuf knows only doubles here; what is whole becomes an integer again.
        return int(value) if value.is_integer() and abs(value) <= _EXACT else _float(value)
    return plain(value) if isinstance(value, Message) else value


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _field(field: FieldDescriptor, value: Any) -> Any:
    of = field.message_type
    if of is not None and of.has_options and of.GetOptions().map_entry:
        item = of.fields_by_name["value"]
        return {key: _single(item, one) for key, one in value.items()}
    if field.is_repeated:
        return [_single(field, one) for one in value]
    return _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> Any:
    match field.type:
        case field.TYPE_MESSAGE:
            return plain(value)
        case field.TYPE_BYTES:
            return base64.b64encode(value).decode()
        case field.TYPE_DOUBLE | field.TYPE_FLOAT:
            return _float(value)
        case field.TYPE_ENUM:
            known = field.enum_type and field.enum_type.values_by_number.get(value)
            return known.name if known else value
    return value
