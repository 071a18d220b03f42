"""The policies of a server's gateway, kept as the file of the settings and the core's list are."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from microcosmos.base.home import Home
from microcosmos.base.tasks import background
from microcosmos.registry import Table
from microcosmos.rpc import Client

from . import blocklist
from .file import File, chosen
from .front import App, Front


@contextlib.asynccontextmanager
async def open_front(app: App, client: Client, table: Table, home: Home) -> AsyncIterator[Front]:
    """Let the policies hold, and every change of them, until the block ends.

    Args:
        app: the gateway.
        client: carries the calls to the core.
        table: who is alive.
        home: the platform's folder.

    Raises:
        errors.BadRequest: the settings are damaged, and never were good.
    """
    file = File(home, chosen())
    front = Front(app, table, home.server / "limits")
    try:
        front.apply(file.begin())
        async with (
            background(file.follow(front.apply), "settings"),
            background(blocklist.follow(client, front.block), "block list"),
        ):
            yield front
    finally:
        front.close()
