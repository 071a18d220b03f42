"""Invocations: JSON in, a function called with what its hints say, JSON out."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

from msgspec.structs import astuple

from microcosmos.base import codec, context, payload

from .signature import Function, Signature
from .whole import read_again

_END = object()


class Invocation:
    """Calls a function with JSON, and gives its answer, or the stream of its answers, as JSON.

    Args:
        function: what is called.
        signature: how it wants to be called.
        service: whose errors it makes.
        lenient: texts are accepted where numbers and booleans are due.

    Raises:
        TypeError: a type that JSON cannot carry.
    """

    def __init__(
        self, function: Function, signature: Signature, service: str, *, lenient: bool
    ) -> None:
        try:
            self._decode = payload.decoder(signature.request, lenient=lenient)
            self._decode_item = payload.decoder(signature.item, lenient=lenient)
        except TypeError as exc:
            raise TypeError(f"{function.__name__}: {exc}") from None
        self._service = service
        self._encode = payload.encode
        # No answer at all is an empty object; one that may be None is what it is.
        self._none = b"{}" if signature.returns in (None, type(None), Any) else b"null"
        self._arguments = _arguments(signature)
        self._items = signature.items
        self._generates = signature.answers
        invoke: Callable[..., Any] = function
        if inspect.isgeneratorfunction(function):
            invoke = _in_steps(function)
        elif not (inspect.iscoroutinefunction(function) or signature.answers):
            invoke = _in_thread(function)
        if signature.by_name:
            invoke = _with_names(invoke, signature.by_name)
        self._invoke = invoke

    async def answer(self, body: bytes) -> bytes:
        """Call the function once; see `rpc.server.Function`."""
        try:
            request = self._decode(body or b"{}")
        except (*codec.DECODE_ERRORS, ValueError) as exc:
            request = read_again(self._decode, body, exc, self._service)
        result = await self._invoke(*self._arguments(request))
        return self._none if result is None else self._encode(result)

    async def stream(
        self, body: bytes, messages: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Call the function with a stream, for a stream; see `rpc.server.StreamFunction`."""
        try:
            request = self._decode(body or b"{}")
        except (*codec.DECODE_ERRORS, ValueError) as exc:
            request = read_again(self._decode, body, exc, self._service)
        streams = {self._items: self._read(messages)} if self._items else {}
        called = self._invoke(*self._arguments(request, streams))
        if not self._generates:
            result = await called
            yield self._none if result is None else self._encode(result)
            return
        async with aclosing(called) as answers:
            async for answer in answers:
                yield self._none if answer is None else self._encode(answer)

    async def _read(self, messages: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
        """What the caller streams, as the function wants it."""
        async for message in messages:
            try:
                item = self._decode_item(message)
            except (*codec.DECODE_ERRORS, ValueError) as exc:
                item = read_again(self._decode_item, message, exc, self._service)
            yield item


def _arguments(signature: Signature) -> Callable[..., tuple[Any, ...]]:
    """How a request, and what is streamed beside it, become the function's arguments in order."""
    if not signature.given:
        return (
            (lambda request, _=None: (request,))
            if signature.whole
            else (lambda request, _=None: astuple(request))
        )
    fields = signature.fields

    def arguments(request: Any, streams: dict[str, Any] | None = None) -> tuple[Any, ...]:
        values = (request,) if signature.whole else astuple(request)
        given = dict(zip(fields, values, strict=True))
        given.update(dict.fromkeys(signature.wants_context, context.current()))
        given.update(streams or {})
        return tuple(given[name] for name in signature.names)

    return arguments


def _with_names(
    invoke: Callable[..., Awaitable[Any]], by_name: list[str]
) -> Callable[..., Awaitable[Any]]:
    """Give the last arguments by their names."""

    def named(*arguments: Any) -> Awaitable[Any]:
        at = len(arguments) - len(by_name)
        return invoke(*arguments[:at], **dict(zip(by_name, arguments[at:], strict=True)))

    return named


def _in_thread(function: Function) -> Callable[..., Awaitable[Any]]:
    """Run a function that blocks in a thread, with the context of its call."""

    def run(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except StopIteration as exc:
            # No future can hold one: the call would wait for ever.
            raise RuntimeError("the handler raised StopIteration") from exc

    @functools.wraps(function)
    async def invoke(*arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(run, *arguments, **named)

    return invoke


def _in_steps(function: Callable[..., Iterator[Any]]) -> Callable[..., AsyncGenerator[Any, None]]:
    """Run a generator that blocks in threads, a step at a time."""

    @functools.wraps(function)
    async def generate(*arguments: Any, **named: Any) -> AsyncGenerator[Any, None]:
        steps = function(*arguments, **named)
        while (item := await asyncio.to_thread(next, steps, _END)) is not _END:
            yield item

    return generate
