"""Keys of the ledger: how lines and their hours and days are called in the store.

A line of a version is ``v/NAMESPACE/KIND/NAME/VERSION``, that of an account
``a/NAMESPACE/ACCOUNT/KIND``, that of a namespace ``n/NAMESPACE/KIND``; an hour or day of it has
``/2026112201`` or ``/20261122`` behind it. Each key has one meaning only, as what stands between
slashes is quoted, and what belongs together stands together.
"""

from __future__ import annotations

import calendar
import time
from typing import Literal, cast
from urllib.parse import quote, unquote

from .interface import Kind, Line, Subject

HOUR = 3600
"""Seconds."""

DAY = 86400
"""Seconds."""

VERSIONS = "v/"
"""What the keys of all versions begin with."""

NAMESPACES = "n/"
"""What the keys of all namespaces begin with."""


def of(line: Line) -> str:
    """The key of a line."""
    where = quote(line.namespace, safe="")
    if line.name is not None:
        return (
            f"{of_name(line.namespace, line.kind, line.name)}{quote(line.version or '', safe='')}"
        )
    if line.account is not None:
        return f"{of_account(line.namespace, line.account)}{line.kind}"
    return f"n/{where}/{line.kind}"


def of_name(namespace: str, kind: Kind, name: str) -> str:
    """What the keys of all versions of a name begin with."""
    return f"{of_names(namespace, kind)}{quote(name, safe='')}/"


def of_names(namespace: str, kind: Kind | Literal[""]) -> str:
    """What the keys of all versions in a namespace begin with; without a kind, those of all."""
    below = f"{kind}/" if kind else ""
    return f"v/{quote(namespace, safe='')}/{below}"


def of_account(namespace: str, account: str) -> str:
    """What the keys of an account begin with."""
    return f"{of_accounts(namespace)}{quote(account, safe='')}/"


def of_accounts(namespace: str) -> str:
    """What the keys of all accounts of a namespace begin with."""
    return f"a/{quote(namespace, safe='')}/"


def all_of(namespace: str) -> tuple[str, ...]:
    """What the keys of all that is counted in a namespace begin with."""
    where = quote(namespace, safe="")
    return f"v/{where}/", f"a/{where}/", f"n/{where}/"


def line_of(key: str) -> Line:
    """The line that has a key."""
    level, *parts = (unquote(part) for part in key.split("/"))
    if level == "v":
        namespace, kind, name, version = parts
        return Line(namespace=namespace, kind=cast(Kind, kind), name=name, version=version)
    if level == "a":
        namespace, account, kind = parts
        return Line(namespace=namespace, kind=cast(Kind, kind), account=account)
    namespace, kind = parts
    return Line(namespace=namespace, kind=cast(Kind, kind))


def lines_of(subject: Subject) -> tuple[Line, Line, Line]:
    """The lines that something is added to: of its version, its account and its namespace."""
    where, kind = subject.namespace, subject.kind
    return (
        Line(namespace=where, kind=kind, name=subject.name, version=subject.version),
        Line(namespace=where, kind=kind, account=subject.account),
        Line(namespace=where, kind=kind),
    )


def hour(at: float) -> str:
    """The UTC hour of a time, as it stands in keys."""
    return time.strftime("%Y%m%d%H", time.gmtime(at))


def day(at: float) -> str:
    """The UTC day of a time, as it stands in keys."""
    return time.strftime("%Y%m%d", time.gmtime(at))


def begin_of(stamp: str) -> str:
    """When an hour or a day of a key begins, RFC 3339."""
    date = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}"
    return f"{date}T{stamp[8:10] or '00'}:00:00Z"


def time_of(stamp: str) -> float:
    """When an hour or a day of a key begins, in seconds since the epoch."""
    return float(calendar.timegm(time.strptime(stamp.ljust(10, "0"), "%Y%m%d%H")))
