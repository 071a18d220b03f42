"""One replica: a process that is started, watched until it answers, started again when it ends."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from microcosmos.base import errors
from microcosmos.base.clock import Clock

from .children import Children, ending, first, process_name
from .failure import Failure, last_words
from .interface import Exit, ProcessSpec
from .logs import last_lines, size_of
from .presence import Presence
from .settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What the replicas of one generation are made from.

    Attributes:
        service: the service's name.
        label: what their processes are called.
        generation: the deploy that they belong to.
        log: gives the file that a replica of a number writes to.
        spec: gives the process of a name and a replica's number.
        ended: is told of a process that has ended for good.
    """

    service: str
    label: str
    generation: str
    log: Callable[[int], Path]
    spec: Callable[[str, int], Awaitable[ProcessSpec]]
    ended: Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a replica lives among.

    Attributes:
        children: starts and ends processes.
        presence: tells whether they answer.
        clock: measures their delays.
        settings: how long the delays are.
        changed: called when a replica's state has changed.
    """

    children: Children
    presence: Presence
    clock: Clock
    settings: Settings
    changed: Callable[[], None]


class Replica:
    """A process kept alive.

    Attributes:
        state: ``running`` while it answers, ``error`` from a crash until it is up again.
        error: why it is not running.
        output: its last lines then.
        process: its process's name.

    Args:
        blueprint: what it is made from.
        number: its place among the replicas of its service, which names its log.
        around: what it lives among.
    """

    def __init__(self, blueprint: Blueprint, number: int, around: Surroundings) -> None:
        self.state: Literal["starting", "running", "error", "stopped"] = "starting"
        self.error = ""
        self.output: list[str] = []
        self.process = ""
        self.number = number
        self._name = blueprint.service
        self._blueprint = blueprint
        self._around = around
        self._ended: asyncio.Future[Exit] | None = None
        self._log = Path()
        self._log_start = 0
        self._since = 0.0
        self._failures = 0
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and wait until it answers: one attempt.

        Raises:
            Failure: it ended, or did not answer in time; it has been stopped then.
        """
        around, blueprint = self._around, self._blueprint
        token = secrets.token_hex(3)
        self.process = process_name(blueprint.label, blueprint.generation, str(self.number), token)
        try:
            spec = await blueprint.spec(self.process, self.number)
            self._log = blueprint.log(self.number)
            self._log_start = size_of(self._log)
            await around.presence.expect()
            self._ended = await around.children.start(spec)
        except errors.Error as exc:
            raise Failure(f"could not be started: {exc.detail}") from None
        await self._wait_until_it_answers(self._ended)

    async def adopt(self, process: str, *, trusted: bool) -> None:
        """Take over a process that an earlier core started.

        Args:
            process: its name.
            trusted: it answered then, so that being alive is enough: a busy one is slow, not gone.

        Raises:
            Failure: it ended, or did not answer in time.
        """
        self.process = process
        self._log = self._blueprint.log(self.number)
        self._ended = self._around.children.watch(process)
        if trusted:
            self._up()
        else:
            await self._wait_until_it_answers(self._ended)

    def keep(self, failure: Failure | None = None) -> None:
        """From now on, start it again whenever it ends.

        Args:
            failure: how the first start went.
        """
        self._keeper = asyncio.create_task(self._keep(failure))

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL when it takes too long."""
        await self.leave()
        if self.process:
            await self._around.children.stop(self.process, self._around.settings.drain)
            await self._around.presence.gone(self.process)
            await self._blueprint.ended(self.process)
        self.state = "stopped"

    async def leave(self) -> None:
        """Stop watching; the process goes on."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])

    async def _wait_until_it_answers(self, ended: asyncio.Future[Exit]) -> None:
        around = self._around
        late = asyncio.ensure_future(around.clock.sleep(around.settings.ready))
        pause = 0.01
        try:
            while not await around.presence.answers(self.process):
                await first(ended, late, pause)
                if ended.done():
                    raise await self._crash(ended.result())
                if late.done():
                    raise await self._never_ready()
                pause = min(pause * 1.5, 0.25)
        finally:
            late.cancel()
        self._up()

    def _up(self) -> None:
        self._since = self._around.clock.monotonic()
        self._become("running")

    async def _crash(self, ended: Exit) -> Failure:
        await self._around.presence.gone(self.process)
        output = last_lines(self._log, start=self._log_start)
        last = last_words(output)
        if ended.code > 0:
            # It ended itself with an error: its last words are the cause.
            return Failure(last or ending(ended), output)
        return Failure(f"{ending(ended)}; its last line: {last}" if last else ending(ended), output)

    async def _never_ready(self) -> Failure:
        around = self._around
        await around.children.stop(self.process, around.settings.drain)
        await around.presence.gone(self.process)
        output = last_lines(self._log, start=self._log_start)
        line = f"did not answer within {around.settings.ready:g} s as service {self._name}"
        return Failure(f"{line}; its last line: {output[-1].strip()}" if output else line, output)

    async def _keep(self, failure: Failure | None) -> None:
        while True:
            if failure:
                self._become("error", failure)
                await self._around.clock.sleep(self._delay())
            try:
                if failure or self.state != "running":
                    await self.start()
                failure = await self._until_it_ends()
            except Failure as exc:
                failure = exc
            except Exception as exc:
                # Whatever happens, a replica is never given up.
                logger.warning("replica %s of %s", self.number, self.process, exc_info=True)
                failure = Failure(f"could not be started: {exc}")

    async def _until_it_ends(self) -> Failure:
        assert self._ended is not None
        await asyncio.wait([self._ended])
        if self._around.clock.monotonic() - self._since >= self._around.settings.stable:
            self._failures = 0
        return await self._crash(self._ended.result())

    def _delay(self) -> float:
        settings = self._around.settings
        delay = min(settings.backoff * 2.0 ** min(self._failures, 30), settings.backoff_limit)
        self._failures += 1
        return delay

    def _become(self, state: Literal["running", "error"], failure: Failure | None = None) -> None:
        self.state = state
        self.error = failure.line if failure else ""
        self.output = failure.output if failure else []
        self._around.changed()
