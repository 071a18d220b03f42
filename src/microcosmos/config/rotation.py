"""A new key for all secrets: record by record, so that being killed on the way loses nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store import Record, Store, Write

from . import history, tree
from .interface import Change, Kept, Node, Tree
from .keys import VARIABLE, Keys
from .paths import Path
from .seals import Seals
from .secrets import new_key

log = logging.getLogger("microcosmos.config")

_Change = Callable[[bytes, Seals], bytes | None]
"""What a record becomes; None: it needs no change."""


class Sharer(Protocol):
    """Who else keeps secrets by these keys."""

    async def check(self) -> None:
        """Refuse a rotation while a secret of theirs cannot be opened.

        Raises:
            errors.InternalServerError: one cannot.
        """

    async def again(self) -> bool:
        """Encrypt theirs again that the first key did not; whether there were any."""

    async def count(self) -> int:
        """How many they are."""


class Rotation:
    """Encrypts again what was encrypted with a key that is no longer the first one.

    The new key is kept beside the old one before anything is encrypted with it, and the old one
    until nothing needs it: at every moment each secret can be opened.

    Args:
        documents: the table of the documents.
        revisions: the table of their history.
        keys: the platform's.
        writing: held by whoever encrypts and writes.
        sharers: who else keeps secrets by these keys.
    """

    def __init__(
        self,
        documents: Store,
        revisions: Store,
        keys: Keys,
        writing: asyncio.Lock,
        sharers: Sequence[Sharer] = (),
    ) -> None:
        self._sharers = sharers
        self._documents = documents
        self._revisions = revisions
        self._keys = keys
        self._writing = writing
        self._rotating = asyncio.Lock()

    async def rotate(self) -> int:
        """See `Config.rotate_key`."""
        async with self._rotating:
            async with self._writing:
                await self._check()
                self._begin()
            return await self._finish()

    async def resume(self) -> None:
        """Go on with a rotation that was broken off; errors are logged."""
        try:
            async with self._rotating:
                if not self._keys.given and len(self._keys.all()) > 1:
                    log.info("going on with the rotation of the config key")
                    await self._finish()
        except errors.Error as error:
            log.error("the rotation of the config key cannot go on: %s", error.detail)

    def _begin(self) -> None:
        keys = self._keys.all()
        if not self._keys.given:
            self._keys.add(new_key())
        elif len(keys) < 2:
            raise errors.BadRequest(
                "config.key",
                f"the key is given by {VARIABLE}: put a new key before it there, with a comma "
                "between them, restart the server and rotate again",
            )

    async def _check(self) -> None:
        """Refuse to begin while a secret cannot be opened."""
        for record in await self._documents.read(prefix=""):
            Seals(self._keys, record.key).check(_tree_of(record))
        for sharer in self._sharers:
            await sharer.check()

    async def _finish(self) -> int:
        # Again, until nothing is left: meanwhile another core, or a rollback, may have brought
        # back what the old key encrypted.
        while await self._pass():
            pass
        self._keys.drop_old()
        total = 0
        for record in await self._documents.read(prefix=""):
            total += sum(1 for _ in tree.secrets(_tree_of(record)))
        for sharer in self._sharers:
            total += await sharer.count()
        log.info("the config key is %s now, for %d secrets", self._keys.all()[0].id, total)
        return total

    async def _pass(self) -> bool:
        """Go through all records once; whether there was something to do."""
        changed = False
        async for name in self._documents.all_keys():
            changed |= await self._again(self._documents, name, name, _document)
        async for name in self._revisions.all_keys():
            namespace = name.partition("/")[0]
            changed |= await self._again(self._revisions, name, namespace, _revision)
        for sharer in self._sharers:
            changed |= await sharer.again()
        return changed

    async def _again(self, table: Store, name: str, namespace: str, change: _Change) -> bool:
        seals = Seals(self._keys, namespace)
        while True:
            async with self._writing:
                try:
                    record = await table.read(name)
                except errors.NotFound:
                    return False
                data = change(record.value, seals)
                if data is None:
                    return False
                try:
                    await table.batch([Write(name, data, version=record.version)])
                except errors.Conflict:
                    continue
                return True


def _document(data: bytes, seals: Seals) -> bytes | None:
    kept = msgspec.json.decode(data, type=Kept)
    node = tree.from_kept(kept.tree)
    if not _stale(node, seals):
        return None
    kept.tree = tree.to_kept(tree.with_secrets(node, seals.reseal))
    return codec.encode(kept)


def _revision(data: bytes, seals: Seals) -> bytes | None:
    revision = history.decode(data)
    nodes = [node for one in revision.changes for node in _at(one)]
    if not any(_stale(node, seals, path) for path, node in nodes):
        return None
    changes = [
        Change(one.path, _again(one.old, seals, one.path), _again(one.new, seals, one.path))
        for one in revision.changes
    ]
    return history.encode(msgspec.structs.replace(revision, changes=changes))


def _at(change: Change) -> list[tuple[Path, Node]]:
    return [(change.path, node) for node in (change.old, change.new) if node is not None]


def _again(node: Node | None, seals: Seals, path: Path) -> Node | None:
    return None if node is None else tree.with_secrets(node, seals.reseal, path)


def _stale(node: Node, seals: Seals, path: Path = ()) -> bool:
    """Whether a secret of a node wants another key, and can be opened for that."""
    return any(seals.reseal(at, one) is not one for at, one in tree.secrets(node, path))


def _tree_of(record: Record) -> Tree:
    node = tree.from_kept(msgspec.json.decode(record.value, type=Kept).tree)
    assert isinstance(node, dict), "a document is a map"
    return node
