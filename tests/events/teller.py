"""A program that moves money and is killed at a place: ``teller.py DATABASE PLACE``.

It says ``here`` at that place and waits to be killed. With the place ``-`` it comes to its end, and
says what there is then.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from microcosmos.base import codec, errors
from microcosmos.events.interface import Draft, Receipt
from microcosmos.events.memory import MemoryLog
from microcosmos.events.transactions.outbox import Outbox
from microcosmos.store import open_store
from tests.events.money import Faults, Transfer, balances, opened, transfers
from tests.events.mortal import until

LEASE = 0.3


class Places(Faults):
    """Says ``here`` at a place, and stays."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place
        self.times["credit before"] = 10_000 * place.startswith("undo")

    async def at(self, place: str) -> None:
        if place == self.place:
            say("here")
            await asyncio.sleep(60)
        await super().at(place)


class Away(MemoryLog):
    """A log whose engine is away."""

    async def publish(self, *drafts: Draft) -> list[Receipt]:
        raise errors.Unavailable("events", "the engine is away")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


async def main(url: str, place: str) -> None:
    log = Away() if place == "commit" else MemoryLog()
    saga = transfers(Places(place))
    async with (
        open_store(url) as store,
        Outbox(store, log, lease=LEASE) as box,
        saga.on(store, box, lease=LEASE),
    ):
        if not await store.has("ann"):
            await opened(store)
            async with box.transaction() as tx:
                await tx.publish("opened", "ann")
            if place == "commit":
                say("here")
                await asyncio.sleep(60)
        try:
            if place != "-":
                await saga.start("t1", Transfer())
            status: str = (await saga.result("t1")).status
        except errors.NotFound:
            status = "never"

        async def empty() -> bool:
            return not (await box.backlog()).waiting

        await until(empty)
        events = len(await log.read("opened"))
        said = {"status": status, "balances": await balances(store), "events": events}
        say(codec.encode(said).decode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
