"""The part of a Python client by rpc that streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from typing import Any, Generic, Self, TypeVar

from microcosmos import errors
from microcosmos.service.remote import RemoteStream

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# The part.


class Answers(Generic[Answer]):
    """Answers as they come: `async for answer in ...`.

    A block, `async with ... as answers:`, ends the stream when it is left, at once.
    """

    def __init__(self, stream: RemoteStream) -> None:
        self._stream = stream
        self._answers: AsyncIterator[Any] | None = None
        self._block = False

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        self._block = True
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answer:
        if self._answers is None:
            self._answers = aiter(self._stream)
        answer: Answer = await anext(self._answers)
        return answer

    async def aclose(self) -> None:
        """End the stream; whoever answers is told."""
        if self._block:
            self._block = False
            await self._stream.__aexit__(None, None, None)
        if isinstance(self._answers, AsyncGenerator):
            await self._answers.aclose()


class Dialogue(Answers[Answer], Generic[Item, Answer]):
    """Answers as they come, to items as they are sent."""

    async def send(self, item: Item) -> None:
        """Send an item; waits while the service is behind."""
        await self._stream.send(item)

    async def end(self) -> None:
        """No more items come; the answers still do."""
        await self._stream.end()

    async def _only(self, items: Iterable[Item] | AsyncIterable[Item]) -> Answer:
        """Send all items, and give the one answer."""
        async with self:
            if isinstance(items, AsyncIterable):
                async for item in items:
                    await self.send(item)
            else:
                for item in items:
                    await self.send(item)
            await self.end()
            async for answer in self:
                return answer
        raise errors.BadGateway("client", "the stream ended without an answer")
