"""What services leave behind in the store, removed though the services are gone."""

from __future__ import annotations

import logging

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.store import Store
from microcosmos.store.blobs import Blobs
from microcosmos.store.index import drop_orphans

logger = logging.getLogger("microcosmos.core")

EVERY = 3600.0
"""Seconds between two rounds through the tables of all namespaces."""

_BLOBS = "$blobs"


async def keep_tidy(store: Store, clock: Clock = SYSTEM) -> None:
    """Tidy now and then, for ever."""
    while True:
        await clock.sleep(EVERY)
        try:
            await tidy(store, clock)
        except errors.Error as error:
            logger.warning("what services have left in the store stays for now: %s", error.detail)


async def tidy(store: Store, clock: Clock = SYSTEM) -> None:
    """Remove indexes that no program uses, replaced blobs and abandoned uploads.

    A service that runs does this for its own tables, and more often.
    """
    for name in await store.databases():
        if name.startswith("$"):
            continue
        database = store.table(database=name)
        await drop_orphans(database, clock=clock)
        tables = {
            table.partition(_BLOBS)[0] for table in await database.tables() if _BLOBS in table
        }
        for table in sorted(tables):
            await Blobs(database.table(table), clock=clock).sweep()
