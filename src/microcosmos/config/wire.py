"""Requests and answers of config over rpc: those of Micro v3, and ours."""

from __future__ import annotations

from typing import Any

import msgspec

NAME = "config"
"""The service."""

FORMAT = "json"
"""What values are written in."""

ROTATION = 300.0
"""Seconds that a new key for all secrets may take."""

MAX_LISTED = 100
"""Revisions in one answer of the history."""


class Value(msgspec.Struct, omit_defaults=True):
    """A value on its way.

    Attributes:
        data: JSON.
        format: ``json``.
    """

    data: str = ""
    format: str = ""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a value is to be encrypted, or secrets are to be read in the clear."""

    secret: bool = False


_PLAIN = Options()


class GetRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Get and Watch take."""

    namespace: str = ""
    path: str = ""
    options: Options = _PLAIN


class GetResponse(msgspec.Struct):
    """What Get answers."""

    value: Value


class SetRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Set takes."""

    path: str
    value: Value
    namespace: str = ""
    options: Options = _PLAIN


class SetResponse(msgspec.Struct):
    """What Set, Delete and Rollback answer: the number of the document's revision."""

    revision: int


class DeleteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Delete takes."""

    path: str
    namespace: str = ""


class DeleteResponse(SetResponse):
    """What Delete answers."""


class ReadRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Read takes."""

    namespace: str = ""
    path: str = ""


class ChangeSet(msgspec.Struct):
    """A value as Micro's older clients read it."""

    data: str
    checksum: str
    format: str
    source: str
    timestamp: int


class ReadChange(msgspec.Struct, rename={"change_set": "changeSet"}):
    """A value, and where it stands."""

    namespace: str
    path: str
    change_set: ChangeSet


class ReadResponse(msgspec.Struct):
    """What Read answers."""

    change: ReadChange


class Changed(msgspec.Struct, omit_defaults=True):
    """One place that is another than before; no value is nothing there."""

    path: str
    revision: int
    old: Value | None = None
    value: Value | None = None


class FollowRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Follow takes."""

    namespace: str = ""


class Followed(msgspec.Struct):
    """The document, or what changed in it.

    Attributes:
        revision: of the document.
        snapshot: whether the changes are all of it.
        changes: keys of a path, and what is there now: null is nothing, an object a map, and an
            array a leaf: its value, of a secret true beside it, or the mask with the code and the
            detail of the error that says why it is not told.
    """

    revision: int
    snapshot: bool
    changes: list[tuple[list[str], Any]]


class HistoryRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What History takes: up to ``limit`` revisions at or below a path, before a number."""

    namespace: str = ""
    path: str = ""
    limit: int = 20
    before: int = 0


class ShownChange(msgspec.Struct, omit_defaults=True):
    """What a revision did at a path; values are JSON, secrets are masked."""

    path: str
    old: str = ""
    new: str = ""


class ShownRevision(msgspec.Struct):
    """A change of the document."""

    revision: int
    time: float
    account: str
    action: str
    path: str
    changes: list[ShownChange]
    more: int = 0


class HistoryResponse(msgspec.Struct):
    """What History answers, the newest first."""

    revisions: list[ShownRevision]


class RollbackRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Rollback takes."""

    revision: int
    namespace: str = ""


class RotateResponse(msgspec.Struct):
    """What RotateKey answers: how many secrets there are, and the id of their key."""

    secrets: int
    key: str


class RotateRequest(msgspec.Struct):
    """What RotateKey takes."""
