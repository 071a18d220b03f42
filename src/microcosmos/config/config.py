"""Config: the documents of all namespaces, in a store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from microcosmos.base import codec, errors, names
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.tasks import background
from microcosmos.store import PLATFORM, Store, Write

from . import history, paths, tree
from .interface import MAX_DOCUMENT, MAX_REVISIONS, Document, Kept, Node, Revision, Tree
from .keys import Keys
from .paths import Path
from .rotation import Rotation, Sharer
from .seals import Maker, NoKey, Seals
from .values import encoded

TABLE = "config"
"""Where the documents stand, under their namespaces, in the database of the platform."""

RETRY = 1.0
"""Seconds until changes are listened to again, when the store could not be listened to."""

log = logging.getLogger("microcosmos.config")

Reveal = Callable[[Path, Any], Any]
"""What stands for a secret leaf: its value, or the mask."""


class Config:
    """One document of settings for each namespace.

    Paths are dotted (see `paths`), values are JSON, and every change is atomic: of two writers at
    once neither undoes what the other did elsewhere. Made by `open_config`.

    Args:
        store: keeps the documents and their history.
        keys: of the secrets.
        clock: where the times of the history come from.
        sharers: who else keeps secrets by these keys.
    """

    def __init__(
        self, store: Store, keys: Keys, *, clock: Clock = SYSTEM, sharers: Sequence[Sharer] = ()
    ) -> None:
        self.keys = keys
        self._documents = store.table(TABLE, database=PLATFORM)
        self._history = store.table(history.TABLE, database=PLATFORM)
        self._clock = clock
        self._writing = asyncio.Lock()
        self._known: dict[str, Document] = {}
        self._changed = asyncio.Event()
        self._closed = False
        self._rotation = Rotation(self._documents, self._history, keys, self._writing, sharers)

    # Reading.

    async def document(self, namespace: str) -> Document:
        """All of a namespace; one without config has an empty document.

        Raises:
            errors.BadRequest: the namespace is empty, or cannot be one.
        """
        names.check_namespace(namespace)
        try:
            record = await self._documents.read(namespace)
        except errors.NotFound:
            self._known.pop(namespace, None)
            return Document(namespace, {})
        known = self._known.get(namespace)
        if known is None or known.version != record.version:
            known = _decoded(namespace, record.value, record.version)
            self._known[namespace] = known
        return known

    async def get(self, namespace: str, path: str = "", *, secret: bool = False) -> Any:
        """The JSON that stands at a path; secrets are masked.

        Args:
            namespace: whose.
            path: which leaf or tree; an empty one is the whole document.
            secret: give secrets in the clear.

        Raises:
            errors.NotFound: nothing is there.
            errors.InternalServerError: a secret whose key is not here was asked for.
        """
        keys = paths.parse(path)
        document = await self.document(namespace)
        node = found(document, keys)
        reveal: Reveal = self.seals(namespace).open if secret else tree.masked
        return tree.json_of(node, reveal, keys)

    def seals(self, namespace: str) -> Seals:
        """What opens the secrets of a namespace."""
        return Seals(self.keys, namespace)

    # Writing.

    async def set(
        self, namespace: str, path: str, value: Any, *, secret: bool = False, account: str = ""
    ) -> int:
        """Put a value at a path: a map merges with the one there, anything else replaces.

        What replaces a secret is encrypted too; delete it first to have it plain.

        Args:
            namespace: whose.
            path: where; an empty one takes a map.
            value: any JSON.
            secret: encrypt each leaf of it.
            account: who does so, for the history.

        Returns:
            The number of the document's revision.

        Raises:
            errors.BadRequest: a path or a value that cannot be.
            errors.TooLarge: the document would be over `MAX_DOCUMENT`.
            errors.InternalServerError: the key for a secret is not here.
        """
        keys = paths.parse(path)
        value = codec.decode(encoded(value))
        if not keys and not isinstance(value, dict):
            raise errors.BadRequest("config", "name a path: only a map can be set without one")
        tree.check(value, keys)

        async def changed(old: Document) -> Tree:
            make = Maker(self.keys, old)
            try:
                return tree.merge(old.tree, keys, value, make, secret=secret)
            except NoKey:
                await self._make_key()
                return tree.merge(old.tree, keys, value, make, secret=secret)

        return await self._change(namespace, changed, "set", path, account)

    async def delete(self, namespace: str, path: str, *, account: str = "") -> int:
        """Remove a leaf or a tree; the maps that it was in stay.

        Returns:
            The number of the document's revision.

        Raises:
            errors.BadRequest: the path is empty, or cannot be one.
            errors.NotFound: nothing is there.
        """
        keys = paths.parse(path)
        if not keys:
            raise errors.BadRequest("config", "name a path to delete")

        async def changed(old: Document) -> Tree:
            found(old, keys)
            return tree.without(old.tree, keys) or {}

        return await self._change(namespace, changed, "delete", path, account)

    async def rollback(self, namespace: str, revision: int, *, account: str = "") -> int:
        """Make a document what it was after a revision, as a new revision.

        Raises:
            errors.NotFound: there is no such revision, or what followed is forgotten already.
        """

        async def changed(old: Document) -> Tree:
            return await self._as_of(old, revision)

        return await self._change(namespace, changed, f"rollback to {revision}", "", account)

    async def _as_of(self, document: Document, revision: int) -> Tree:
        if not 0 <= revision <= document.revision:
            detail = f"there is no revision {revision}; the last one is {document.revision}"
            raise errors.NotFound("config", detail)
        was, expected = document.tree, document.revision
        newest = history.newest_first(self._history, document.namespace, expected + 1)
        async with contextlib.aclosing(newest) as revisions:
            async for one in revisions:
                if expected == revision or one.revision != expected:
                    break
                was, expected = tree.undone(was, one.changes), expected - 1
        if expected != revision:
            raise errors.NotFound(
                "config",
                f"revision {revision} cannot be restored: the last {MAX_REVISIONS} changes are "
                f"kept, and the oldest that can be is {expected}",
            )
        return was

    async def _change(
        self,
        namespace: str,
        changed: Callable[[Document], Awaitable[Tree]],
        action: str,
        path: str,
        account: str,
    ) -> int:
        names.check_namespace(namespace)
        async with self._writing:
            while True:
                old = await self.document(namespace)
                new = await changed(old)
                changes = list(tree.diff(old.tree, new))
                if not changes:
                    return old.revision
                number = old.revision + 1
                revision = Revision(number, self._clock.time(), account, action, path, changes)
                try:
                    await self._commit(old, Document(namespace, new, number), revision)
                except errors.Conflict:
                    continue  # another core was faster
                return number

    async def _commit(self, old: Document, new: Document, revision: Revision) -> None:
        data = codec.encode(Kept(new.revision, tree.to_kept(new.tree)))
        if len(data) > MAX_DOCUMENT:
            raise errors.TooLarge(
                "config",
                f"the config of {new.namespace} would have {len(data)} bytes; at most "
                f"{MAX_DOCUMENT} are kept",
            )
        ops = [
            Write(new.namespace, data, version=old.version),
            *history.ops(new.namespace, revision),
        ]
        version = await self._documents.batch(ops)
        # Not read again: it shares what did not change with the old one, which makes it cheap to
        # tell everybody what did.
        self._known[new.namespace] = msgspec.structs.replace(new, version=version)
        self._tell()

    # Keys.

    async def _make_key(self) -> None:
        """Make the first key, unless there are secrets that were encrypted with another one."""
        for namespace in await self._documents.list():
            document = await self.document(namespace)
            self.seals(namespace).check(document.tree)
        self.keys.make()

    async def rotate_key(self) -> int:
        """Encrypt all secrets with a new key; the old one is kept until that is done.

        With keys that were given, the first of them is the new one, and the operator drops the
        others.

        Returns:
            How many secrets there are.

        Raises:
            errors.BadRequest: a single key was given, by flag or variable.
            errors.InternalServerError: a secret cannot be opened; nothing was done.
        """
        return await self._rotation.rotate()

    # Following.

    def revisions(self, namespace: str, before: int = 0) -> AsyncGenerator[Revision, None]:
        """The changes of a namespace, the newest first.

        Args:
            namespace: whose.
            before: only those with a smaller number; 0 is all.
        """
        names.check_namespace(namespace)
        return history.newest_first(self._history, namespace, before)

    async def follow(self, namespace: str) -> AsyncGenerator[Document, None]:
        """The document now, and then whenever it is another, for ever.

        Of several changes in a row it may be the last one only.

        Raises:
            errors.Unavailable: this process ends.
        """
        last: Document | None = None
        while True:
            changed = self._changed
            if self._closed:
                raise errors.Unavailable("config", "the core stops")
            document = await self.document(namespace)
            if last is None or document.version != last.version:
                last = document
                yield document
            else:
                await changed.wait()

    async def listen(self) -> None:
        """Tell followers of what other processes change, for ever."""
        while True:
            try:
                async with self._documents.watch() as changes:
                    self._tell()
                    async for _ in changes:
                        self._tell()
            except errors.Error as error:
                log.warning("changes of config cannot be followed: %s", error.detail)
            await self._clock.sleep(RETRY)

    def close(self) -> None:
        """Let go who follows."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@contextlib.asynccontextmanager
