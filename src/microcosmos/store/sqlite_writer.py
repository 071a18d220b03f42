"""The one writer of a database: a thread where waiting writes share a transaction and its sync."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from microcosmos.base import errors

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]
"""Changes something inside the writer's transaction; may run again if that was rolled back.

It raises an `errors.Error` only before its first change: the work of others, in the same
transaction, is committed all the same.
"""

_MAX_GROUP = 1000


class _Job(NamedTuple):
    work: Work[Any]
    done: asyncio.Future[Any]
    after: Callable[[Any], None] | None


class Writer:
    """Runs work on a connection, in the order of the calls, from now until `close`.

    What is asked for in one turn of the loop is committed together, and so is all that came in
    while the commit before was being synced.

    Args:
        connection: used by nobody else.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._turn: list[_Job] = []
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T], after: Callable[[T], None] | None = None) -> T:
        """Do some work; its changes are on the disk on return.

        Args:
            work: the changes.
            after: called with what it returned once it is on the disk, even if the caller has
                gone by then.

        Raises:
            errors.Error: the work refused.
            sqlite3.Error: the database failed; nothing was changed.
        """
        if self._closed:
            raise errors.Unavailable("store", "the store is closed")
        if not self._turn:
            self._loop.call_soon(self._send)
        job = _Job(work, self._loop.create_future(), after)
        self._turn.append(job)
        result: T = await job.done
        return result

    async def close(self) -> None:
        """Finish what was asked for, then stop."""
        self._closed = True
        self._send()
        self._queue.put(None)
        try:
            await asyncio.to_thread(self._thread.join)
        finally:
            self._thread.join()  # even when cancelled: the connection is closed next

    def _send(self) -> None:
        if self._turn:
            self._queue.put(self._turn)
            self._turn = []

    def _serve(self) -> None:
        while group := self._next_group():
            outcomes = self._commit(group)
            # A loop that was closed without us has nobody waiting.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_tell, group, outcomes)

    def _next_group(self) -> list[_Job]:
        group = list(self._queue.get() or ())
        while group and len(group) < _MAX_GROUP and not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self._queue.put(None)  # the end, for the next call
                break
            group += more
        return group

    def _commit(self, group: list[_Job]) -> list[Any]:
        try:
            return self._transaction(group)
        except Exception as exc:  # noqa: BLE001 - whatever failed, its caller is told
            if len(group) == 1:
                return [exc]
        # Somebody's work broke the transaction of all: each gets one of its own.
        return [self._commit([job])[0] for job in group]

    def _transaction(self, group: list[_Job]) -> list[Any]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._attempt(job) for job in group]
            self._connection.execute("COMMIT")
            return outcomes
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _attempt(self, job: _Job) -> Any:
        try:
            return job.work(self._connection)
        except errors.Error as refusal:
            return refusal


def _tell(group: list[_Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        if job.after and not isinstance(outcome, Exception):
            job.after(outcome)
        if job.done.done():  # cancelled while it waited
            continue
        if isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)
