"""Blaming: what is done about a version that was the end of a worker, beside setting it apart."""

from __future__ import annotations

import asyncio
import logging
import time

from microcosmos.base import errors
from microcosmos.functions.client import PlatformFunctions
from microcosmos.functions.counting import key_of, tell
from microcosmos.functions.interface import Counts
from microcosmos.functions.requests import StrikeRequest

from .faults import Fault
from .logs import FunctionLogs

log = logging.getLogger("microcosmos.functions")

PATIENCE = 10.0
"""Seconds for which the core is told of a strike, while it is being started again."""

_PAUSE = 0.1


class Blaming:
    """Writes faults into logs, and has the core keep strikes for them.

    Args:
        core: keeps them.
        logs: of functions.
    """

    def __init__(self, core: PlatformFunctions, logs: FunctionLogs) -> None:
        self._core = core
        self._logs = logs
        self._telling: set[asyncio.Task[None]] = set()

    async def blame(self, fault: Fault) -> None:
        """See `faults.Blame`."""
        where = fault.where
        text = f"v{where.number} was {fault.reason}; it runs in a process of its own for a while"
        self._logs.write(where.namespace, where.name, "error", text)
        if fault.cpu:
            self._count(fault)
        await self._strike(fault)

    def close(self) -> None:
        """Tell nothing any more."""
        for task in self._telling:
            task.cancel()

    async def _strike(self, fault: Fault) -> None:
        where = fault.where
        request = StrikeRequest(
            namespace=where.namespace,
            name=where.name,
            number=where.number,
            worker=fault.worker,
            reason=fault.reason,
            suspected=fault.suspected,
        )
        until = time.monotonic() + PATIENCE
        while True:
            try:
                await self._core.strike(request)
                return
            except errors.NotFound as error:
                if error.id != "rpc":
                    # It has been deleted meanwhile.
                    return
                failure: errors.Error = error
            except errors.Error as error:
                failure = error
            if time.monotonic() > until:
                log.warning("a strike of %s could not be kept: %s", where.name, failure)
                return
            await asyncio.sleep(_PAUSE)

    def _count(self, fault: Fault) -> None:
        """Tell what a worker has used that did not live to tell, by a name of its own.

        Requests that failed are counted by those who have answered them.
        """
        where = fault.where
        key = key_of(where.namespace, where.name, where.number)
        counts = {key: Counts(cpu_ns=int(fault.cpu * 1e9))}
        task = asyncio.create_task(tell(self._core.count, f"{fault.worker}-end", 1, counts))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
