"""Protobuf messages as the plain JSON that services take and give, and back.

The forms are proto3 JSON's (base64 for bytes, names for enums, bare values for
``google.protobuf.Value``), with one difference on purpose: towards a service 64-bit integers are
numbers; from it both numbers and texts are read.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from microcosmos.base import codec, errors

_EXACT = 2.0**53


class Form:
    """What goes one way of a method.

    Args:
        kind: the class of its message.
        wrapped: whether the message has one field for what is no struct in JSON.
        required: by message, the lists and maps that services want to see though they are empty,
            which protobuf does not tell from those that are not set.
    """

    def __init__(
        self,
        kind: type[Message],
        *,
        wrapped: bool = False,
        required: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        self._kind = kind
        self._wrapped = wrapped
        self._required = required

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
        return self._plain(message)

    def _plain(self, message: Message) -> bytes:
        value = plain(message, self._required)
        if self._wrapped:
            value = value.get("value", _nothing(message.DESCRIPTOR.fields_by_name["value"]))
        return codec.encode(value)

    def from_json(self, body: bytes, service: str) -> bytes:
        """The message of a JSON; fields it does not have are left out.

        Raises:
            errors.InternalServerError: the JSON is not of the published shape.
        """
        return self._message(body, service).SerializeToString()

    def _message(self, body: bytes, service: str) -> Message:
        value: Any = codec.decode(body, id=service)
        message = self._kind()
        try:
            _fill(message, {"value": value} if self._wrapped else value)
        except _MISFITS as exc:
            detail = f"the answer does not fit its published shape: {exc}"
            raise errors.InternalServerError(service, detail) from None
        return message

    def from_proto3(self, text: bytes, service: str) -> bytes:
        """The JSON that services take, of a message in proto3's JSON.

        There 64-bit integers are texts, and what is no struct stands in a field ``value``.

        Raises:
            errors.BadRequest: it is no such message; the detail names the field.
        """
        message = self._kind()
        try:
            _fill(message, codec.decode(text or b"{}", id=service), unknown=False)
        except _MISFITS as exc:
            raise errors.BadRequest(service, str(exc)) from None
        return self._plain(message)

    def to_proto3(self, body: bytes, service: str) -> bytes:
        """The proto3 JSON of a message, of the JSON that services give.

        Raises:
            errors.InternalServerError: the JSON is not of the published shape.
        """
        return codec.encode(json_format.MessageToDict(self._message(body, service)))


_MISFITS = (json_format.ParseError, TypeError, ValueError, AttributeError, RecursionError)


def _fill(message: Message, value: Any, *, unknown: bool = True) -> None:
    json_format.ParseDict(value, message, ignore_unknown_fields=unknown)


def _nothing(field: Any) -> Any:
    """What stands in JSON for a field that is not set: protobuf knows no empty lists and maps."""
    if _entry(field):
        return {}
    return [] if field.is_repeated else None


def _entry(field: FieldDescriptor) -> Descriptor | None:
    """What the entries of a map are; None of what is no map."""
    of = field.message_type
    return of if of is not None and of.has_options and of.GetOptions().map_entry else None


def plain(message: Message, required: Mapping[str, Collection[str]]) -> Any:
    """A message as values that JSON has."""
    match message.DESCRIPTOR.full_name:
        case "google.protobuf.Value":
            return _value(message)
        case "google.protobuf.Struct" | "google.protobuf.ListValue":
            ((_, inside),) = message.ListFields() or ((None, None),)
            return _inside(message, inside)
    found = {f.json_name: _field(f, value, required) for f, value in message.ListFields()}
    if missing := required.get(message.DESCRIPTOR.full_name):
        _complete(found, message, missing)
    return found


def _complete(found: dict[str, Any], message: Message, missing: Collection[str]) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.json_name in missing and field.json_name not in found:
            found[field.json_name] = _nothing(field)


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
    return plain(value, {}) if isinstance(value, Message) else value


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _short(value: float) -> float | str:
    """A 32-bit number with no more digits than tell it from others, as people wrote it."""
    if not math.isfinite(value):
        return _float(value)
    shown = (float(f"{value:.{digits}g}") for digits in (6, 7, 8))
    return next((one for one in shown if _single_precision(one) == value), value)


def _single_precision(value: float) -> float:
    try:
        found: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.inf
    return found


def _field(field: FieldDescriptor, value: Any, required: Mapping[str, Collection[str]]) -> Any:
    if of := _entry(field):
        item = of.fields_by_name["value"]
        return {key: _single(item, one, required) for key, one in value.items()}
    if field.is_repeated:
        return [_single(field, one, required) for one in value]
    return _single(field, value, required)


def _single(field: FieldDescriptor, value: Any, required: Mapping[str, Collection[str]]) -> Any:
    match field.type:
        case field.TYPE_MESSAGE:
            return plain(value, required)
        case field.TYPE_BYTES:
            return base64.b64encode(value).decode()
        case field.TYPE_DOUBLE:
            return _float(value)
        case field.TYPE_FLOAT:
            return _short(value)
        case field.TYPE_ENUM:
            known = field.enum_type and field.enum_type.values_by_number.get(value)
            return known.name if known else value
    return value
