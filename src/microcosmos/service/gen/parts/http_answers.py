"""The part of a Python client by HTTP that reads streams of answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Generic, Self, TypeVar

import httpx
import msgspec

from .http import ConnectionLost, _decode, _error, _Service

Answer = TypeVar("Answer")

# The part.


class Answers(Generic[Answer]):
    """Answers as they come: `async for answer in ...`.

    A block, `async with ... as answers:`, ends the stream when it is left, at once.
    """

    def __init__(self, messages: AsyncIterator[bytes | str], kind: Any) -> None:
        self._messages = messages
        self._kind = kind

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answer:
        answer: Answer = _decode(await anext(self._messages), self._kind)
        return answer

    async def aclose(self) -> None:
        """End the stream; whoever answers is told."""
        close = getattr(self._messages, "aclose", None)
        if close is not None:
            await close()


async def _lines(
    service: _Service,
    endpoint: str,
    path: str,
    request: object,
) -> AsyncIterator[str]:
    """The lines of an answer that is one JSON a line."""
    body = msgspec.json.encode({} if request is None else request)
    headers = {**service._headers, "accept": "application/x-ndjson"}
    quiet = httpx.Timeout(service._timeout, read=None)
    opened = service._http.stream(
        "POST",
        service._url + path,
        content=body,
        headers=headers,
        timeout=quiet,
    )
    try:
        async with opened as answer:
            if not answer.is_success:
                told = await answer.aread()
                raise _error(told, answer.status_code, answer.reason_phrase)
            async with aclosing(_split(answer)) as lines:
                async for line in lines:
                    if line.startswith('{"error":'):
                        raise _error(line)
                    yield line
    except httpx.TransportError as error:
        detail = f"the stream broke: {str(error) or type(error).__name__}"
        raise ConnectionLost(endpoint, detail) from None


async def _split(answer: httpx.Response) -> AsyncGenerator[str, None]:
    """Lines end with a line feed alone: texts may hold other ends of lines."""
    rest = ""
    async for part in answer.aiter_text():
        *lines, rest = (rest + part).split("\n")
        for line in lines:
            if line:
                yield line
    if rest:
        yield rest
