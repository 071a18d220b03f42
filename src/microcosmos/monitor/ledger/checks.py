"""What is told to the ledger, looked at before it is taken."""

from __future__ import annotations

from microcosmos.base import errors, names

from .interface import MAX_FAILURE, MAX_FAILURES, SUMMED, Counts

ID = "monitor"
"""The id of these errors."""

LONGEST_VERSION = 64
"""The most characters of a version."""

LONGEST_WORKER = 100
"""The most characters of the name of a process that counts."""


def counts(whose: str, one: Counts, id: str = ID) -> None:
    """Refuse counts that cannot be.

    Raises:
        errors.BadRequest: one is negative, or a kind of failure has no fit name.
    """
    numbers = [one.heap, *(getattr(one, name) for name in SUMMED), *one.failures.values()]
    if min(numbers) < 0:
        raise errors.BadRequest(id, f"counts: one of {whose!r:.120} is negative")
    if len(one.failures) > MAX_FAILURES or any(len(kind) > MAX_FAILURE for kind in one.failures):
        detail = f"counts: failures of {whose!r:.120}: at most {MAX_FAILURES} kinds, each of "
        raise errors.BadRequest(id, f"{detail}{MAX_FAILURE} characters at most")


def worker(name: str, sequence: int) -> None:
    """Refuse what is no name or number of those who count.

    Raises:
        errors.BadRequest: it is so.
    """
    if not 0 < len(name) <= LONGEST_WORKER or not name.isprintable():
        raise errors.BadRequest(ID, f"worker: use 1 to {LONGEST_WORKER} characters")
    if sequence < 1:
        raise errors.BadRequest(ID, "sequence: they begin with 1")


def service(name: str, version: str) -> None:
    """Refuse what is no service.

    Raises:
        errors.BadRequest: it is so.
    """
    names.check_service(name)
    if len(version) > LONGEST_VERSION or not version.isprintable():
        raise errors.BadRequest(ID, f"version: at most {LONGEST_VERSION} printable characters")
