"""Serving: all that the egress needs once there is something to do."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Sequence

import uvloop

from microcosmos.base import collector, errors
from microcosmos.base.home import Home
from microcosmos.base.lifespan import stop_asked
from microcosmos.functions.walls import enter

from .decisions import Decisions
from .door import Door
from .fetch import Fetcher, usual_tls
from .values import open_values

log = logging.getLogger("microcosmos.egress")


def serve(home: Home, listener: socket.socket, key: str, own: Sequence[str]) -> None:
    """Do sub-requests until SIGTERM, or until the supervisor is gone.

    Args:
        home: where the core's socket and the logs are.
        listener: where the host comes to.
        key: makes the core tell values of secrets.
        own: the platform's doors.
    """
    _allow_many_files()
    form = os.environ.get("MICRO_LOG_FORMAT", "plain")
    decisions = Decisions(home.logs / "egress.log", json=form == "json")
    usual_tls()
    _load()
    collector.calm()
    try:
        enter("egress")
    except errors.Unavailable as error:
        # Nor does the zygote make workers then: there is nothing to be done, and no end to it.
        log.error(error.detail)
        uvloop.run(_rest())
        return
    try:
        uvloop.run(_serve(home, listener, key, own, decisions))
    finally:
        decisions.close()


async def _rest() -> None:
    async with stop_asked(interrupts=False) as stop:
        await stop.wait()


async def _serve(
    home: Home,
    listener: socket.socket,
    key: str,
    own: Sequence[str],
    decisions: Decisions,
) -> None:
    async with (
        stop_asked(interrupts=False) as stop,
        open_values(home, key) as values,
        Fetcher(own=own) as fetcher,
        Door(fetcher, values, decisions).serve(listener),
    ):
        await stop.wait()


@contextlib.asynccontextmanager
async def open_egress(
    home: Home, fetcher: Fetcher | None = None, key: str = ""
) -> AsyncIterator[Fetcher]:
    """Do sub-requests for the host of a home in this process, until the block ends.

    Args:
        home: where the sockets and logs are.
        fetcher: does them; one with nothing of its own unless said.
        key: makes the core tell values of secrets.
    """
    decisions = Decisions(home.logs / "egress.log")
    home.egress_lane.unlink(missing_ok=True)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(home.egress_lane))
        try:
            async with (
                open_values(home, key) as values,
                fetcher or Fetcher() as fetching,
                Door(fetching, values, decisions).serve(listener),
            ):
                yield fetching
        finally:
            decisions.close()


def _load() -> None:
    """Import what is else imported when it is first used: it could not be read by then."""
    for name in ("anyio._backends._asyncio", "encodings.idna", "httpcore._async.http2"):
        importlib.import_module(name)


def _allow_many_files() -> None:
    """A sub-request takes one, and the usual limit is 1,024 unless somebody asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
