"""The platform's own children: engine, core, gateways. One that ends is started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from microcosmos.base import errors, lifespan
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.runtime.interface import ProcessSpec

from .drain import Drain
from .processes import Process, Processes

log = logging.getLogger("microcosmos.server")

START_LIMIT = 30.0
"""Seconds after which a child that has not become ready is given up."""

_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Child:
    """One process of the platform.

    Attributes:
        spec: how it is started.
        descriptors: what it inherits.
        ready: returns once it answers; None: it says so itself, by `lifespan.report_ready`.
    """

    spec: ProcessSpec
    descriptors: tuple[int, ...] = ()
    ready: Callable[[], Awaitable[None]] | None = None


class Backoff:
    """Pauses between starts: doubling, and short again after a life that was long enough."""

    FIRST = 0.1
    LONGEST = 5.0
    HEALTHY = 10.0

    def __init__(self) -> None:
        self._pause = self.FIRST

    def next(self, lived: float) -> float:
        """Seconds to wait after a life of so many seconds."""
        pause = self.FIRST if lived >= self.HEALTHY else self._pause
        self._pause = min(pause * 2, self.LONGEST)
        return pause


class Tree:
    """Keeps children alive while the block runs; entering starts them all at once.

    Args:
        processes: where they are started.
        children: who.
        drain: how they are ended.
        changed: called when a child has been started again.
    """

    def __init__(
        self,
        processes: Processes,
        children: Sequence[Child],
        drain: Drain,
        *,
        changed: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._processes = processes
        self._children = children
        self._drain = drain
        self._changed = changed
        self._clock = clock
        self._living: dict[str, Process] = {}
        self._ready: dict[str, asyncio.Future[None]] = {}
        self._ending = False

    async def __aenter__(self) -> Tree:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        loop = asyncio.get_running_loop()
        self._ready = {child.spec.name: loop.create_future() for child in self._children}
        self._tasks = [self._group.create_task(self._tend(child)) for child in self._children]
        # Let each task start its process: the children load while others are waited for.
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        await self._drain.end(self._living.values())
        for task in self._tasks:
            task.cancel()
        for future in self._ready.values():
            future.cancel()
        # Without what ended the block: a group would wrap it.
        await self._group.__aexit__(None, None, None)

    async def ready(self, limit: float = START_LIMIT) -> None:
        """Wait until every child has become ready for the first time, each ``limit`` seconds.

        Raises:
            errors.Unavailable: one ended before that, or took too long; the detail says why.
        """
        for child in self._children:
            name = child.spec.name
            try:
                await asyncio.wait_for(asyncio.shield(self._ready[name]), limit)
            except TimeoutError:
                raise _not_started(child, f"it was not ready within {limit:g} s") from None

    def pids(self) -> dict[str, int]:
        """The living children."""
        return {name: process.pid for name, process in self._living.items()}

    async def _tend(self, child: Child) -> None:
        name, ready, backoff = child.spec.name, self._ready[child.spec.name], Backoff()
        while True:
            began = self._clock.monotonic()
            ending = await self._live(child)
            lived = self._clock.monotonic() - began
            if self._ending:
                return
            if not ready.done():
                ready.set_exception(_not_started(child, ending))
            if ready.exception():
                return
            pause = backoff.next(lived)
            line = "%s %s after %.1f s; it is started again in %.1f s%s"
            log.warning(line, name, ending, lived, pause, _last_words(child))
            await self._clock.sleep(pause)

    async def _live(self, child: Child) -> str:
        """One life of a child, from start to end; says how it ended."""
        try:
            mine, theirs = os.pipe()
        except OSError as exc:
            return f"failed to start ({exc})"
        try:
            process = self._processes.start(*_with_word(child, theirs))
        except errors.Error as error:
            os.close(mine)
            return f"failed to start ({error.detail})"
        finally:
            os.close(theirs)
        self._living[child.spec.name] = process
        self._changed()
        becoming = asyncio.create_task(self._become_ready(child, mine))
        try:
            return _described(await process.wait(), process.pid)
        finally:
            del self._living[child.spec.name]
            becoming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await becoming
            os.close(mine)

    async def _become_ready(self, child: Child, word: int) -> None:
        await (child.ready() if child.ready else _heard(word))
        future = self._ready[child.spec.name]
        if not future.done():
            future.set_result(None)


def _with_word(child: Child, word: int) -> tuple[ProcessSpec, tuple[int, ...]]:
    """What to start, with the pipe on which a child says that it is ready."""
    if child.ready is not None:
        return child.spec, child.descriptors
    env = {**child.spec.env, lifespan.READY: str(word)}
    return msgspec.structs.replace(child.spec, env=env), (*child.descriptors, word)


async def _heard(descriptor: int) -> None:
    """Wait for one byte; what closes the pipe without a word is waited for elsewhere."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    if not os.read(descriptor, 1):
        await asyncio.Event().wait()


def _described(code: int, pid: int) -> str:
    if code >= 0:
        return f"(PID {pid}) ended with status {code}"
    try:
        return f"(PID {pid}) was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"(PID {pid}) was ended by signal {-code}"


def _last_words(child: Child) -> str:
    """The last line of a child's log, as the end of a sentence."""
    try:
        with Path(child.spec.log).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((f"; it said last: {line.strip()}" for line in reversed(lines) if line.strip()), "")


def _not_started(child: Child, why: str) -> errors.Unavailable:
    name = child.spec.name
    detail = f"{name} could not start: {why}{_last_words(child)} (log: {child.spec.log})"
    return errors.Unavailable("server", detail)
