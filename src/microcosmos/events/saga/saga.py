"""Saga: what an author writes."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import msgspec

from microcosmos.base import codec, context, errors, payload
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.events.checks import check_name
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.lease import LEASE
from microcosmos.events.transactions.transaction import Box
from microcosmos.store import Store

from .journal import Entry, Journal, Progress, Status
from .runner import Runner
from .step import MAX_OUTPUT, MAX_STEPS, Step, taking

T = TypeVar("T")


class Saga(Generic[T]):
    """Steps that all happen, or are all taken back, whatever dies meanwhile.

        transfer = Saga("transfer", Transfer, [Step(debit, undo=refund), Step(credit)])

        async with transfer.on(store):
            await transfer.start("t1", Transfer("ann", "bob", 500))
            assert (await transfer.result("t1")).status == "done"

    The steps are tried in their order; one that fails is tried again, with pauses. When one fails
    for good, those that may have happened are taken back, the last one first. How far a saga is
    stands in the store: when its process dies, another one that is `on` the same store goes on.

    Args:
        name: what the saga does, unique in its store: letters, digits and the like.
        kind: the type of its input; what JSON carries.
        steps: in their order.

    Raises:
        errors.BadRequest: a bad name.
        TypeError: no steps or over `MAX_STEPS`, two with one name, or an action that is no async
            function of an input.
    """

    def __init__(self, name: str, kind: type[T], steps: Sequence[Step[T]]) -> None:
        self.name = _checked("name of a saga", name)
        self._decode = payload.decoder(kind)
        self._steps = {_checked("name of a step", step.title): step for step in steps}
        if len(self._steps) < len(steps):
            raise TypeError(f"two steps of the saga {name} have the same name")
        if not 1 <= len(steps) <= MAX_STEPS:
            raise TypeError(f"the saga {name} has {len(steps)} steps; it can have 1 to {MAX_STEPS}")
        for step in steps:
            for action in (step.action, step.undo):
                if action is not None:
                    taking(action)
        self._journal: Journal | None = None
        self._runner: Runner[T] | None = None

    @asynccontextmanager
    async def on(
        self,
        store: Store,
        outbox: Box | None = None,
        *,
        namespace: str = context.DEFAULT_NAMESPACE,
        client: object | None = None,
        lease: float = LEASE,
        clock: Clock = SYSTEM,
    ) -> AsyncIterator[Saga[T]]:
        """Work on these sagas in this process until the block ends.

        Args:
            store: the table that they are kept with, and that transactions of steps are on.
            outbox: by which these publish events.
            namespace: where calls of the steps are made.
            client: what they are made with.
            lease: seconds after which others go on with the sagas of a process that is gone
                without a word.
            clock: what pauses and times go by.
        """
        inbox = Inbox(store, outbox)
        self._journal = Journal(store, self.name, clock)
        runner = Runner(
            self.name,
            self._decode,
            self._steps,
            self._journal,
            inbox,
            lease=lease,
            clock=clock,
            namespace=namespace,
            client=client,
        )
        try:
            async with runner:
                self._runner, self._clock = runner, clock
                yield self
        finally:
            self._journal = self._runner = None

    async def start(self, id: str, input: T) -> Progress:
        """Begin a saga; returned, it is durable, and will come to one of its ends.

        It may be asked for again: a saga of that id and input is not begun twice.

        Args:
            id: its name; for a saga that an event begins the event's id is a good one.
            input: what the actions get.

        Raises:
            errors.BadRequest: the id is none, or JSON cannot carry the input.
            errors.Conflict: there is a saga of that id with another input.
            RuntimeError: it is not `on` a store.
        """
        journal, runner = self._running()
        written = self._written(input)
        progress = Progress(
            check_name("id of a saga", id),
            "running",
            written,
            started=self._clock.time(),
            trace=context.current().trace or context.new_trace(),
        )
        with runner.place() as name:
            try:
                entry = await journal.add(progress, name)
            except errors.Conflict:
                return self._same(await self._entry(id), written)
            if name:
                runner.take(entry)
        return entry.progress

    async def get(self, id: str) -> Progress:
        """How far a saga is.

        Raises:
            errors.NotFound: there is none of that id, or its end is `journal.KEEP_ENDED` ago.
        """
        return (await self._entry(id)).progress

    async def result(self, id: str) -> Progress:
        """Wait until a saga is ``done``, ``undone`` or ``stuck``.

        Raises:
            errors.NotFound: as of `get`.
        """
        journal, _ = self._running()
        while True:
            async with journal.table.watch(prefix=journal.key(id)) as changes:
                progress = await self.get(id)
                if progress.ended:
                    return progress
                async for change in changes:
                    if change.key == journal.key(id):
                        break

    async def list(
        self, status: Status | None = None, *, limit: int = 100, after: str = ""
    ) -> builtins.list[Progress]:
        """Sagas by id, of one status or of all; ``after`` is an id."""
        journal, _ = self._running()
        found: builtins.list[Progress] = []
        while len(found) < limit:
            ids = await journal.ids(status, limit, after)
            if not ids:
                break
            after = ids[-1]
            entries = [await journal.find(id) for id in ids]
            every = [entry.progress for entry in entries if entry is not None]
            found += [one for one in every if status is None or one.status == status]
        return found[:limit]

    async def resume(self, id: str) -> Progress:
        """Try again to bring a ``stuck`` saga to its end, once what stopped it is mended.

        Raises:
            errors.Conflict: it is not stuck.
            errors.NotFound: as of `get`.
        """
        journal, _ = self._running()
        entry = await self._entry(id)
        progress = entry.progress
        if progress.status != "stuck":
            raise errors.Conflict("saga", f"{self.name} {id} is {progress.status}, not stuck")
        steps = {
            name: msgspec.structs.replace(state, undos=0) for name, state in progress.steps.items()
        }
        status: Status = "undoing" if progress.undoing else "running"
        again = msgspec.structs.replace(progress, status=status, steps=steps)
        return (await journal.reopen(entry, again)).progress

    def _written(self, input: T) -> Any:
        try:
            written = payload.encode(input)
            self._decode(written)
        except (*codec.DECODE_ERRORS, TypeError, ValueError, NotImplementedError) as exc:
            raise errors.BadRequest("saga", f"the input of {self.name}: {exc}") from None
        if len(written) > MAX_OUTPUT:
            detail = f"the input of {self.name} has {len(written)} bytes; the limit is {MAX_OUTPUT}"
            raise errors.TooLarge("saga", detail)
        return msgspec.json.decode(written)

    def _same(self, entry: Entry, written: Any) -> Progress:
        if entry.progress.input != written:
            detail = f"there is a {self.name} {entry.progress.id} already, with another input"
            raise errors.Conflict("saga", detail)
        return entry.progress

    async def _entry(self, id: str) -> Entry:
        journal, _ = self._running()
        entry = await journal.find(check_name("id of a saga", id))
        if entry is None:
            raise errors.NotFound("saga", f"there is no {self.name} {id}")
        return entry

    def _running(self) -> tuple[Journal, Runner[T]]:
        if self._journal is None or self._runner is None:
            raise RuntimeError(f"the saga {self.name} is not on a store yet: enter `on`")
        return self._journal, self._runner


def _checked(what: str, name: str) -> str:
    if "/" in name:
        raise errors.BadRequest("saga", f"{name!r:.80} cannot be the {what}: it has a /")
    return check_name(what, name)
