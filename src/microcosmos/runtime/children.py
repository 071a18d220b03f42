"""The processes that a Spawner owns, with something to wait on: started, awaited, stopped."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from types import TracebackType
from typing import Any, Self

from microcosmos.base import errors
from microcosmos.base.clock import Clock

from .interface import Exit, ProcessSpec, Spawner

logger = logging.getLogger(__name__)

_NAME = re.compile(
    r"(?P<label>.+)-(?P<generation>[0-9a-f]{8})-(?P<role>\d+|build|fetch)-[0-9a-f]{6}"
)


def process_name(label: str, generation: str, role: str, token: str) -> str:
    """The name of a process, from which a restarted core knows whose it is."""
    return f"{label}-{generation}-{role}-{token}"


def parse_name(name: str) -> tuple[str, str, str] | None:
    """(label, generation, role) of a process of the runtime; None for one of another room."""
    match = _NAME.fullmatch(name)
    return (match["label"], match["generation"], match["role"]) if match else None


def slot(process: str) -> str:
    """A process's place among those of its generation, whose holder changes when it crashes."""
    return process.rpartition("-")[0]


UNAWAITED = 1000
"""How many exits are kept of processes whose end nobody waits for yet."""


class Children:
    """Follows the exits of a Spawner's processes while entered.

    Args:
        spawner: who owns the processes.
        clock: what graces and time limits are measured by.
    """

    def __init__(self, spawner: Spawner, clock: Clock) -> None:
        self._spawner = spawner
        self._clock = clock
        self._exits: dict[str, asyncio.Future[Exit]] = {}
        # A core that has just started reads of ends before it knows what it waits for.
        self._unawaited: dict[str, Exit] = {}
        self._seen = 0

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._follower.cancel()
        await asyncio.wait([self._follower])

    async def start(self, spec: ProcessSpec) -> asyncio.Future[Exit]:
        """Start a process; the future settles when it has ended.

        Raises:
            errors.BadRequest: it cannot be started.
        """
        self._unawaited.pop(spec.name, None)
        ended = self.watch(spec.name)
        spawning = asyncio.ensure_future(self._spawner.spawn(spec))
        try:
            await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # A start that is under way cannot be taken back: wait, so that a stop can follow.
            await asyncio.wait([spawning])
            raise
        except BaseException:
            self._exits.pop(spec.name, None)
            raise
        return ended

    def watch(self, name: str) -> asyncio.Future[Exit]:
        """The end of a process that is alive, is about to be, or was just now."""
        if name not in self._exits:
            future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
            if ended := self._unawaited.get(name):
                future.set_result(ended)
                return future
            self._exits[name] = future
        return self._exits[name]

    async def running(self) -> dict[str, int]:
        """The living processes, name to pid."""
        return await self._spawner.running()

    async def run(self, spec: ProcessSpec, timeout: float) -> Exit:
        """Start a process and wait for its end; one that takes too long is killed.

        Raises:
            errors.DeadlineExceeded: it took too long.
        """
        ended = self.watch(spec.name)
        try:
            if await self.within(timeout, await self.start(spec)):
                return ended.result()
        finally:
            if not ended.done():
                await self._spawner.signal(spec.name, signal.SIGKILL)
        raise errors.DeadlineExceeded("runtime", f"took longer than {timeout:g} s")

    async def stop(self, name: str, grace: float) -> None:
        """End a process: SIGTERM, then SIGKILL after ``grace`` seconds; none need be there."""
        ended = self.watch(name)
        if name not in await self.running():
            self._exits.pop(name, None)
            return
        await self._spawner.signal(name, signal.SIGTERM)
        if not await self.within(grace, ended):
            await self._spawner.signal(name, signal.SIGKILL)
            await ended

    async def within(self, seconds: float, ended: asyncio.Future[Exit]) -> bool:
        """Wait for an end, but not longer than ``seconds`` on the clock."""
        late = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await first(ended, late)
        finally:
            late.cancel()
        return ended.done()

    async def _follow(self) -> None:
        missing: set[str] = set()
        while True:
            try:
                exits = await self._spawner.exits(self._seen)
                for ended in exits:
                    self._seen = max(self._seen, ended.sequence)
                    self._settle(ended)
                missing = await self._missing(missing) if not exits else set()
            except errors.Error as error:
                # The supervisor is going, or is not there yet.
                logger.warning("the exits of processes could not be read: %s", error.detail)
                await asyncio.sleep(1)
            except Exception:
                # Whatever happens, the exits must go on being read.
                logger.warning("the exits of processes could not be read", exc_info=True)
                await asyncio.sleep(1)

    async def _missing(self, before: set[str]) -> set[str]:
        """The awaited processes that are gone without a notice; those seen twice are settled."""
        gone = self._exits.keys() - (await self.running()).keys()
        for name in gone & before:
            ended = Exit(
                name=name, pid=0, code=-signal.SIGKILL, time=self._clock.time(), sequence=0
            )
            self._settle(ended)
        return gone - before

    def _settle(self, ended: Exit) -> None:
        future = self._exits.pop(ended.name, None)
        if future is None:
            self._unawaited[ended.name] = ended
            if len(self._unawaited) > UNAWAITED:
                del self._unawaited[next(iter(self._unawaited))]
        elif not future.done():
            future.set_result(ended)


async def first(
    ended: asyncio.Future[Exit], late: asyncio.Future[None], timeout: float | None = None
) -> None:
    """Return as soon as a process has ended, or a time is over."""
    both: list[asyncio.Future[Any]] = [ended, late]
    await asyncio.wait(both, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


def ending(exit: Exit) -> str:
    """How a process ended, in words: ``exited with status 1``, ``killed by SIGKILL``."""
    if exit.code >= 0:
        return f"exited with status {exit.code}"
    try:
        return f"killed by {signal.Signals(-exit.code).name}"
    except ValueError:
        return f"killed by signal {-exit.code}"
