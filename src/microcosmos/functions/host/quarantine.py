"""The quarantine: versions that held up a worker or were its end, while that is not forgotten.

The core keeps the strikes and says what follows from them (`functions.strikes`); here is seen to it
that nothing of such a version is loaded before the core knows, and that nobody shares its worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from microcosmos.base.tasks import apart
from microcosmos.functions.workers import Where

from .faults import Blame, Fault

KEEPING = 2.0
"""Seconds for which a version is not loaded while the core does not know yet what it has done."""

_Version = tuple[str, str, int]


class Quarantine:
    """Has strikes kept.

    Args:
        blame: keeps one.
    """

    def __init__(self, blame: Blame) -> None:
        self._blame = blame
        self._keeping: dict[_Version, asyncio.Task[None]] = {}

    def take(self, faults: Sequence[Fault]) -> None:
        """Versions have misbehaved."""
        for fault in faults:
            version = _version(fault.where)
            before = self._keeping.get(version)
            self._keeping[version] = apart(
                self._keep(fault, version, before), f"strike {fault.where.name}"
            )

    async def settled(self, where: Where) -> None:
        """Wait until the core knows what a version has done, for a while."""
        if (task := self._keeping.get(_version(where))) is not None:
            await asyncio.wait((task,), timeout=KEEPING)

    async def close(self) -> None:
        """See to nothing any more."""
        tasks = [*self._keeping.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(
        self, fault: Fault, version: _Version, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait((before,))
        try:
            await self._blame(fault)
        finally:
            if self._keeping.get(version) is asyncio.current_task():
                del self._keeping[version]


def _version(where: Where) -> _Version:
    return where.namespace, where.name, where.number
