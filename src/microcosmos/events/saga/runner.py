"""The runner: works on the sagas of one name in this process, and takes over those of the dead."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from microcosmos.base import errors
from microcosmos.base.clock import Clock
from microcosmos.base.context import (
    DEFAULT_NAMESPACE,
    NAMESPACE,
    TRACE,
    Metadata,
    Unasked,
    set_current,
)
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.lease import Lease
from microcosmos.store.backend import stopped

from .journal import Entry, Journal
from .run import Left, Ousted, Run
from .step import Step

T = TypeVar("T")

log = logging.getLogger("microcosmos.saga")

CONCURRENCY = 256
"""Sagas of one name that a replica works on at once; others wait, or other replicas take them."""

PAUSE = 1.0
"""Seconds from a failure of the store to the next look at it."""

DRAIN = 5.0
"""Seconds that a replica that stops goes on with what it is trying just now."""


class Runner(Generic[T]):
    """Brings sagas to their ends, as long as it holds a lease that says that it lives.

    Args:
        name: of the sagas.
        decode: reads their input.
        steps: by name.
        journal: of the sagas.
        inbox: what transactions of the steps are remembered by.
        lease: seconds after which others take over from a process that is gone.
        clock: what pauses go by.
        namespace: where calls of the steps are made.
        client: what they are made with.
    """

    def __init__(
        self,
        name: str,
        decode: Callable[[bytes], T],
        steps: Mapping[str, Step[T]],
        journal: Journal,
        inbox: Inbox,
        *,
        lease: float,
        clock: Clock,
        namespace: str,
        client: object | None,
    ) -> None:
        self._name = name
        self._decode = decode
        self._steps = steps
        self._journal = journal
        self._inbox = inbox
        self._seconds = lease
        self._clock = clock
        self._client = client
        self._carried = {} if namespace == DEFAULT_NAMESPACE else {NAMESPACE: namespace}
        self._id = ""
        self._group: asyncio.TaskGroup | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._look = asyncio.Event()
        self._kept = 0
        self._more = False
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def place(self) -> Iterator[str]:
        """Keep a place for a saga while the block runs.

        Gives under what name this runner is to work on it; an empty one if there is no place.
        """
        used = len(self._running) + self._kept
        free = self._group is not None and not self._leaving.is_set() and used < CONCURRENCY
        self._kept += free
        try:
            yield self._id if free else ""
        finally:
            self._kept -= free

    async def __aenter__(self) -> Runner[T]:
        # A context of its own: what it does is no part of the call that it may be begun in.
        own = contextvars.Context()
        self._task = asyncio.create_task(self._live(), name=f"saga {self._name}", context=own)
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._leaving.set()
        if tasks := [*self._running.values()]:
            await asyncio.wait(tasks, timeout=DRAIN)
        await stopped(self._task)

    def take(self, entry: Entry) -> None:
        """Work on a saga that says that this runner does."""
        id = entry.progress.id
        if self._group is None or id in self._running:
            return
        work = self._work_on(entry, self._id)
        try:
            task = self._group.create_task(work, name=id, context=contextvars.Context())
        except RuntimeError:  # it ends just now: somebody will find that its runner is gone
            work.close()
        else:
            self._running[id] = task

    async def _live(self) -> None:
        while True:
            self._id = uuid.uuid4().hex
            key = self._journal.runners + self._id
            lease = Lease(self._journal.table, key, seconds=self._seconds)
            try:
                await lease.hold(self._work)
            except errors.Error as exc:
                log.warning("sagas %s wait: %s", self._name, exc.detail)
            except Exception:
                log.exception("sagas %s wait", self._name)
            await self._clock.sleep(PAUSE)

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._listen())
                await self._look_forever()
        finally:
            self._group = None

    async def _look_forever(self) -> None:
        while True:
            self._look.clear()
            try:
                await self._take_orphans()
            except errors.Error as exc:
                log.warning("sagas %s wait: %s", self._name, exc.detail)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds / 2):
                    await self._look.wait()

    async def _listen(self) -> None:
        """Look at once when somebody gives a saga away."""
        prefix = self._journal.open_notes()
        while True:
            try:
                async with self._journal.table.watch(prefix=prefix) as changes:
                    self._look.set()
                    async for change in changes:
                        if change.record is not None and not change.record.value:
                            self._look.set()
            except errors.Error as exc:
                log.info("sagas %s are looked for now and then: %s", self._name, exc.detail)
            await self._clock.sleep(PAUSE)

    async def _take_orphans(self) -> None:
        self._more = False
        for note in await self._journal.orphans():
            if note.id in self._running:
                continue
            with self.place() as name:
                if not name:
                    self._more = True
                    return
                if (entry := await self._journal.claim(note, name)) is not None:
                    log.info("%s %s goes on here", self._name, note.id)
                    self.take(entry)

    async def _work_on(self, entry: Entry, mine: str) -> None:
        id = entry.progress.id
        run = Run(
            self._name,
            self._decode,
            self._steps,
            self._journal,
            self._inbox,
            entry,
            self._clock,
            self._leaving,
        )
        settled = False
        try:
            set_current(
                Unasked(
                    Metadata({**self._carried, TRACE: entry.progress.trace}),
                    None,
                    None,
                    self._client,
                )
            )
            await run.go()
            settled = True
        except Ousted:
            log.info("%s %s goes on elsewhere", self._name, id)
            settled = True
        except Left:
            pass
        except Exception:
            log.exception("%s %s waits", self._name, id)
            await self._clock.sleep(PAUSE)
        finally:
            del self._running[id]
            if not settled:
                with contextlib.suppress(errors.Error):
                    await self._journal.release(id, mine)
            if self._more:
                self._look.set()