async def open_config(
    store: Store,
    keys: Keys | None = None,
    *,
    clock: Clock = SYSTEM,
    sharers: Sequence[Sharer] = (),
) -> AsyncIterator[Config]:
    """A config in a store, which ends a rotation of the key that was broken off.

    Args:
        store: any table of it; config has its own.
        keys: of the secrets; without them they are made when needed, and forgotten.
        clock: where times come from.
        sharers: who else keeps secrets by these keys.
    """
    config = Config(store, keys or Keys(), clock=clock, sharers=sharers)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(background(config.listen(), "config"))
        rotation = config._rotation
        await stack.enter_async_context(background(rotation.resume(), "rotation of the config key"))
        stack.callback(config.close)
        yield config


def found(document: Document, path: Path) -> Node:
    """What stands at a path of a document.

    Raises:
        errors.NotFound: nothing.
    """
    node = tree.find(document.tree, path)
    if node is None or (not path and not node):
        where = paths.write(path)
        detail = f"{where} is not set" if path else "nothing is set"
        raise errors.NotFound("config", f"{detail} in namespace {document.namespace}")
    return node


def _decoded(namespace: str, data: bytes, version: int) -> Document:
    try:
        kept = msgspec.json.decode(data, type=Kept)
        node = tree.from_kept(kept.tree)
    except (*codec.DECODE_ERRORS, TypeError, IndexError) as exc:
        raise errors.InternalServerError(
            "config", f"the config of {namespace} is damaged in the store: {exc}"
        ) from None
    assert isinstance(node, dict), "a document is a map"
    return Document(namespace, node, kept.revision, version)
