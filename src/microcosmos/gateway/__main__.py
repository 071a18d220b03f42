"""A gateway process: ``python -m microcosmos.gateway``, started by the supervisor."""

from __future__ import annotations

import os
import socket
import sys

import uvloop

from microcosmos.base import collector, errors, log
from microcosmos.base.lifespan import report_ready, stop_asked
from microcosmos.base.tasks import background
from microcosmos.service.live import LivePlatform, join
from microcosmos.service.membership import inherited

from .app import Gateway
from .worker import serve


async def main() -> None:
    """Serve on the inherited socket until SIGTERM, or until the supervisor is gone."""
    listening = socket.socket(fileno=int(os.environ["MICRO_GATEWAY_FD"]))
    lane = os.environ.get("MICRO_LANE", "on") != "off"
    async with (
        stop_asked(interrupts=False) as stop,
        join(inherited(), "gateway", lane=lane) as platform,
    ):
        gateway = Gateway(platform.client, platform.table)
        async with serve(gateway, listening), background(_ready(gateway, platform), "ready"):
            await stop.wait()


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
