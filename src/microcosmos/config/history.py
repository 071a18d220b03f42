"""The history: each change of a document as a record, the last `MAX_REVISIONS` of a namespace."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from microcosmos.base import codec
from microcosmos.store import Delete, Op, Store, Write

from . import tree
from .interface import MAX_REVISIONS, Change, Revision
from .paths import Path, overlap

TABLE = "config-history"
"""Where revisions stand: under the namespace and the number."""

_PAGE = 50


class _Kept(msgspec.Struct, omit_defaults=True):
    """A `Revision` as the store has it; of each change the path, the old node and the new one."""

    revision: int
    time: float
    action: str
    changes: list[tuple[list[str], Any, Any]]
    account: str = ""
    path: str = ""


def ops(namespace: str, revision: Revision) -> list[Op]:
    """What of a batch adds a revision and forgets the oldest one."""
    written: list[Op] = [Write(_key(namespace, revision.revision), encode(revision), table=TABLE)]
    if revision.revision > MAX_REVISIONS:
        written.append(Delete(_key(namespace, revision.revision - MAX_REVISIONS), table=TABLE))
    return written


async def newest_first(
    history: Store, namespace: str, before: int = 0
) -> AsyncGenerator[Revision, None]:
    """The revisions of a namespace.

    Args:
        history: the table.
        namespace: whose.
        before: only those with a smaller number; 0 is all.
    """
    after = _key(namespace, before) if before else ""
    while True:
        page = await history.read(prefix=f"{namespace}/", order="desc", limit=_PAGE, after=after)
        for record in page:
            yield decode(record.value)
        if len(page) < _PAGE:
            return
        after = page[-1].key


def encode(revision: Revision) -> bytes:
    """A revision as it is kept; secrets are as encrypted as in the document."""
    changes = [(list(one.path), _kept(one.old), _kept(one.new)) for one in revision.changes]
    kept = _Kept(
        revision.revision,
        revision.time,
        revision.action,
        changes,
        revision.account,
        revision.path,
    )
    return codec.encode(kept)


def decode(data: bytes) -> Revision:
    """The inverse of `encode`."""
    kept = msgspec.json.decode(data, type=_Kept)
    changes = [Change(tuple(path), _node(old), _node(new)) for path, old, new in kept.changes]
    return Revision(kept.revision, kept.time, kept.account, kept.action, kept.path, changes)


def _kept(node: Any) -> Any:
    return None if node is None else tree.to_kept(node)


def _node(kept: Any) -> Any:
    return None if kept is None else tree.from_kept(kept)


def _key(namespace: str, revision: int) -> str:
    return f"{namespace}/{revision:016d}"


def touches(revision: Revision, path: Path) -> list[Change]:
    """The changes of a revision at, below or above a path."""
    return [change for change in revision.changes if overlap(change.path, path)]
