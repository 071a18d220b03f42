"""Errors as gRPC statuses, with an ``errors.Error`` in their details, and back."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError

from microcosmos.base import errors

from . import notation, wire
from .files import message_class

DETAILS = "grpc-status-details-bin"
"""The trailer in which gRPC carries a ``google.rpc.Status``."""

TYPE_URL = "type.googleapis.com/errors.Error"

# Both sides of gRPC refuse trailers beyond 8 KiB by default; the text travels three times.
_LONGEST = 800

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Statuses without our details come from gRPC itself, or from another server.
_HTTP = {
    **{status: code for code, status in reversed(_CODES.items())},
    grpc.StatusCode.RESOURCE_EXHAUSTED: 413,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.ABORTED: 409,
}


# Their fields are known to a pool, not to a type checker.
ErrorMessage: Any = message_class(notation.read("errors", wire.ERRORS), "errors.Error")
StatusMessage: Any = message_class(notation.read("google.rpc", wire.STATUS), "google.rpc.Status")


def to_grpc(error: errors.Error) -> tuple[grpc.StatusCode, str, bytes]:
    """The status code, the message and the packed details of an error."""
    code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    text = _cut(error.detail or error.status)
    packed = ErrorMessage(
        id=_cut(error.id), code=error.code, detail=_cut(error.detail), status=error.status
    )
    status = StatusMessage(code=code.value[0], message=text)
    status.details.add(type_url=TYPE_URL, value=packed.SerializeToString())
    return code, text, status.SerializeToString()


def _cut(text: str) -> str:
    data = text.encode("utf-8", "replace")
    return text if len(data) <= _LONGEST else data[:_LONGEST].decode("utf-8", "ignore") + "…"


def from_grpc(code: grpc.StatusCode, text: str, details: bytes | None, id: str) -> errors.Error:
    """The error of a status.

    Args:
        code: the status code.
        text: its message.
        details: the trailer `DETAILS`, if there is one.
        id: where the error arose, if the details do not say.
    """
    if details and (packed := _unpack(details)):
        return errors.of_code(packed.code, packed.id, packed.detail, packed.status)
    line = text.partition("\n")[0]
    return errors.of_code(_HTTP.get(code, 500), id, line or code.name.replace("_", " ").lower())


def _unpack(details: bytes) -> Any:
    try:
        for entry in StatusMessage.FromString(details).details:
            if entry.type_url.rpartition("/")[2] == "errors.Error":
                return ErrorMessage.FromString(entry.value)
    except DecodeError:
        return None
    return None
