"""Say hello: the smallest whole service."""

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec

from microcosmos import Service


class Greeting(msgspec.Struct):
    msg: str


class Count(msgspec.Struct):
    count: int


helloworld = Service("helloworld")


@helloworld.endpoint
async def call(name: str = "World") -> Greeting:
    """Say hello."""
    return Greeting(msg=f"Hello {name}")


@helloworld.endpoint
async def stream(count: Annotated[int, msgspec.Meta(ge=0, le=1000)]) -> AsyncIterator[Count]:
    """Count up from 0."""
    for number in range(count):
        yield Count(count=number)


if __name__ == "__main__":
    helloworld.run()
