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
from .processes import Process, Processes, kill

log = logging.getLogger("microcosmos.server")

START_LIMIT = 30.0
"""Seconds after which a child that has not become ready is given up."""

LEAVE_LIMIT = 15.0
"""Seconds after which a child that has a successor is killed, if it has not ended."""

_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Child:
    """One process of the platform.

    Attributes:
        spec: how it is started.
        descriptors: what it inherits.
        ready: returns once it answers; None: it says so itself, by `lifespan.report_ready`.
        leave: the signal that asks it to end once a successor has taken its place.
    """

    spec: ProcessSpec
    descriptors: tuple[int, ...] = ()
    ready: Callable[[], Awaitable[None]] | None = None
    leave: signal.Signals = signal.SIGTERM


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
        self._children = {child.spec.name: child for child in children}
        self._drain = drain
        self._changed = changed
        self._clock = clock
        self._living: dict[str, Process] = {}
        self._ready: dict[str, asyncio.Future[None]] = {}
        # By name, what is about to take a living one's place; and those whose place is taken.
        self._coming: dict[str, asyncio.Event] = {}
        self._aside: set[Process] = set()
        self._ending = False

    async def __aenter__(self) -> Tree:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        loop = asyncio.get_running_loop()
        self._ready = {name: loop.create_future() for name in self._children}
        self._tasks = [self._group.create_task(self._tend(name)) for name in self._children]
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
        await self._drain.end([*self._living.values(), *self._aside])
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
        for name, child in self._children.items():
            try:
                await asyncio.wait_for(asyncio.shield(self._ready[name]), limit)
            except TimeoutError:
                raise _not_started(child, f"it was not ready within {limit:g} s") from None

    def pids(self) -> dict[str, int]:
        """The living children."""
        return {name: process.pid for name, process in self._living.items()}

    async def replace(self, child: Child, limit: float = START_LIMIT) -> asyncio.Task[None]:
        """Start a child in the place of the living one of its name, which then is to leave.

        The old one is asked to leave once the new one is ready, and killed if it takes longer
        than `LEAVE_LIMIT`. Until then both live.

        Returns:
            The leaving of the old one.

        Raises:
            errors.Conflict: the child is being replaced already.
            errors.Unavailable: the new one did not become ready; the old one goes on.
        """
        name = child.spec.name
        if name in self._coming:
            raise errors.Conflict("server", f"{name} is being replaced already")
        old = self._living.get(name)
        if old is None:
            raise errors.Unavailable("server", f"{name} has ended, and is being started again")
        coming = self._coming[name] = asyncio.Event()
        try:
            new = await self._start_beside(child, limit)
            self._children[name] = child
            self._living[name] = new
        finally:
            del self._coming[name]
            coming.set()
        self._changed()
        return self._group.create_task(self._see_off(child, old), name=f"{name} leaves")

    async def _start_beside(self, child: Child, limit: float) -> Process:
        """Start a child while another of its name lives; it is ready then."""
        if self._ending:
            raise errors.Unavailable("server", "the server is stopping")
        life = self._start(child)
        if isinstance(life, str):
            raise _not_started(child, life)
        self._aside.add(life.process)
        ended = asyncio.create_task(life.process.wait())
        ready = asyncio.create_task(life.ready())
        try:
            await asyncio.wait((ended, ready), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise _not_started(child, _described(ended.result(), life.process.pid))
            if not ready.done():
                raise _not_started(child, f"it was not ready within {limit:g} s")
        except BaseException:
            await kill((life.process,))
            raise
        finally:
            self._aside.discard(life.process)
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)
            life.close()
        return life.process

    async def _see_off(self, child: Child, old: Process) -> None:
        """Wait until one that has a successor has ended."""
        self._aside.add(old)
        try:
            old.signal(child.leave)
            async with asyncio.timeout(LEAVE_LIMIT):
                await old.wait()
        except TimeoutError:
            log.warning("%s (PID %d) is killed: it would not leave", old.name, old.pid)
            await kill((old,))
        finally:
            self._aside.discard(old)

    async def _tend(self, name: str) -> None:
        ready, backoff = self._ready[name], Backoff()
        while True:
            began = self._clock.monotonic()
            ending = await self._live(name)
            lived = self._clock.monotonic() - began
            if self._ending:
                return
            child = self._children[name]
            if not ready.done():
                ready.set_exception(_not_started(child, ending))
            if ready.exception():
                return
            pause = backoff.next(lived)
            line = "%s %s after %.1f s; it is started again in %.1f s%s"
            log.warning(line, name, ending, lived, pause, _last_words(child))
            await self._clock.sleep(pause)

    async def _live(self, name: str) -> str:
        """The lives of a child, from a start to an end that no successor saw; says how it ended."""
        life = self._start(self._children[name])
        if isinstance(life, str):
            return life
        process = self._living[name] = life.process
        self._changed()
        becoming = asyncio.create_task(self._become_ready(name, life))
        try:
            while True:
                ending = _described(await process.wait(), process.pid)
                if (coming := self._coming.get(name)) is not None:
                    await coming.wait()
                if self._living[name] is process:
                    return ending
                process = self._living[name]
        finally:
            del self._living[name]
            becoming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await becoming
            life.close()

    def _start(self, child: Child) -> _Life | str:
        """Start a process; a text says why that failed."""
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
        return _Life(child, process, mine)

    async def _become_ready(self, name: str, life: _Life) -> None:
        await life.ready()
        if not self._ready[name].done():
            self._ready[name].set_result(None)


@dataclass(frozen=True, slots=True)
class _Life:
    """A process that has been started, and the pipe on which it says that it is ready."""

    child: Child
    process: Process
    word: int

    async def ready(self) -> None:
        """Wait until it answers."""
        await (self.child.ready() if self.child.ready else _heard(self.word))

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.word)


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
