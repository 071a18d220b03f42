"""Subjects and versions as they are asked for."""

from __future__ import annotations

from typing import Literal

from microcosmos.base import errors

from . import interface as ids
from .interface import MAX_SUBJECT, topic_of, unprocessable
from .kept import KeptSubject, KeptVersion

LATEST: Literal["latest"] = "latest"
"""Stands for the newest version."""


def check_subject(subject: str) -> str:
    """A name that a subject can have.

    Raises:
        errors.Error: 422: it is empty, too long, or has what cannot be printed.
    """
    if (
        isinstance(subject, str)
        and subject
        and subject.isprintable()
        and len(subject.encode("utf-8", "replace")) <= MAX_SUBJECT
    ):
        return subject
    raise unprocessable(
        "schema.subject.invalid",
        f"{subject!r:.80} is no subject: use up to {MAX_SUBJECT} bytes of printable text",
    )


def number(version: int | str) -> int:
    """The number of a version, 0 for the latest."""
    if version in (LATEST, -1, "-1"):
        return 0
    if isinstance(version, str) and version.isascii() and version.isdigit():
        version = int(version[:12])
    if isinstance(version, int) and 0 < version < 2**31:
        return version
    raise unprocessable(ids.BAD_VERSION, f"{version!r:.40} is no version; 1, 2, … or latest")


def picked(subject: str, kept: KeptSubject, wanted: int, *, deleted: bool) -> KeptVersion:
    """A version of a subject by what `number` gives.

    Raises:
        errors.NotFound: it has none of that number, or it is deleted.
    """
    versions = kept.versions if deleted else kept.active
    if wanted == 0 and versions:
        return versions[-1]
    for one in versions:
        if one.version == wanted:
            return one
    detail = f"{subject} has no version {wanted or LATEST}"
    raise errors.NotFound(ids.NO_VERSION, detail)


def no_subject(subject: str) -> errors.NotFound:
    """What says that there is none."""
    topic = topic_of(subject)
    more = f": topic {topic} has no schema" if topic else ""
    return errors.NotFound(ids.NO_SUBJECT, f"there is no subject {subject}{more}")
