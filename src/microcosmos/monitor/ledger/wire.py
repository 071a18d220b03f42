"""What the ledger is asked over rpc, and answers."""

from __future__ import annotations

from typing import Literal

import msgspec

from .interface import Counts

NAME = "monitor"
"""The service; the ledger's endpoints are ``Ledger.*``."""

By = Literal["", "version", "hour", "day", "account", "namespace"]

ROWS = 1000
"""Rows that one answer has at most."""


class ConsumptionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was used.

    Attributes:
        name: of a function, service or app; empty is all that one may look at.
        kind: ``function``, ``service`` or ``app``; empty is all.
        since: from when on, ``24h``, ``2026-11-01`` or RFC 3339; empty is ever. It is rounded down
            to the hour in UTC, longer ago than hours are kept to the day.
        by: what the rows are; unless said names, and of one name there are none.
        after: go on after the ``next`` of the answer before.
        limit: rows, at most `ROWS`.
    """

    name: str = ""
    kind: Literal["", "function", "service", "app"] = ""
    since: str = ""
    by: By = ""
    after: str = ""
    limit: int = ROWS


class Row(msgspec.Struct, kw_only=True):
    """Counts and whose they are; what a row does not tell apart is empty.

    Attributes:
        namespace: where it lives.
        kind: what it is.
        account: the id of the account that it belongs to.
        name: of it.
        version: of it.
        begin: of the hour or the day, RFC 3339.
        counts: what was used.
    """

    namespace: str = ""
    kind: str = ""
    account: str = ""
    name: str = ""
    version: str = ""
    begin: str = ""
    counts: Counts


class Consumption(Counts, kw_only=True):
    """What was used in all, and by what it was asked for.

    Attributes:
        since: from when on it was counted, RFC 3339; empty is ever.
        rows: by what it was asked for.
        next: ask for those after this; empty after the last.
    """

    since: str = ""
    rows: list[Row] = msgspec.field(default_factory=list)
    next: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a service has used in a process."""

    name: str
    version: str
    counts: Counts


class CountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What services have used in a process.

    Attributes:
        worker: the process, unique for ever.
        sequence: grows with each of the worker's; what is sent again has the same.
        services: by name and version.
    """

    worker: str
    sequence: int
    services: list[Told]


class MetricsRequest(msgspec.Struct, frozen=True):
    """All that is counted, for Prometheus."""


class Metrics(msgspec.Struct, frozen=True):
    """The text that Prometheus reads."""

    text: str
