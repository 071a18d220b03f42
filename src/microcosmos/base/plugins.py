"""What other packages bring: found by entry points, with one line for what is wrong with one."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from . import errors


def names(group: str) -> list[str]:
    """What the installed packages bring of a group, sorted."""
    return sorted({entry.name for entry in entry_points(group=group)})


def found(group: str, name: str) -> EntryPoint | None:
    """The entry point of a name, or None.

    Raises:
        errors.Conflict: two packages bring it.
    """
    entries = {entry.value: entry for entry in entry_points(group=group, name=name)}
    if len(entries) > 1:
        who = " and ".join(sorted(package(entry) for entry in entries.values()))
        raise errors.Conflict("plugins", f"{name} of {group} is in {who}; uninstall one of them")
    return next(iter(entries.values()), None)


def load(entry: EntryPoint) -> Any:
    """Import what an entry point names.

    Raises:
        errors.InternalServerError: it cannot be imported; the detail names the package.
    """
    try:
        return entry.load()
    except Exception as exc:  # noqa: BLE001 - another's module may raise anything
        raise broken(entry, f"cannot be imported: {type(exc).__name__}: {exc}") from None


def broken(entry: EntryPoint, why: str) -> errors.InternalServerError:
    """The error of a plugin that is no good: on one line, with the name of its package."""
    detail = f"{entry.name} ({entry.group}) of the package {package(entry)} {why}"
    return errors.InternalServerError("plugins", " ".join(detail.split()))


def package(entry: EntryPoint) -> str:
    """Who brings an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
