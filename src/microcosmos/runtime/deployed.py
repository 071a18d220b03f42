"""One deployment as it lives: its record, its replicas, and what is under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from microcosmos.base import errors

from .deployment import MAX_HISTORY, Deployment, Status, Version
from .failure import Failure
from .group import Group
from .presence import Presence
from .replica import Surroundings
from .workshop import Workshop

logger = logging.getLogger(__name__)


class Deployed:
    """A deployment from its creation to its end; `leave` lets go of it without ending it.

    Attributes:
        record: what is known of it now.
        ended: whether it has been forgotten.

    Args:
        record: what is known of it.
        workshop: what it is made with.
    """

    def __init__(self, record: Deployment, workshop: Workshop) -> None:
        self.record = record
        self.ended = False
        self._workshop = workshop
        self._presence = Presence(workshop.registry, record.name, record.namespace)
        self._stirred = asyncio.Event()
        self._group = Group(
            Surroundings(
                workshop.children,
                self._presence,
                workshop.clock,
                workshop.settings,
                self._stirred.set,
            )
        )
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._busy: Status | None = None
        self._trouble: Failure | None = None
        self._job: asyncio.Task[None] | None = None
        self._follower = asyncio.create_task(self._follow())

    async def begin(self, target: Deployment) -> Deployment:
        """Become another; what was under way is given up. Returns once that is on record.

        Raises:
            errors.Conflict: it has been ended in the meantime.
            errors.Unavailable: it could not be written down.
        """
        async with self._turn:
            if self.ended:
                raise errors.Conflict("runtime", f"{target.name} was just killed; run it again")
            await self._give_up()
            self._busy = "pending"
            record = self._next(target=target, status="pending", error="", output=[])
            try:
                await self._workshop.records.save(record)
            except errors.Error:
                self._busy = None
                self._stirred.set()
                raise
            self._show(record)
            self._start(partial(self._deploy, target))
            return record

    def restore(self, processes: dict[int, str]) -> None:
        """Go on where an earlier core was.

        Args:
            processes: what runs of its generation, by the replica's number.
        """
        before = self.record
        # What was true before the core went away is not known to be true now.
        self.record = msgspec.structs.replace(before, status="starting", ready=0)
        trusted = before.status == "running"
        self._start(partial(self._restore, processes, trusted=trusted))

    async def end(self) -> Deployment:
        """Stop every replica and forget it."""
        async with self._turn:
            await self._give_up()
            self._busy = "stopping"
            await self._put(status="stopping", target=None)
            await self._group.stop()
            await self._presence.ended()
            self._follower.cancel()
            workshop, label = self._workshop, self.record.label
            await workshop.platform.forget(self.record)
            await workshop.records.remove(self.record)
            await asyncio.to_thread(workshop.checkouts.forget, label)
            await asyncio.to_thread(workshop.logs.forget, label)
            self.ended = True
            self._show(self._next(status="stopped", ready=0))
            return self.record

    async def leave(self) -> None:
        """Stop watching; its processes go on."""
        for task in (self._job, self._follower):
            if task:
                task.cancel()
                await asyncio.wait([task])
        await self._group.release()

    async def wait(self, revision: int, timeout: float) -> Deployment:
        """The record, as soon as it is newer than ``revision``, or when the time is over."""
        try:
            async with asyncio.timeout(timeout):
                while self.record.revision <= revision and not self.ended:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.record

    def _start(self, job: Callable[[], Awaitable[None]]) -> None:
        self._job = asyncio.create_task(self._run(job))

    async def _run(self, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except Exception as exc:
            logger.exception("deploying %s", self.record.name)
            detail = exc.detail if isinstance(exc, errors.Error) else "the log of the core has why"
            self._trouble = Failure(f"the runtime failed: {detail}")
            await self._settle()

    async def _give_up(self) -> None:
        if self._job and not self._job.done():
            self._job.cancel()
            await asyncio.wait([self._job])

    async def _deploy(self, target: Deployment) -> None:
        workshop, built = self._workshop, target.build
        self._trouble = None
        try:
            await self._step("building")
            built = "failed"
            target = await workshop.fetch(target)
            build = await workshop.build(target)
            built = build.key
            await self._step("starting")
            blueprint = workshop.blueprint(target, build)
            await self._group.roll(blueprint, target.options.instances)
        except Failure as failure:
            await self._fail(target, built, failure)
        else:
            await self._succeed(target, built)

    async def _fail(self, target: Deployment, built: str, failure: Failure) -> None:
        if self._group.generation in ("", target.generation):
            # Nothing else is there: this is what the user sees, and what is tried again.
            self._trouble = failure
            await self._settle(self._heir(target, built))
        else:
            line = f"update failed, the version before stays: {failure.line}"
            self._trouble = Failure(line, failure.output)
            await self._settle(msgspec.structs.replace(self.record, build=built, target=None))

    async def _succeed(self, target: Deployment, built: str) -> None:
        announces = await self._presence.other_names(self._group.processes)
        record = msgspec.structs.replace(self._heir(target, built), announces=announces)
        last = record.history[-1] if record.history else None
        if last is None or not _same(last, target):
            history = [*record.history, self._version(target)][-MAX_HISTORY:]
            record = msgspec.structs.replace(record, history=history)
        await self._settle(record)
        kept = {version.hash for version in record.history}
        await asyncio.to_thread(self._workshop.checkouts.keep_only, record.label, kept)

    def _heir(self, target: Deployment, built: str) -> Deployment:
        """The target in the record's place: the line of revisions and versions goes on."""
        return msgspec.structs.replace(
            target,
            build=built,
            history=self.record.history,
            revision=self.record.revision,
            target=None,
        )

    def _version(self, target: Deployment) -> Version:
        return Version(
            hash=target.hash,
            source=str(target.source),
            version=target.version,
            commit=target.commit,
            command=target.options.command,
            author=target.author,
            message=target.message,
            time=self._workshop.clock.time(),
        )

    async def _restore(self, processes: dict[int, str], *, trusted: bool) -> None:
        record, workshop = self.record, self._workshop
        if record.generation and workshop.has_source(record):
            try:
                build = await workshop.build(record)
                blueprint = workshop.blueprint(record, build)
                count = record.options.instances
                await self._group.adopt(blueprint, processes, count, trusted=trusted)
            except Failure as failure:
                self._trouble = failure
            await self._settle()
        elif record.target is None:
            await self._deploy(record)
        if self.record.target:
            await self._deploy(self.record.target)

    async def _step(self, status: Status) -> None:
        self._busy = status
        await self._put(status=status)

    async def _settle(self, record: Deployment | None = None) -> None:
        """Nothing is under way any more: from now on the replicas tell the status."""
        self._busy = None
        self.record = record or self.record
        await self._put(**self._standing())

    async def _follow(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            standing = self._standing()
            if any(getattr(self.record, name) != value for name, value in standing.items()):
                await self._put(**standing)

    def _standing(self) -> dict[str, Any]:
        """What the replicas, and the last deploy, say of status and error."""
        broken, ready = self._group.broken(), self._group.ready
        error, output = "", list[str]()
        if broken:
            error, output = broken.error, broken.output
        elif self._trouble:
            error, output = self._trouble.line, self._trouble.output
        status: Status = "running" if ready else "error" if error else "starting"
        return {"status": self._busy or status, "error": error, "output": output, "ready": ready}

    async def _put(self, **fields: Any) -> None:
        """Change the record; one that cannot be written now is written with the next change."""
        self._show(self._next(**fields))
        try:
            await self._workshop.records.save(self.record)
        except errors.Error as error:
            logger.warning("the record of %s stays unwritten: %s", self.record.name, error.detail)
        except Exception:
            logger.warning("the record of %s stays unwritten", self.record.name, exc_info=True)

    def _next(self, **fields: Any) -> Deployment:
        return msgspec.structs.replace(self.record, revision=self.record.revision + 1, **fields)

    def _show(self, record: Deployment) -> None:
        self.record = record
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _same(version: Version, target: Deployment) -> bool:
    """Whether a version is what a deployment has become again."""
    same = (version.hash, version.commit) == (target.hash, target.commit)
    return same and version.command == target.options.command
