"""What is counted, of whom, and who is told: the words of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

Kind = Literal["function", "service", "app"]
"""What uses something."""

KINDS: tuple[Kind, ...] = ("function", "service", "app")

MOST = 2**63 - 1
"""What a count stops at."""

MAX_FAILURES = 32
"""The kinds of failures that are told apart of one subject; the rest are `OTHER`."""

MAX_FAILURE = 64
"""The most characters of the name of a kind of failure."""

OTHER = "other"
"""The kind of failures that are too many to be told apart."""


class Counts(msgspec.Struct, kw_only=True):
    """What something has used, since its beginning or since the counts were last taken.

    CosmoCompute's four are `requests`, `response_bytes`, `execution_ns` and `byte_ms`.

    Attributes:
        requests: that were answered, whatever the answer.
        errors: of the requests, those that failed; an answer of one's own with a status of 500
            is none.
        failures: errors by their kind: of functions the id of the error without ``functions.``,
            ``exception``, ``limit.cpu``; of services the status.
        request_bytes: of the bodies of requests, streams too.
        response_bytes: of the bodies of answers, streams too.
        execution_ns: wall time, nanoseconds between the beginnings of requests and their answers.
        cpu_ns: nanoseconds of the processor.
        heap: bytes of memory, the most that was seen; it is not added up, the greater one stays.
        byte_ms: sum over requests of the bytes of memory times the milliseconds that they took.
        fetches: sub-requests, bindings included.
        cold_starts: loadings.
        shared: whether `heap` and `cpu_ns` are parts of those of a process that others are in,
            shared out by the times that they ran.
    """

    requests: int = 0
    errors: int = 0
    failures: dict[str, int] = {}
    request_bytes: int = 0
    response_bytes: int = 0
    execution_ns: int = 0
    cpu_ns: int = 0
    heap: int = 0
    byte_ms: int = 0
    fetches: int = 0
    cold_starts: int = 0
    shared: bool = False

    def add(self, other: Counts) -> None:
        """Add other counts to these."""
        for name in SUMMED:
            setattr(self, name, min(getattr(self, name) + getattr(other, name), MOST))
        self.heap = min(max(self.heap, other.heap), MOST)
        self.shared = self.shared or other.shared
        if other.failures:
            self.failures = _together(self.failures, other.failures)

    def plus(self, other: Counts) -> Counts:
        """The sum of these and others; both stay what they are."""
        total = msgspec.structs.replace(self)
        total.add(other)
        return total

    def fail(self, kind: str) -> None:
        """Count a request, or part of one, that has failed."""
        self.errors += 1
        self.failures = _together(self.failures, {kind: 1})


SUMMED = (
    *("requests", "errors", "request_bytes", "response_bytes", "execution_ns", "cpu_ns"),
    *("byte_ms", "fetches", "cold_starts"),
)
"""The fields of `Counts` that are added up."""


def _together(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The sum of failures by kind; what is too many is put together."""
    total = dict(one)
    for kind, count in other.items():
        if kind not in total and len(total) >= MAX_FAILURES - 1:
            kind = OTHER
        total[kind] = min(total.get(kind, 0) + count, MOST)
    return total


class Measure(msgspec.Struct, frozen=True):
    """Something that can be limited and shown.

    Attributes:
        field: of `Counts`.
        unit: of the field: ``requests``, ``bytes``, ``ns``, ``byte·ms``; empty of plain numbers.
        about: what it is, for people.
    """

    field: str
    unit: str
    about: str


MEASURES: Mapping[str, Measure] = {
    "requests": Measure("requests", "", "requests"),
    "errors": Measure("errors", "", "requests that failed"),
    "request_bytes": Measure("request_bytes", "bytes", "bodies of requests"),
    "response_bytes": Measure("response_bytes", "bytes", "bodies of answers"),
    "wall": Measure("execution_ns", "ns", "time until requests were answered"),
    "cpu": Measure("cpu_ns", "ns", "time of the processor"),
    "heap": Measure("heap", "bytes", "the most memory that was seen"),
    "byte_ms": Measure("byte_ms", "byte·ms", "memory times time, summed over requests"),
    "fetches": Measure("fetches", "", "sub-requests, bindings included"),
    "cold_starts": Measure("cold_starts", "", "loadings"),
}
"""What is measured, by the names that people use."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Whose counts they are.

    Attributes:
        namespace: where it lives.
        kind: what it is.
        account: the id of the account that it belongs to; empty of what belongs to nobody.
        name: of the function, service or app.
        version: ``v3`` of a function, what it says of itself of a service; empty where none is
            known, as of requests that were refused before one was chosen.
    """

    namespace: str
    kind: Kind
    account: str
    name: str
    version: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the ledger: of a version, of an account, or of a namespace, each for one kind.

    Of an account `name` and `version` are None, of a namespace `account` is None too; of a
    version `account` is None, as a name has one owner, whom the ledger remembers.
    """

    namespace: str
    kind: Kind
    account: str | None = None
    name: str | None = None
    version: str | None = None


class Added(msgspec.Struct, frozen=True):
    """What was added to a line.

    Attributes:
        line: which.
        account: the id of the account that a version belongs to; None of other lines.
        counts: what was added.
        hour: the sum of this UTC hour.
        day: the sum of this UTC day.
        at: when, in seconds since the epoch; it tells the hour and the day.
    """

    line: Line
    account: str | None
    counts: Counts
    hour: Counts
    day: Counts
    at: float


Listener = Callable[[Sequence[Added]], None]
"""Is told what was added, once it is durable: all lines of versions, accounts and namespaces that
have changed. It must be quick, and raises nothing."""
