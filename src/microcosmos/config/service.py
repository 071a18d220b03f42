"""Config served over rpc, with the endpoints of Micro v3 and a few more."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.audit import Audit, unaudited
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Access, Endpoint, Hosted

from . import access, paths, tree
from .access import Caller
from .config import Config, found
from .history import touches
from .interface import MASK, Change, Document, Node, Revision, Secret
from .paths import Path
from .wire import (
    FORMAT,
    MAX_LISTED,
    NAME,
    Changed,
    ChangeSet,
    DeleteRequest,
    DeleteResponse,
    Followed,
    FollowRequest,
    GetRequest,
    GetResponse,
    HistoryRequest,
    HistoryResponse,
    ReadChange,
    ReadRequest,
    ReadResponse,
    RollbackRequest,
    RotateRequest,
    RotateResponse,
    SetRequest,
    SetResponse,
    ShownChange,
    ShownRevision,
    Value,
)

MAX_SHOWN = 1000
"""Characters of a value in the history; what is longer is cut."""

MAX_CHANGES = 100
"""Changes of one revision that the history shows."""


class ConfigService:
    """Serves config.

    Args:
        config: the core's own.
        trusting: whether there are no accounts here, and the anonymous may do everything.
        audit: notes that the key was changed.
    """

    def __init__(self, config: Config, *, trusting: bool = False, audit: Audit = unaudited) -> None:
        self._config = config
        self._trusting = trusting
        self._audit = audit

    def hosted(self) -> Hosted:
        """The service ``config``."""
        endpoints = [
            _endpoint(self.get, "service"),
            _endpoint(self.set, "service"),
            _endpoint(self.delete, "service"),
            _endpoint(self.read, "service"),
            _endpoint(self.watch, "service"),
            _endpoint(self.follow, "service"),
            _endpoint(self.history, "service"),
            _endpoint(self.rollback, "admin"),
            _endpoint(self.rotate_key, "platform"),
        ]
        return Hosted(NAME, endpoints)

    def _caller(self, namespace: str) -> Caller:
        return access.caller(namespace, trusting=self._trusting)

    async def get(self, request: GetRequest) -> GetResponse:
        """The value at a path; secrets are masked unless options.secret asks for them."""
        caller = self._caller(request.namespace)
        path = paths.parse(request.path)
        node = found(await self._config.document(caller.namespace), path)
        return GetResponse(self._value(caller, path, node, secret=request.options.secret))

    async def read(self, request: ReadRequest) -> ReadResponse:
        """The value at a path, in the form of Micro's older clients."""
        caller = self._caller(request.namespace)
        path = paths.parse(request.path)
        document = await self._config.document(caller.namespace)
        value = self._value(caller, path, found(document, path), secret=False)
        async with aclosing(self._config.revisions(caller.namespace)) as revisions:
            latest = await anext(revisions, None)
        checksum = hashlib.md5(value.data.encode(), usedforsecurity=False).hexdigest()
        when = int(latest.time) if latest else 0
        changes = ChangeSet(value.data, checksum, value.format, NAME, when)
        return ReadResponse(ReadChange(caller.namespace, request.path, changes))

    async def set(self, request: SetRequest) -> SetResponse:
        """Put a value at a path: a map merges with the one there, anything else replaces."""
        caller = self._caller(request.namespace)
        path = paths.parse(request.path)
        caller.check_change(path)
        revision = await self._config.set(
            caller.namespace,
            request.path,
            _read(request.value),
            secret=request.options.secret,
            account=caller.name,
        )
        return SetResponse(revision)

    async def delete(self, request: DeleteRequest) -> DeleteResponse:
        """Remove the leaf or the tree at a path."""
        caller = self._caller(request.namespace)
        caller.check_change(paths.parse(request.path))
        revision = await self._config.delete(caller.namespace, request.path, account=caller.name)
        return DeleteResponse(revision)

    async def watch(self, request: GetRequest) -> AsyncIterator[Changed]:
        """The changes at and below a path, from now on."""
        caller = self._caller(request.namespace)
        path = paths.parse(request.path)
        secret = request.options.secret
        async with aclosing(self._changes(caller.namespace)) as all_changes:
            async for document, snapshot, changes in all_changes:
                for one in () if snapshot else changes:
                    if (narrowed := _narrowed(one, path)) is not None:
                        old, new = (
                            None
                            if node is None
                            else self._value(caller, narrowed.path, node, secret=secret)
                            for node in (narrowed.old, narrowed.new)
                        )
                        yield Changed(paths.write(narrowed.path), document.revision, old, new)

    async def follow(self, request: FollowRequest) -> AsyncIterator[Followed]:
        """The whole document with the secrets that the caller may read, then what changes."""
        caller = self._caller(request.namespace)
        async with aclosing(self._changes(caller.namespace)) as all_changes:
            async for document, snapshot, changes in all_changes:
                told = [
                    (list(one.path), self._marked(caller, one.path, one.new)) for one in changes
                ]
                yield Followed(document.revision, snapshot, told)

    async def _changes(
        self, namespace: str
    ) -> AsyncGenerator[tuple[Document, bool, list[Change]], None]:
        """The document, and whether it is the first; then what changed in it."""
        last: Document | None = None
        async with aclosing(self._config.follow(namespace)) as documents:
            async for document in documents:
                if last is None:
                    yield document, True, [Change((), None, document.tree)]
                else:
                    changes = list(tree.diff(last.tree, document.tree))
                    if last.revision == document.revision:
                        # Secrets that are encrypted with another key are what they were.
                        changes = [one for one in changes if not _only_sealed(one)]
                    if changes or last.revision != document.revision:
                        yield document, False, changes
                last = document

    async def history(self, request: HistoryRequest) -> HistoryResponse:
        """What was changed at, below or above a path, and by whom, the newest first."""
        caller = self._caller(request.namespace)
        path = paths.parse(request.path)
        if not 0 < request.limit <= MAX_LISTED or request.before < 0:
            detail = f"limit is a number from 1 to {MAX_LISTED}, and before one from 0"
            raise errors.BadRequest("config", detail)
        listed: list[ShownRevision] = []
        revisions = self._config.revisions(caller.namespace, request.before)
        async with aclosing(revisions) as newest_first:
            async for one in newest_first:
                if changes := touches(one, path):
                    listed.append(_shown(one, changes))
                if len(listed) == request.limit:
                    break
        return HistoryResponse(listed)

    async def rollback(self, request: RollbackRequest) -> SetResponse:
        """Make the document what it was after a revision, as a new revision."""
        caller = self._caller(request.namespace)
        caller.check_admin("roll config back")
        revision = await self._config.rollback(
            caller.namespace, request.revision, account=caller.name
        )
        return SetResponse(revision)

    async def rotate_key(self, request: RotateRequest) -> RotateResponse:
        """Encrypt the secrets of all namespaces with a new key."""
        self._caller("").check_everywhere("change the key of secrets")
        secrets = await self._config.rotate_key()
        await self._audit("config key rotated", NAME, f"{secrets} secrets")
        return RotateResponse(secrets, self._config.keys.all()[0].id)

    def _value(self, caller: Caller, path: Path, node: Node, *, secret: bool) -> Value:
        """The JSON of a node, secrets in the clear if they were asked for and may be read."""
        if not secret:
            return _written(tree.json_of(node, tree.masked, path))
        seals = self._config.seals(caller.namespace)

        def opened(at: Path, one: Secret) -> Any:
            caller.check_open(at)
            return seals.open(at, one)

        return _written(tree.json_of(node, opened, path))

    def _marked(self, caller: Caller, path: Path, node: Node | None) -> Any:
        """A node as `Followed` has it."""
        seals = self._config.seals(caller.namespace)

        def marked(at: Path, node: Node) -> Any:
            if isinstance(node, dict):
                return {key: marked((*at, key), inner) for key, inner in node.items()}
            if not isinstance(node, Secret):
                return [node.value]
            try:
                caller.check_open(at)
                return [seals.open(at, node), True]
            except errors.Error as error:
                return [MASK, error.code, error.detail]

        return None if node is None else marked(path, node)


