"""Recipients: functions that take what was published."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Callable
from typing import Any

from . import codec, errors, payload


class Recipient:
    """A function that takes a payload, the envelope it came in, or both.

    The parameter whose hint is the envelope's class gets the envelope; the other one gets the
    payload, read as its hint says: ``bytes`` is the body as it came.

    Attributes:
        name: the function's.
        kind: the type of the payload; None when the function does not take one.

    Args:
        function: async, or plain (it then runs in a thread).
        envelope: the class of what a payload comes in.

    Raises:
        TypeError: the signature is none of these, or JSON cannot carry the type.
    """

    def __init__(self, function: Callable[..., Any], envelope: type) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        self._envelope, body, self.kind = _parameters(function, envelope, self.name)
        self._body = body
        self._is_async = inspect.iscoroutinefunction(function)
        self._function = function
        self._decode = None
        if body and self.kind is not bytes:
            try:
                self._decode = payload.decoder(self.kind)
            except TypeError as exc:
                raise TypeError(f"{self.name}: {exc}") from None

    def read(self, body: bytes) -> Any:
        """The payload as the function takes it.

        Raises:
            errors.BadRequest: it is not of that type; the detail names the path.
        """
        if self._decode is None:
            return body
        try:
            return self._decode(body)
        except (*codec.DECODE_ERRORS, ValueError) as exc:
            raise codec.bad_input(self.name, exc) from None

    async def __call__(self, envelope: Any, body: bytes) -> Any:
        """Call the function.

        Raises:
            errors.BadRequest: the body is not of the function's type; it was not called.
            Exception: what the function raises.
        """
        given: dict[str, Any] = {}
        if self._body:
            given[self._body] = self.read(body)
        if self._envelope:
            given[self._envelope] = envelope
        if self._is_async:
            return await self._function(**given)
        return await asyncio.to_thread(self._function, **given)


def _parameters(function: Callable[..., Any], envelope: type, name: str) -> tuple[str, str, Any]:
    """The parameters for the envelope and for the payload, or empty, and the payload's type."""
    try:
        hints = typing.get_type_hints(function)
    except NameError as exc:
        raise TypeError(f"{name}: {exc}; the types of a handler must stand in its module") from None
    parameters = inspect.signature(function).parameters.values()
    of_envelope = [one.name for one in parameters if hints.get(one.name) is envelope]
    others = [one for one in parameters if one.name not in of_envelope]
    odd = [one for one in others if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if len(of_envelope) > 1 or len(others) > 1 or odd:
        raise TypeError(
            f"{name} takes {', '.join(map(str, parameters))}: it can take one payload, "
            f"and one {envelope.__name__}"
        )
    body = others[0].name if others else ""
    kind = hints.get(body, Any) if body else None
    return of_envelope[0] if of_envelope else "", body, kind


def refusal(exc: Exception) -> str:
    """Why a recipient failed, in one line: the detail of an error of ours, else type and text."""
    if isinstance(exc, errors.Error):
        return exc.detail
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
