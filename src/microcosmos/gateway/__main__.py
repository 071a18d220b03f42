"""A gateway process: ``python -m microcosmos.gateway``, started by the supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import uvloop

from microcosmos.base import collector, errors, log
from microcosmos.base.lifespan import lifeline_closed, report_ready
from microcosmos.base.tasks import background
from microcosmos.service.live import LivePlatform, join
from microcosmos.service.membership import inherited

from .app import Gateway
from .worker import serve


async def main() -> None:
    """Serve on the inherited socket until SIGTERM, or until the supervisor is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Ctrl-C reaches the whole group; the supervisor decides what it means.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    listening = socket.socket(fileno=int(os.environ["MICRO_GATEWAY_FD"]))
    lane = os.environ.get("MICRO_LANE", "on") != "off"
    async with (
        background(_orphaned(stop), "lifeline"),
        join(inherited(), "gateway", lane=lane) as platform,
    ):
        gateway = Gateway(platform.client, platform.table)
        async with serve(gateway, listening), background(_ready(gateway, platform), "ready"):
            await stop.wait()


async def _orphaned(stop: asyncio.Event) -> None:
    await lifeline_closed()
    stop.set()


async def _ready(gateway: Gateway, platform: LivePlatform) -> None:
    """Say ready once the registry has been read."""
    await platform.followed.wait()
    gateway.ready = True
    report_ready()


if __name__ == "__main__":
    log.setup()
    collector.calm()
    try:
        uvloop.run(main())
    except errors.Error as error:
        sys.exit(f"gateway: {error.detail}")
