"""Mending: an engine that could not write to its disk is started again once it can.

After a write has failed nats-server takes no event any more until it is started again, also when
there is room again, and says nothing to who publishes.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.home import Home
from microcosmos.events.nats import Frozen, NatsLog

logger = logging.getLogger("microcosmos.core")

EVERY = 5.0
"""Seconds between two looks at whether the engine can write."""

ROOM = 64 * 1024 * 1024
"""Bytes that must be free on its disk before an engine that could not write is started again."""


class Mending:
    """Looks after an engine.

    Args:
        folder: of its streams.
        logs: the events of all namespaces.
        restart: ends the engine, which somebody starts again then.
        clock: by which it looks.
        room: bytes that must be free.
    """

    def __init__(
        self,
        folder: Path,
        logs: Callable[[], Iterable[NatsLog]],
        restart: Callable[[], None],
        *,
        clock: Clock = SYSTEM,
        room: int = ROOM,
    ) -> None:
        self._folder = folder
        self._logs = logs
        self._restart = restart
        self._clock = clock
        self._room = room

    async def keep(self) -> None:
        """Look now and then, for ever."""
        while True:
            await self._clock.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Start the engine again if it takes nothing any more, and there is room."""
        for log in self._logs():
            try:
                await log.check()
            except Frozen as frozen:
                self._mend(frozen)
                return
            except errors.Error as error:
                # It is not there just now: whoever keeps it alive knows that.
                logger.debug("the engine could not be asked: %s", error.detail)

    def _mend(self, frozen: Frozen) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < self._room:
            logger.error("%s; its disk is full: make room in %s", frozen.detail, self._folder)
            return
        logger.warning("%s; it is started again", frozen.detail)
        self._restart()


def end_engine(home: Home) -> None:
    """End the server's own engine; the supervisor starts it again."""
    info = home.server_info()
    if info is not None and (pid := info.pids.get("nats")):
        os.kill(pid, signal.SIGTERM)
