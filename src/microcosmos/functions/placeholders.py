"""Placeholders: what code sees of a secret that it may use and not read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

from .interface import SecretUse

GRANT = "secret"
"""The grant by which code reads secrets; ``secret:NAME`` is of one."""

PATTERN = re.compile(r"secret-placeholder-[0-9a-f]{32}")
"""All placeholders; each can be the value of a header."""

_LENGTH = 32


def placeholder_of(prefix: str, secret: str) -> str:
    """The placeholder of a secret, the same in all versions of a function.

    Args:
        prefix: tells the function from all others, `versions.Which.prefix`.
        secret: its name.
    """
    digest = hashlib.sha256(f"placeholder\n{prefix}\n{secret}".encode()).hexdigest()
    return f"secret-placeholder-{digest[:_LENGTH]}"


def readable(secret: str, grants: Collection[str]) -> bool:
    """Whether code may read a secret."""
    return GRANT in grants or f"{GRANT}:{secret}" in grants


def shown(uses: Sequence[SecretUse]) -> str:
    """Where a placeholder is filled in, for people."""
    return ", ".join(f"{use.header} to {use.host}" for use in uses) or "no header at all"


def useless(
    secrets: Collection[str], uses: Mapping[str, Sequence[SecretUse]], grants: Collection[str]
) -> list[str]:
    """The secrets that code can neither use nor read."""
    return [name for name in secrets if not uses.get(name) and not readable(name, grants)]
