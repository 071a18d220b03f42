"""Metering: a process of services tells the ledger what they use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import secrets
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from microcosmos.base import errors
from microcosmos.monitor.ledger import Counts
from microcosmos.monitor.ledger.client import RemoteLedger
from microcosmos.monitor.ledger.wire import Told
from microcosmos.rpc import Hosted

EVERY = 1.0
"""Seconds between two looks at what was used; what a process that is killed has not told yet is
lost."""

SELDOM = 60.0
"""Seconds until a platform that keeps no ledger, or refuses to, is told again."""

IDLE_CPU = 0.05
"""Seconds of the processor that are told though nothing was asked; less waits for more."""

LAST = 2.0
"""Seconds that the last counts of a process may take."""

log = logging.getLogger("microcosmos.service")


class Metering:
    """Tells what the services of this process use.

    Requests, errors, bytes and times are those of the process's own server; processor and memory
    are those of the process, shared out by the time that was spent on requests where it has several
    services.

    Args:
        ledger: is told.
        services: of this process.
    """

    def __init__(self, ledger: RemoteLedger, services: Iterable[Hosted]) -> None:
        self._ledger = ledger
        self._services = list(services)
        self._worker = secrets.token_hex(12)
        self._sequence = 0
        self._seen = [Counts() for _ in self._services]
        self._cpu = 0
        self._begun = False
        self._waiting: list[Told] = []

    async def keep(self) -> None:
        """Tell, for ever."""
        pause = EVERY
        while True:
            await asyncio.sleep(pause)
            pause = EVERY
            try:
                await self.tell()
            except errors.NotFound:
                # A platform that keeps no ledger, perhaps not yet.
                pause = SELDOM
            except (errors.BadRequest, errors.Forbidden, errors.Unauthorized) as error:
                log.warning("what this service uses is not counted: %s", error.detail)
                pause = SELDOM
            except errors.Error as error:
                log.debug("what was used cannot be told yet: %s", error)

    async def last(self) -> None:
        """Tell what is left, as the process ends."""
        with contextlib.suppress(errors.Error, TimeoutError):
            await asyncio.wait_for(self.tell(), LAST)

    async def tell(self) -> None:
        """Tell what was used since it was last told.

        Raises:
            errors.Error: it was not; it is told again as it was.
        """
        if not self._waiting:
            self._waiting = self._used()
            self._sequence += 1
        if self._waiting:
            await self._ledger.count(self._worker, self._sequence, self._waiting)
            self._waiting = []

    def _used(self) -> list[Told]:
        """What was used since the last time; nothing, if that is not worth telling."""
        now = [_counted(hosted) for hosted in self._services]
        cpu = _cpu()
        news = [_less(one, seen) for one, seen in zip(now, self._seen, strict=True)]
        asked = any(one.requests for one in news)
        if self._begun and not asked and cpu - self._cpu < IDLE_CPU * 1e9:
            return []
        took = sum(one.execution_ns for one in news)
        heap = _memory()
        for one in news:
            part = one.execution_ns / took if took else 1 / len(news)
            one.cpu_ns = int((cpu - self._cpu) * part)
            one.heap = int(heap * part)
            one.byte_ms = one.heap * one.execution_ns // 1_000_000
            one.cold_starts = int(not self._begun)
            one.shared = len(news) > 1
        self._seen, self._cpu, self._begun = now, cpu, True
        return [
            Told(name=hosted.name, version=hosted.version, counts=one)
            for hosted, one in zip(self._services, news, strict=True)
        ]


def _counted(hosted: Hosted) -> Counts:
    """What a service was asked, since the process began."""
    total = Counts()
    for endpoint in hosted.endpoints.values():
        stats = endpoint.stats
        total.add(
            Counts(
                requests=stats.requests,
                errors=stats.errors,
                failures={str(code): count for code, count in stats.failures.items()},
                request_bytes=stats.request_bytes,
                response_bytes=stats.response_bytes,
                execution_ns=int(stats.processing_time * 1e9),
            )
        )
    return total


_GROWING = ("requests", "errors", "request_bytes", "response_bytes", "execution_ns")


def _less(now: Counts, before: Counts) -> Counts:
    """What is more now than before."""
    failures = {
        kind: count - before.failures.get(kind, 0)
        for kind, count in now.failures.items()
        if count > before.failures.get(kind, 0)
    }
    more = {name: getattr(now, name) - getattr(before, name) for name in _GROWING}
    return Counts(failures=failures, **more)


def _cpu() -> int:
    """Nanoseconds of the processor, of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + int((children.ru_utime + children.ru_stime) * 1e9)


def _memory() -> int:
    """Bytes of this process that are in memory."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The most there ever was is all that macOS tells, in bytes; others tell it in KiB.
    return most if sys.platform == "darwin" else most * 1024


_STATM = Path("/proc/self/statm")
