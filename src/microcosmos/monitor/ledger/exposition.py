"""Exposition: the ledger as the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from . import keys
from .interface import Counts, Line
from .reading import Entry, Reading

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text."""

MAX_VERSIONS = 1000
"""Versions of functions, services and apps that the text tells of, those that were used last. Each
has one line for each measure, and one for each kind of its failures."""

PAGE = 1000
"""Lines of the ledger that are read at once."""


class _Metric(NamedTuple):
    name: str
    about: str
    value: Callable[[Counts], int | float]
    kind: str = "counter"


_METRICS = (
    _Metric(
        "requests_total", "Requests that were answered, whatever the answer.", lambda c: c.requests
    ),
    _Metric("errors_total", "Requests that failed.", lambda c: c.errors),
    _Metric("request_bytes_total", "Bytes of the bodies of requests.", lambda c: c.request_bytes),
    _Metric("response_bytes_total", "Bytes of the bodies of answers.", lambda c: c.response_bytes),
    _Metric(
        "duration_seconds_total",
        "Seconds between the beginnings of requests and their answers.",
        lambda c: c.execution_ns / 1e9,
    ),
    _Metric("cpu_seconds_total", "Seconds of the processor.", lambda c: c.cpu_ns / 1e9),
    _Metric(
        "memory_byte_seconds_total",
        "Bytes of memory times the seconds that requests took.",
        lambda c: c.byte_ms / 1e3,
    ),
    _Metric("fetches_total", "Sub-requests, bindings included.", lambda c: c.fetches),
    _Metric("cold_starts_total", "Loadings.", lambda c: c.cold_starts),
    _Metric("memory_max_bytes", "The most memory that was seen.", lambda c: c.heap, "gauge"),
)


async def exposition(reading: Reading, may: Callable[[Line], bool]) -> str:
    """All versions that somebody may look at, with their totals.

    Args:
        reading: of the ledger.
        may: whether a line may be looked at.
    """
    entries: list[Entry] = []
    after = ""
    while page := await reading.page(keys.VERSIONS, after, PAGE):
        after = page[-1].key
        entries += [entry for entry in page if may(entry.line)]
    entries.sort(key=lambda entry: entry.kept.hour, reverse=True)
    shown = sorted(entries[:MAX_VERSIONS], key=lambda entry: entry.key)
    return "".join(f"{line}\n" for line in _lines(shown, len(entries) - len(shown)))


def _lines(entries: Sequence[Entry], left_out: int) -> Iterator[str]:
    for kind in dict.fromkeys(entry.line.kind for entry in entries):
        yield from _of_kind(kind, [entry for entry in entries if entry.line.kind == kind])
    name = "microcosmos_ledger_versions_left_out"
    yield from _head(name, f"Versions beyond the {MAX_VERSIONS} used last.", "gauge")
    yield f"{name} {left_out}"


def _of_kind(kind: str, entries: Sequence[Entry]) -> Iterator[str]:
    labelled = [(_labels(entry), entry.kept.total) for entry in entries]
    for metric in _METRICS:
        name = f"microcosmos_{kind}_{metric.name}"
        yield from _head(name, metric.about, metric.kind)
        for labels, counts in labelled:
            yield f"{name}{{{labels}}} {metric.value(counts)}"
    name = f"microcosmos_{kind}_failures_total"
    yield from _head(name, "Errors, by their kind.", "counter")
    for labels, counts in labelled:
        for failure, count in sorted(counts.failures.items()):
            yield f"{name}{{{labels},{_label('failure', failure)}}} {count}"


def _head(name: str, about: str, kind: str) -> Iterable[str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"


def _labels(entry: Entry) -> str:
    line = entry.line
    pairs = (
        ("namespace", line.namespace),
        (line.kind, line.name or ""),
        ("version", line.version or ""),
        ("account", entry.kept.account),
    )
    return ",".join(_label(*pair) for pair in pairs)


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'{name}="{escaped}"'
