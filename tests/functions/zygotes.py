"""A zygote of peers for tests, and what they ask of the system."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from microcosmos.base.home import Home
from microcosmos.functions.zygote.client import ZygoteClient, open_zygote

PROGRAM = Path(__file__).parent / "programs" / "zygote.py"


@contextlib.contextmanager
def home() -> Iterator[Home]:
    """A home with a short path, as sockets need it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        home.make()
        yield home


@contextlib.asynccontextmanager
async def peers() -> AsyncIterator[tuple[Home, ZygoteClient]]:
    """A zygote whose workers are peers."""
    with home() as place:
        async with open_zygote(place, sys.executable, str(PROGRAM)) as zygote:
            yield place, zygote


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of processes nobody tells us
            await asyncio.sleep(0.005)


async def until_living(zygote: ZygoteClient, count: int) -> None:
    """Wait until so many workers live, and those that died have been reaped."""
    async with asyncio.timeout(60):
        while len(await zygote.living()) != count:  # noqa: ASYNC110 - it is to be asked
            await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def descriptors(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    found = []
    for name in os.listdir(folder):  # noqa: PTH208
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
    return found
