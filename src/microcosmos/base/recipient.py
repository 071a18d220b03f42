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
    payload, read as its hint says: ``bytes`` is the body as it came. A parameter whose hint is
    the companion's class gets what goes along with each call.

    Attributes:
        name: the function's.
        kind: the type of the payload; None when the function does not take one.
        companion: the name of the parameter for what goes along, or empty.

    Args:
        function: async, or plain (it then runs in a thread).
        envelope: the class of what a payload comes in.
        companion: the class of what goes along; None for nothing.

    Raises:
        TypeError: the signature is none of these, or JSON cannot carry the type.
    """

    def __init__(
        self, function: Callable[..., Any], envelope: type, companion: type | None = None
    ) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        found = _parameters(function, envelope, companion, self.name)
        self._envelope, self.companion, body, self.kind = found
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

    def given(self, envelope: Any, body: bytes) -> dict[str, Any]:
        """What the function is called with.

        Raises:
            errors.BadRequest: the body is not of the function's type.
        """
        given: dict[str, Any] = {}
        if self._body:
            given[self._body] = self.read(body)
        if self._envelope:
            given[self._envelope] = envelope
        return given

    async def call(self, given: dict[str, Any], companion: Any = None) -> Any:
        """Call the function with what `given` gave, and what goes along."""
        if self.companion:
            given[self.companion] = companion
        if self._is_async:
            return await self._function(**given)
        return await asyncio.to_thread(self._run, given)

    def _run(self, given: dict[str, Any]) -> Any:
        try:
            return self._function(**given)
        except StopIteration as exc:
            # No future can hold one: it would be waited for without end.
            raise RuntimeError(f"{self.name} raised StopIteration") from exc

    async def __call__(self, envelope: Any, body: bytes) -> Any:
        """Call the function.

        Raises:
            errors.BadRequest: the body is not of the function's type; it was not called.
            Exception: what the function raises.
        """
        return await self.call(self.given(envelope, body))


def _parameters(
    function: Callable[..., Any], envelope: type, companion: type | None, name: str
) -> tuple[str, str, str, Any]:
    """The parameters for envelope, companion and payload, or empty, and the payload's type."""
    try:
        hints = typing.get_type_hints(function)
    except NameError as exc:
        raise TypeError(f"{name}: {exc}; the types of a handler must stand in its module") from None
    parameters = inspect.signature(function).parameters.values()
    of_envelope = [one.name for one in parameters if hints.get(one.name) is envelope]
    along = [one.name for one in parameters if companion and hints.get(one.name) is companion]
    others = [one for one in parameters if one.name not in (*of_envelope, *along)]
    odd = [one for one in others if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if len(of_envelope) > 1 or len(along) > 1 or len(others) > 1 or odd:
        raise TypeError(
            f"{name} takes {', '.join(map(str, parameters))}: it can take one payload, "
            f"and one {envelope.__name__}" + (f", one {companion.__name__}" if companion else "")
        )
    body = others[0].name if others else ""
    kind = hints.get(body, Any) if body else None
    return "".join(of_envelope), "".join(along), body, kind


def refusal(exc: Exception) -> str:
    """Why a recipient failed, in one line: the detail of an error of ours, else type and text."""
    if isinstance(exc, errors.Error):
        return exc.detail
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
