"""Gives back what it is told, for as long as it is told something."""

from collections.abc import AsyncIterator

from microcosmos import Service

echo = Service("echo", concurrency=10_000)


@echo.endpoint
async def call(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for item in items:
        yield item


if __name__ == "__main__":
    echo.run()
