"""Supervisor: owns the processes of services on behalf of the core, and decides nothing itself.

It is the `Spawner` of the runtime. The core asks it over a socket, so that the core may die and
come back while services go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from types import TracebackType

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.runtime.interface import Exit, ProcessSpec

from .drain import Drain
from .processes import Process, Processes

REMEMBERED = 1000
"""How many exits are kept for a core that was away."""

POLL = 10.0
"""Seconds that `Supervisor.exits` waits for one."""


class Supervisor:
    """Starts, signals and watches the processes of services; see `runtime.interface.Spawner`.

    Leaving the block drains them.
    """

    def __init__(self, processes: Processes, drain: Drain, clock: Clock = SYSTEM) -> None:
        self._processes = processes
        self._drain = drain
        self._clock = clock
        self._living: dict[str, Process] = {}
        self._exits: deque[Exit] = deque(maxlen=REMEMBERED)
        self._news = asyncio.Condition()
        self._sequence = 0
        self._closing = False
        self._watches: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Supervisor:
        self._watchers = asyncio.TaskGroup()
        await self._watchers.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        await self._drain.end(self._living.values())
        for watcher in self._watches:
            watcher.cancel()
        # Without what ended the block: a group would wrap it.
        await self._watchers.__aexit__(None, None, None)

    async def spawn(self, spec: ProcessSpec) -> int:
        """Start a process; see `Spawner.spawn`."""
        if self._closing:
            raise errors.Unavailable("supervisor", "the server is stopping")
        if spec.name in self._living:
            raise errors.Conflict("supervisor", f"a process named {spec.name} is alive")
        process = self._processes.start(spec)
        self._living[spec.name] = process
        watch = self._watchers.create_task(self._watch(process))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return process.pid

    async def signal(self, name: str, signal: int) -> None:
        """Signal a process and its children; see `Spawner.signal`."""
        _check(signal)
        if process := self._living.get(name):
            process.signal(signal)

    async def running(self) -> dict[str, int]:
        """The living; see `Spawner.running`."""
        return {name: process.pid for name, process in self._living.items()}

    async def exits(self, after: int) -> list[Exit]:
        """The exits since, waiting for one; see `Spawner.exits`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL), self._news:
                await self._news.wait_for(lambda: self._sequence > after)
        return [one for one in self._exits if one.sequence > after]

    async def _watch(self, process: Process) -> None:
        code = await process.wait()
        del self._living[process.name]
        async with self._news:
            self._sequence += 1
            self._exits.append(
                Exit(
                    name=process.name,
                    pid=process.pid,
                    code=code,
                    time=self._clock.time(),
                    sequence=self._sequence,
                )
            )
            self._news.notify_all()


def _check(number: int) -> None:
    try:
        signal.Signals(number)
    except ValueError:
        raise errors.BadRequest("supervisor", f"there is no signal {number}") from None
