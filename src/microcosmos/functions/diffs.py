"""Diffs: what is different between two versions."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from . import placeholders
from .interface import Version
from .versions import Kept

MAX_LINES = 5000
"""Lines of a file above which it is only said that it is different."""

_SETTINGS = (
    "language",
    "form",
    "engine",
    "main",
    "env",
    "secrets",
    "hosts",
    "routes",
    "grants",
    "on",
)


class Side(msgspec.Struct, frozen=True):
    """One of two versions."""

    kept: Kept
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """As of ``v12``."""
        return f"v{self.kept.version.number}"


def text(old: Side, new: Side) -> str:
    """A unified diff of the files and of what was said at the deploy; empty if nothing differs."""
    return "\n".join([*_settings(old, new), *_files(old, new)])


def _settings(old: Side, new: Side) -> Iterator[str]:
    before, after = _said(old.kept.version), _said(new.kept.version)
    yield from difflib.unified_diff(before, after, old.name, new.name, lineterm="", n=0)
    was, now = old.kept.env, new.kept.env
    # Not what the values are: who may see that they changed need not see them.
    for name in sorted(was.keys() & now.keys()):
        if was[name] != now[name]:
            yield f"env: {name} has another value"


def _said(version: Version) -> list[str]:
    lines = []
    uses = version.secret_uses.items()
    lines += [f"secret_uses: {name}: {placeholders.shown(told)}" for name, told in uses]
    for name in _SETTINGS:
        value: Any = getattr(version, name)
        lines += [f"{name}: {one}" for one in (value if isinstance(value, list) else [value])]
    return lines


def _files(old: Side, new: Side) -> Iterator[str]:
    for path in sorted(old.files.keys() | new.files.keys()):
        before, after = old.files.get(path), new.files.get(path)
        if before == after:
            continue
        names = (
            f"{old.name}/{path}" if before is not None else "/dev/null",
            f"{new.name}/{path}" if after is not None else "/dev/null",
        )
        ours, theirs = (before or "").splitlines(), (after or "").splitlines()
        if max(len(ours), len(theirs)) > MAX_LINES:
            yield f"{names[0]} and {names[1]} are different"
        else:
            yield from difflib.unified_diff(ours, theirs, *names, lineterm="")
