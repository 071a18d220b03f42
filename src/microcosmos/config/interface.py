"""What config is made of: documents of leaves, the changes made to them, and their limits."""

from __future__ import annotations

from typing import Any

import msgspec

from .paths import Path

MASK = "[secret]"
"""What stands where a secret is, for whoever did not ask for it or may not see it."""

MAX_DOCUMENT = 1024 * 1024
"""The largest document of a namespace, in bytes of JSON as it is kept, secrets encrypted."""

MAX_REVISIONS = 500
"""The changes that a namespace remembers; older ones cannot be rolled back to."""


class Plain(msgspec.Struct, frozen=True):
    """A leaf that anybody may read who may read config: any JSON but a map with keys."""

    value: Any


class Secret(msgspec.Struct, frozen=True):
    """A leaf that is encrypted.

    Attributes:
        key: the id of the key that opens it.
        data: base64 of the nonce and what AES-256-GCM made of the leaf's JSON.
    """

    key: str
    data: str


Leaf = Plain | Secret
Tree = dict[str, Any]
"""Maps by key: of each value a `Tree` or a `Leaf`. Never changed once it is made."""

Node = Tree | Plain | Secret


class Document(msgspec.Struct, frozen=True):
    """All of a namespace's config.

    Attributes:
        namespace: whose.
        tree: its maps and leaves.
        revision: how many changes have made it; 0 before the first.
        version: of the record in the store; 0 when there is none.
    """

    namespace: str
    tree: Tree
    revision: int = 0
    version: int = 0


class Kept(msgspec.Struct):
    """A document as the store has it; see `tree.to_kept`."""

    revision: int
    tree: dict[str, Any]


class Change(msgspec.Struct, frozen=True):
    """One place of a document that became another; None is nothing there.

    Of a place where both were maps the changes below it are told instead.
    """

    path: Path
    old: Node | None
    new: Node | None


class Revision(msgspec.Struct, frozen=True):
    """One change of a document, as the history has it.

    Attributes:
        revision: its number, from 1.
        time: when, in seconds since the epoch.
        account: who; empty is a platform without accounts.
        action: ``set``, ``delete`` or ``rollback to 3``.
        path: where it was asked for; empty is the whole document.
        changes: what it did.
    """

    revision: int
    time: float
    account: str
    action: str
    path: str
    changes: list[Change]
