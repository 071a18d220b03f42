"""The records of one namespace's schemas: subjects with their versions, and texts by their ids."""

from __future__ import annotations

from microcosmos.base import codec, errors
from microcosmos.store import Check, Op, Record, Store, Write

from . import interface as ids
from .document import Document
from .kept import KeptSubject, KeptVersion, Keys, subject_from


class Records:
    """Reads and writes them; who changes something says what it was, and tries again.

    Args:
        store: where they are kept.
        keys: of the namespace.
        namespace: its name, for people.
    """

    def __init__(self, store: Store, keys: Keys, namespace: str) -> None:
        self._store = store
        self._keys = keys
        self._namespace = namespace

    async def all(self, prefix: str = "") -> list[tuple[str, KeptSubject]]:
        """The subjects, sorted by name."""
        records = await self._store.read(prefix=self._keys.subject(prefix))
        return [
            (one.key.removeprefix(self._keys.subjects), subject_from(one.value)) for one in records
        ]

    async def subject(self, name: str) -> tuple[Record, KeptSubject]:
        """A subject, one without versions if there is none."""
        key = self._keys.subject(name)
        try:
            record = await self._store.read(key)
        except errors.NotFound:
            return Record(key), KeptSubject()
        return record, subject_from(record.value)

    async def text(self, id: int) -> str:
        """The JSON text of a schema.

        Raises:
            errors.NotFound: there is none of that id.
        """
        try:
            record = await self._store.read(self._keys.id(id))
        except errors.NotFound:
            detail = f"there is no schema {id} in namespace {self._namespace}"
            raise errors.NotFound(ids.NO_SCHEMA, detail) from None
        return record.value.decode()

    async def id_of(self, document: Document) -> int:
        """The id of a schema, 0 when it has none."""
        try:
            record = await self._store.read(self._keys.identity(document.identity))
        except errors.NotFound:
            return 0
        return int(record.value)

    async def add(
        self, record: Record, kept: KeptSubject, document: Document, author: str, time: float
    ) -> KeptVersion:
        """Add a version to a subject as it was read.

        Raises:
            errors.Conflict: somebody else was faster.
        """
        id = await self.id_of(document)
        if id:
            text = await self._store.read(self._keys.id(id))
            ops: list[Op] = [Check(text.key, text.version)]
        else:
            id, ops = await self._new_id(document)
        number = kept.versions[-1].version + 1 if kept.versions else 1
        added = KeptVersion(number, id, author, time)
        value = codec.encode(KeptSubject([*kept.versions, added]))
        await self._store.batch([*ops, Write(record.key, value, version=record.version)])
        return added

    async def _new_id(self, document: Document) -> tuple[int, list[Op]]:
        try:
            last = await self._store.read(self._keys.last_id)
        except errors.NotFound:
            last = Record(self._keys.last_id, b"0")
        id = int(last.value) + 1
        number = str(id).encode()
        return id, [
            Write(last.key, number, version=last.version),
            Write(self._keys.identity(document.identity), number, version=0),
            Write(self._keys.id(id), document.text.encode(), version=0),
        ]
