"""The host of functions: ``python -m microcosmos.functions.host``, started by the supervisor.

It may die and come back at any moment: what is warm goes on answering, and the next one finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys

import uvloop

from microcosmos.auth.access import Access
from microcosmos.auth.client import follow_policy
from microcosmos.base import collector, errors, log
from microcosmos.base.lifespan import report_ready, stop_asked
from microcosmos.base.tasks import background
from microcosmos.service.badge import Badge
from microcosmos.service.live import LivePlatform, join
from microcosmos.service.membership import elsewhere, inherited

from .host import Host

PATIENCE = 5.0
"""Seconds that the host waits for the core before it answers without knowing any function."""

_NAME = "functions"


async def main() -> None:
    """Host functions until SIGTERM, or until the supervisor is gone."""
    here = inherited()
    badge = Badge(here.home.server / "keys", _NAME)
    lane = os.environ.get("MICRO_LANE", "on") != "off"

    def joined(namespace: str) -> contextlib.AbstractAsyncContextManager[LivePlatform]:
        there = elsewhere(here, _NAME, namespace)
        return join(there, _NAME, lane=lane, identity=badge.header)

    async with (
        stop_asked(interrupts=False) as stop,
        join(here, _NAME, lane=lane, identity=badge.header) as platform,
    ):
        access = Access()
        following = follow_policy(platform.client, access, "", badge.header)
        async with (
            background(following, "policy"),
            Host(here.home, platform, joined, access) as host,
            background(_ready(host, access), "ready"),
        ):
            await stop.wait()


async def _ready(host: Host, access: Access) -> None:
    """Say ready once it is known which functions there are, and who may call."""
    governed = asyncio.Event()
    access.on_change(lambda _: governed.set())
    with contextlib.suppress(TimeoutError, errors.Unavailable):
        async with asyncio.timeout(PATIENCE):
            if access.policy is None:
                await governed.wait()
            await host.known.ready.wait()
    report_ready()


def _allow_many_files() -> None:
    """A sub-request takes one, and the usual limit is 1,024 unless somebody asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    log.setup()
    _allow_many_files()
    collector.calm()
    try:
        uvloop.run(main())
    except errors.Error as error:
        sys.exit(f"functions: {error.detail}")
