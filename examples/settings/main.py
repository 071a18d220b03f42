"""Settings: prints its values every second, and follows them without being asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from microcosmos import Service


class Key(msgspec.Struct):
    """What stands under `key`."""

    subkey: str = ""
    subkey1: int = 0


class Seen(msgspec.Struct):
    """What this service knows of its settings."""

    subkey: str
    subkey1: int
    changes: int


changes = 0


@contextlib.asynccontextmanager
async def following(service: Service) -> AsyncIterator[None]:
    """Print the settings every second, and count their changes."""
    printing = asyncio.create_task(every_second())
    end = service.config.watch("key", count)
    yield
    end()
    printing.cancel()


settings = Service("key", lifespan=following)


def count(_: object) -> None:
    """One more change."""
    global changes
    changes += 1


async def every_second() -> None:
    """The loop of Micro's example."""
    while True:
        await asyncio.sleep(1)
        print("Value of key.subkey: ", settings.config.get("key.subkey").str())
        print("Value of key.subkey1: ", settings.config.get("key.subkey1", secret=True).int())


@settings.endpoint
async def read() -> Seen:
    """The settings as they are now."""
    subkey = settings.config.get("key.subkey").str("nothing yet")
    subkey1 = settings.config.get("key.subkey1", secret=True).int(-1)
    return Seen(subkey, subkey1, changes)


@settings.endpoint
async def write(subkey: str, subkey1: int = 0) -> Key:
    """Write a struct and read it back: they are equal."""
    await settings.config.set("key", Key(subkey, subkey1))
    return settings.config.get("key", secret=True).struct(Key)


if __name__ == "__main__":
    settings.run()
