"""The errors that a call may end in, and the form that all of them have."""

from __future__ import annotations

from typing import Any

from microcosmos.base import errors

Schema = dict[str, Any]

_ABOUT: dict[type[errors.Error], tuple[str, str]] = {
    errors.BadRequest: (
        "The request is malformed or of the wrong shape.",
        "expected `str`, got `int` - at `$.name`",
    ),
    errors.Unauthorized: ("There is no token, or a bad one.", "the token is not valid"),
    errors.Forbidden: ("The caller is known, but may not do this.", "not allowed"),
    errors.NotFound: (
        "The service, the endpoint, or what was asked for is not there.",
        "not found",
    ),
    errors.RequestTimeout: (
        "The body took too long to arrive.",
        "the body did not arrive within 30 s",
    ),
    errors.TooLarge: ("The body is too large.", "the body is over the limit"),
    errors.TooManyRequests: (
        "The service handles as many calls as it may.",
        "too many calls at once",
    ),
    errors.InternalServerError: (
        "The handler failed.",
        "the handler failed; its log has the cause",
    ),
    errors.Unavailable: ("No replica of the service is alive.", "no replica is alive"),
    errors.DeadlineExceeded: ("There was no answer in time.", "no answer within 10 s"),
}
_OF_BODIES = (errors.RequestTimeout, errors.TooLarge)
_RETRY_LATER = (errors.TooManyRequests, errors.Unavailable)

SCHEMA: Schema = {
    "title": "Error",
    "description": "What every call that fails answers with.",
    "type": "object",
    "properties": {
        "Id": {"type": "string", "description": "Where it arose: a service, or a stable name."},
        "Code": {
            "type": "integer",
            "description": "The HTTP status.",
            "minimum": 400,
            "maximum": 599,
        },
        "Detail": {
            "type": "string",
            "description": "The cause, and the way out where there is one.",
        },
        "Status": {"type": "string", "description": "The code in words."},
    },
    "required": ["Id", "Code", "Detail", "Status"],
}

HEADERS: Schema = {
    "Micro-Trace": {
        "description": "The id of this request in the logs: `micro logs --trace ID`.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which it is worth trying again.",
        "schema": {"type": "string"},
    },
}


def responses() -> Schema:
    """The answers of errors by the names that `codes` refers to."""
    named = {kind.__name__: _response(kind, *about) for kind, about in _ABOUT.items()}
    any_other = {**named["InternalServerError"], "description": "Any other error."}
    return {**named, "Error": any_other}


def _response(kind: type[errors.Error], about: str, detail: str) -> Schema:
    names = ["Micro-Trace", *(["Retry-After"] if kind in _RETRY_LATER else [])]
    shown = {"Id": "helloworld", "Code": kind.code, "Detail": detail, "Status": kind.status}
    return {
        "description": about,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Error"},
                "example": shown,
            }
        },
    }


def codes(*, body: bool) -> Schema:
    """The answers of errors by code, for an operation with or without a body."""
    kinds = [kind for kind in _ABOUT if body or kind not in _OF_BODIES]
    return {**{str(kind.code): _ref(kind.__name__) for kind in kinds}, **OTHERWISE}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/responses/{name}"}


OTHERWISE: Schema = {"default": _ref("Error")}
"""The answers of all errors that are not told one by one."""
