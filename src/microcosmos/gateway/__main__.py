"""A gateway process: ``python -m microcosmos.gateway``, started by the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys

import uvloop

from microcosmos.base import collector, errors, log
from microcosmos.base.lifespan import LEAVE, report_ready, stop_asked
from microcosmos.base.tasks import background
from microcosmos.service.live import LivePlatform, join
from microcosmos.service.membership import inherited

from .app import Gateway
from .edge import from_environment
from .entrance import open_entrance
from .front.following import open_front
from .grpcweb import open_grpc_web
from .streams.origins import parse
from .worker import Serving, serve


async def main() -> None:
    """Serve on the inherited socket until SIGTERM, or until the supervisor is gone.

    `LEAVE` says that a successor serves on that socket.
    """
    listening = socket.socket(fileno=int(os.environ["MICRO_GATEWAY_FD"]))
    edge = from_environment()
    lane = os.environ.get("MICRO_LANE", "on") != "off"
    async with (
        stop_asked(interrupts=False) as stop,
        join(inherited(), "gateway", lane=lane) as platform,
        open_grpc_web(f"unix:{platform.membership.home.proxy_socket}") as web,
    ):
        gateway = Gateway(
            platform.client, platform.table, grpc_web=web, origins=parse(edge.allowed_origins)
        )
        async with (
            open_front(gateway, platform.client, platform.table, platform.membership.home) as front,
            open_entrance(edge, front) as app,
            serve(
                app, listening, tls=edge.tls, http2=edge.speaks_http2, websockets=True
            ) as serving,
            background(_ready(gateway, platform), "ready"),
            background(_leave_when_asked(serving, stop), "leaving"),
        ):
            await stop.wait()
            await gateway.end_streams()


async def _ready(gateway: Gateway, platform: LivePlatform) -> None:
    """Say ready once the registry has been read."""
    await platform.followed.wait()
    gateway.ready = True
    report_ready()


async def _leave_when_asked(serving: Serving, stop: asyncio.Event) -> None:
    """Let a successor have the clients, then stop."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(LEAVE, asked.set)
    await asked.wait()
    await serving.leave()
    stop.set()


def _allow_many_files() -> None:
    """A WebSocket takes two, and the usual limit is 1,024 unless somebody asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where the kernel has a limit of its own below it, as on macOS, what there is has to do.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    log.setup()
    _allow_many_files()
    collector.calm()
    try:
        uvloop.run(main())
    except errors.Error as error:
        sys.exit(f"gateway: {error.detail}")