def _endpoint(function: Callable[..., Any], who: Access) -> Endpoint:
    return endpoint(function, NAME, lenient=True, access=who)


def _only_sealed(change: Change) -> bool:
    return isinstance(change.old, Secret) and isinstance(change.new, Secret)


def _narrowed(change: Change, path: Path) -> Change | None:
    """What of a change is at or below a path; of one above it, what it means there."""
    if paths.below(change.path, path):
        return change
    if not paths.below(path, change.path):
        return None
    rest = path[len(change.path) :]
    old, new = (_inner(node, rest) for node in (change.old, change.new))
    return None if tree.same(old, new) else Change(path, old, new)


def _inner(node: Node | None, rest: Path) -> Node | None:
    if isinstance(node, dict):
        return tree.find(node, rest)
    return None if rest else node


def _written(value: Any) -> Value:
    return Value(msgspec.json.encode(value, order="deterministic").decode(), FORMAT)


def _read(value: Value) -> Any:
    """The JSON of a value that was sent.

    Raises:
        errors.BadRequest: it is none.
    """
    if value.format not in ("", FORMAT):
        detail = f"value.format: {value.format!r:.40} is unknown; send {FORMAT}"
        raise errors.BadRequest("config", detail)
    try:
        return codec.decode(value.data)
    except errors.BadRequest as exc:
        raise errors.BadRequest("config", f"value.data is no JSON: {exc.detail}") from None


def _shown(revision: Revision, changes: list[Change]) -> ShownRevision:
    return ShownRevision(
        revision.revision,
        revision.time,
        revision.account,
        revision.action,
        revision.path,
        list(_texts(changes[:MAX_CHANGES])),
        max(0, len(changes) - MAX_CHANGES),
    )


def _texts(changes: list[Change]) -> Iterator[ShownChange]:
    for one in changes:
        old, new = (
            "" if node is None else _cut(_written(tree.json_of(node, tree.masked)).data)
            for node in (one.old, one.new)
        )
        yield ShownChange(paths.write(one.path), old, new)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
