"""A service that streams in every direction, and tells what became of its streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from microcosmos import Context, Service, errors


class Streaming:
    """Endpoints that stream.

    Attributes:
        entered: streams that have begun.
        ended: how each stream that never ends by itself has ended.
        heard: what clients have streamed.
        sent: messages of `endless`.
        let: lets `waits` go on.
    """

    def __init__(self) -> None:
        self.entered = 0
        self.ended: list[str] = []
        self.heard: list[object] = []
        self.sent = 0
        self.let = asyncio.Event()
        self.service = Service("demo")
        methods = (self.count, self.fails, self.waits, self.endless, self.once)
        for method in (*methods, self.total, self.scale, self.told, self.unread):
            self.service.endpoint(method)

    async def count(self, to: int) -> AsyncIterator[dict[str, int]]:
        """Count up."""
        for at in range(1, to + 1):
            yield {"at": at}

    async def fails(self, after: int = 0) -> AsyncIterator[int]:
        for at in range(after):
            yield at
        raise errors.Conflict("demo.Fails", "enough")

    async def waits(self, first: str = "") -> AsyncIterator[str]:
        """Say the first thing, if there is one; then wait."""
        self.entered += 1
        try:
            if first:
                yield first
            await self.let.wait()
            yield "last"
            self.ended.append("end")
        except BaseException as exc:
            self.ended.append(type(exc).__name__)
            raise

    async def endless(self, size: int = 1000) -> AsyncIterator[str]:
        message = "x" * size
        try:
            while True:
                yield message
                self.sent += 1
        finally:
            self.ended.append("endless")

    async def once(self, name: str = "World") -> str:
        return f"Hello {name}"

    async def total(self, numbers: AsyncIterator[int], start: int = 0) -> int:
        async for number in numbers:
            self.heard.append(number)
            start += number
        return start

    async def scale(self, numbers: AsyncIterator[int], by: int = 1) -> AsyncIterator[int]:
        try:
            async for number in numbers:
                self.heard.append(number)
                yield by * number
            self.ended.append("end")
        except BaseException as exc:
            self.ended.append(type(exc).__name__)
            raise

    async def told(self, context: Context) -> AsyncIterator[dict[str, object]]:
        yield {"metadata": dict(context.metadata), "left": context.remaining()}

    async def unread(self, items: AsyncIterator[str]) -> AsyncIterator[str]:
        """Take nothing until it is let."""
        self.entered += 1
        yield "here"
        try:
            await self.let.wait()
            async for item in items:
                self.heard.append(len(item))
        finally:
            self.ended.append("unread")
