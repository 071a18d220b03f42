"""The journal: how far each saga is, in the store."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import Clock
from microcosmos.events.transactions.transaction import find
from microcosmos.store import Delete, Op, Store, Write

JOURNAL = "sagas"
"""The part of a table with the sagas that began there."""

KEEP_ENDED = 7 * 86400.0
"""Seconds that a saga is remembered after its end, and its steps' keys."""

Status = Literal["running", "undoing", "done", "undone", "stuck"]
"""``running`` and ``undoing`` are worked on, ``done`` and ``undone`` are ends.

A ``stuck`` one could not be undone, and waits for people.
"""

ENDS: tuple[Status, ...] = ("done", "undone")

_TOKEN = "token"


class StepState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a step.

    Attributes:
        state: ``begun`` steps have happened or not, ``refused`` ones have not.
        attempts: of the action.
        undos: attempts of the undo.
        output: what the action returned.
        error: why the last attempt failed.
    """

    state: Literal["begun", "done", "refused", "undone"]
    attempts: int = 0
    undos: int = 0
    output: Any = None
    error: str = ""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a saga is.

    Attributes:
        id: which one it is.
        status: see `Status`.
        input: as JSON has it.
        steps: those that were begun, by name, in their order.
        error: why it is not ``done``, once that is known.
        started: in seconds since the epoch.
        changed: when this was written.
        trace: of the call or event that began it.
        undoing: whether it is on its way back, if it is ``stuck``.
    """

    id: str
    status: Status
    input: Any
    steps: dict[str, StepState] = {}
    error: str = ""
    started: float = 0
    changed: float = 0
    trace: str = ""
    undoing: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.status in ENDS or self.status == "stuck"

    @property
    def outputs(self) -> dict[str, Any]:
        """What the actions have returned, by step."""
        return {name: one.output for name, one in self.steps.items() if one.state == "done"}


class Entry(msgspec.Struct, frozen=True):
    """A saga in the journal, at a version."""

    progress: Progress
    version: int


class Open(msgspec.Struct, frozen=True):
    """A saga that is worked on, or should be.

    Attributes:
        id: which one.
        runner: by whom; empty for nobody.
        version: of this note.
    """

    id: str
    runner: str
    version: int


class Journal:
    """The sagas of one name.

    Each has a record of its progress, which only who knows its version replaces, and while it is
    not at its end a note of the runner that works on it. A runner has a lease, kept elsewhere.

    Args:
        store: the table whose part the journal is.
        name: of the sagas.
        clock: what times are of.
    """

    def __init__(self, store: Store, name: str, clock: Clock) -> None:
        self.table = store.part(JOURNAL)
        self._progress = f"{name}/saga/"
        self._open = f"{name}/open/"
        self._stuck = f"{name}/stuck/"
        self.runners = f"{name}/runner/"
        self._clock = clock

    async def find(self, id: str) -> Entry | None:
        """A saga, or None."""
        record = await find(self.table, self._progress + id)
        return None if record is None else Entry(_decoded(record.value), record.version)

    async def add(self, progress: Progress, runner: str) -> Entry:
        """Begin a saga.

        Raises:
            errors.Conflict: there is one of that id.
        """
        note = Write(self._open + progress.id, runner.encode(), version=0)
        return await self._write(progress, 0, note)

    async def save(
        self, entry: Entry, progress: Progress, token: str, more: Sequence[Op] = ()
    ) -> Entry:
        """Replace the progress of a saga, if it is still what is known of it.

        Args:
            entry: what is known.
            progress: what stands there then.
            token: nobody else's: who is not told whether it was done tries again with the same.
            more: is done with it.

        Raises:
            errors.Conflict: somebody else has replaced it, or what there is more.
        """
        ops = list(more)
        if progress.ended:
            ops.append(Delete(self._open + progress.id))
        if progress.status == "stuck":
            ops.append(Write(self._stuck + progress.id, b""))
        return await self._write(progress, entry.version, *ops, token=token)

    async def reopen(self, entry: Entry, progress: Progress) -> Entry:
        """Have a stuck saga worked on again, by whoever comes first.

        Raises:
            errors.Conflict: somebody else did.
        """
        note = Write(self._open + progress.id, b"")
        return await self._write(progress, entry.version, note, Delete(self._stuck + progress.id))

    async def claim(self, note: Open, runner: str) -> Entry | None:
        """Work on a saga whose runner is gone; None when somebody else was faster."""
        entry = await self.find(note.id)
        if entry is None or entry.progress.ended:
            return None
        mine = Write(self._open + note.id, runner.encode(), version=note.version)
        try:
            # Written anew, so that a runner before who is not gone after all finds it changed.
            return await self._write(entry.progress, entry.version, mine)
        except errors.Conflict:
            return None

    async def release(self, id: str, runner: str) -> None:
        """Let others work on a saga, if it is still this runner's."""
        record = await find(self.table, self._open + id)
        if record is not None and record.value == runner.encode():
            await self.table.write(self._open + id, b"", version=record.version)

    async def orphans(self) -> list[Open]:
        """Sagas that are not at their end, and that no runner works on."""
        # In this order: who writes such a note has its lease before. One that is lost is never
        # taken again: runners have new names then.
        records = await self.table.read(prefix=self._open)
        runners = {key[len(self.runners) :] for key in await self.table.list(self.runners)}
        notes = [Open(r.key[len(self._open) :], r.value.decode(), r.version) for r in records]
        return [note for note in notes if note.runner not in runners]

    async def ids(self, status: Status | None, limit: int, after: str) -> list[str]:
        """Ids in order; of a status there may be others among them."""
        if status == "stuck":
            prefix = self._stuck
        elif status in ("running", "undoing"):
            prefix = self._open
        else:
            prefix = self._progress
        keys = await self.table.list(prefix, limit=limit, after=prefix + after if after else "")
        return [key[len(prefix) :] for key in keys]

    def key(self, id: str) -> str:
        """The record of a saga's progress."""
        return self._progress + id

    def open_notes(self) -> str:
        """How the keys of notes begin."""
        return self._open

    async def _write(self, progress: Progress, version: int, *ops: Op, token: str = "") -> Entry:
        progress = msgspec.structs.replace(progress, changed=self._clock.time())
        token = token or new_token()
        key, value = self._progress + progress.id, msgspec.json.encode(progress)
        expiry = KEEP_ENDED if progress.status in ENDS else 0
        written = Write(key, value, expiry, {_TOKEN: token}, version)
        try:
            version = await self.table.batch([written, *ops])
        except errors.Conflict:
            record = await find(self.table, key)
            if record is None or record.metadata.get(_TOKEN) != token:
                raise
            # Our own, when what carried it lost the answer and did it again.
            version = record.version
        return Entry(progress, version)


def new_token() -> str:
    """A token for `Journal.save`."""
    return uuid.uuid4().hex


def _decoded(value: bytes) -> Progress:
    return msgspec.json.decode(value, type=Progress)
