"""What a function gave, as the payload of an answer, or the error that it comes to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic_monty import Frame, MontyError, MontyRuntimeError, MontySyntaxError

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.ended import LIMIT, ended
from microcosmos.functions.interface import Limits

FRAMES = 20
"""Frames of a trace that are shown; of a deeper one those in the middle are left out."""

_PAGE = re.compile(r"\s*<(!doctype html|html)", re.IGNORECASE)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\r\n\0]*")
_BODILESS = (204, 205, 304)


class Given(msgspec.Struct, frozen=True, array_like=True):
    """What the prelude's ``_answer`` makes of a value."""

    kind: str
    status: int
    headers: Sequence[tuple[str, str]] | None
    body: Any


def payload(value: Any, limits: Limits) -> tuple[bytes, int]:
    """The payload of a REPLY, and the bytes of its body.

    Args:
        value: what the prelude gave.
        limits: of the function.

    Raises:
        errors.InternalServerError: it is no answer.
        errors.Unavailable: it is too large.
    """
    try:
        given = msgspec.convert(value, Given)
    except msgspec.ValidationError:
        raise refused("a Response has a status that is a number, and headers") from None
    if given.kind == "refused":
        raise refused(given.body)
    body: bytes = given.body
    if isinstance(given.body, str):
        body = given.body.encode("utf-8", "replace")
    if len(body) > limits.response:
        raise ended("output", limits, len(body))
    if not 200 <= given.status <= 599:
        raise refused(f"{given.status} is no status of an answer")
    if body and given.status in _BODILESS:
        raise refused(f"an answer with status {given.status} has no body")
    headers = [(name, value.strip(" \t")) for name, value in given.headers or ()]
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise refused(f"{name!r} with {value!r} is no header")
    head = msgspec.json.encode(headers) if headers else b""
    return wire.pack_reply(given.status, _kind(given, headers), head, body), len(body)


def _kind(given: Given, headers: list[tuple[str, str]]) -> int:
    if any(name.lower() == "content-type" for name, _ in headers):
        return wire.GIVEN
    match given.kind:
        case "json":
            return wire.JSON
        case "bytes":
            return wire.BYTES
        case "text":
            return wire.HTML if _PAGE.match(str(given.body)) else wire.TEXT
    return wire.GIVEN


def refused(why: object) -> errors.Error:
    """The error for what is no answer."""
    return errors.InternalServerError(
        "functions.answer",
        f"the function's answer is no text, bytes, JSON value or Response: {why}",
    )


def failed(error: MontyError, limits: Limits) -> errors.Error:
    """What a caller may know of an error that a function let pass."""
    inner = error.exception()
    text = str(inner)
    if isinstance(inner, MemoryError):
        return ended("memory", limits)
    if isinstance(inner, RecursionError):
        return ended("stack", limits)
    if isinstance(inner, TimeoutError) and "time limit exceeded" in text:
        return ended("cpu", limits)
    if isinstance(inner, RuntimeError) and text.startswith(LIMIT):
        id, _, detail = text.partition(": ")
        return errors.Unavailable(id, detail)
    return errors.InternalServerError(
        "functions.exception", "the function has failed; its log says why"
    )


def trace(error: MontyError, source: str, name: str) -> str:
    """An error as Python shows it, with the frames of the function's own file.

    Args:
        error: of a function.
        source: what Monty calls the file.
        name: what people call it.
    """
    if not isinstance(error, MontyRuntimeError):
        return str(error)
    own = [frame for frame in error.traceback() if frame.filename == source]
    shown = [_frame(frame, name) for frame in own]
    if len(shown) > FRAMES:
        half = FRAMES // 2
        left_out = f"  … {len(shown) - FRAMES} frames more"
        shown = [*shown[:half], left_out, *shown[-half:]]
    start = ["Traceback (most recent call last):"] if shown else []
    return "\n".join([*start, *shown, error.display("type-msg")])


def place(error: MontyError, source: str, name: str) -> str:
    """An error in one line, with the place of the file that it came from."""
    found = error.traceback() if isinstance(error, MontyRuntimeError | MontySyntaxError) else []
    own = [frame for frame in found if frame.filename in (source, name)]
    where = f"{name}:{own[-1].line}:{own[-1].column}: " if own else f"{name}: "
    inner = error.exception()
    return f"{where}{type(inner).__name__}: {inner}".replace("\n", " ")


def _frame(frame: Frame, name: str) -> str:
    where = f'  File "{name}", line {frame.line}, in {frame.function_name or "<module>"}'
    return f"{where}\n    {frame.source_line.strip()}" if frame.source_line else where
