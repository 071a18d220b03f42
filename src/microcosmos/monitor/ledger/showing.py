"""Showing what was used: for people, as lines and as a table."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .interface import Counts
from .wire import Consumption

_COLUMNS = {
    "requests": "REQUESTS",
    "errors": "ERRORS",
    "request_bytes": "IN",
    "response_bytes": "OUT",
    "execution_ns": "TIME",
    "cpu_ns": "CPU",
    "heap": "HEAP",
    "byte_ms": "BYTE·MS",
    "fetches": "FETCHES",
    "cold_starts": "COLD",
}
"""Columns of counts, after those that tell whose they are."""


def readable(counts: Counts, since: str = "") -> str:
    """CosmoCompute's four counters, and then ours; times in microseconds."""
    facts = {
        "requests": f"{counts.requests:,}",
        "response bytes": f"{counts.response_bytes:,}",
        "execution time": f"{counts.execution_ns // 1000:,} µs",
        "consumption": f"{counts.byte_ms:,} byte·ms",
        "errors": f"{counts.errors:,}{_kinds(counts)}",
        "request bytes": f"{counts.request_bytes:,}",
        "cpu time": f"{counts.cpu_ns // 1000:,} µs{_shared(counts)}",
        "heap": f"{counts.heap:,} bytes at most{_shared(counts)}",
        "fetches": f"{counts.fetches:,}",
        "cold starts": f"{counts.cold_starts:,}",
    }
    if since:
        facts["since"] = since
    return "\n".join(f"{name + ':':16}{text}" for name, text in facts.items())


def _kinds(counts: Counts) -> str:
    found = sorted(counts.failures.items(), key=lambda one: (-one[1], one[0]))
    return f" ({', '.join(f'{kind} {count:,}' for kind, count in found)})" if found else ""


def _shared(counts: Counts) -> str:
    return ", its part of a process" if counts.shared else ""


class Cells(msgspec.Struct, frozen=True):
    """A row of a table.

    Attributes:
        headings: what stands above.
        texts: what stands in it.
    """

    headings: list[str]
    texts: list[str]

    @property
    def HEADINGS(self) -> list[str]:  # noqa: N802 - as tables ask for it
        """What stands above."""
        return self.headings

    def cells(self) -> list[str]:
        """What stands in it."""
        return self.texts


def table(found: Consumption, labels: Sequence[str]) -> list[Cells] | str:
    """The rows, for people.

    Args:
        found: what was used.
        labels: fields of `Row` that tell the rows apart.
    """
    if not found.rows:
        return f"nothing was used since {found.since}" if found.since else "nothing was used yet"
    headings = [*(label.upper() for label in labels), *_COLUMNS.values()]
    return [
        Cells(
            headings,
            [
                *(getattr(row, label) for label in labels),
                *(_cell(row.counts, column) for column in _COLUMNS),
            ],
        )
        for row in found.rows
    ]


def _cell(counts: Counts, name: str) -> str:
    value = getattr(counts, name)
    if name in ("execution_ns", "cpu_ns"):
        return _time(value)
    if name == "heap":
        return f"{value:,}" + ("*" if counts.shared and value else "")
    return f"{value:,}"


def _time(nanoseconds: int) -> str:
    """Seconds from a minute on, else milliseconds."""
    milliseconds = nanoseconds / 1e6
    return f"{milliseconds / 1e3:,.1f} s" if milliseconds >= 60_000 else f"{milliseconds:,.1f} ms"
