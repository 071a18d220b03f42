"""What the service ``functions`` is asked and answers, beside the words of `interface`."""

from __future__ import annotations

import msgspec

from microcosmos.base import errors

from .interface import Counts, Finding, Function, Limits, Replay, Version

NAME = "functions"

OF_FUNCTIONS = {"server": NAME}
"""Metadata of a service that is a function."""

DEPLOYING = 150.0
"""Seconds for a deploy, whose packages may have to be fetched."""

PAGE = 200
"""Functions, or versions, that one answer lists at most."""


class NameRequest(msgspec.Struct, frozen=True):
    """One function."""

    name: str


class Findings(msgspec.Struct, frozen=True):
    """What keeps a draft from being deployed."""

    findings: list[Finding]


class ListRequest(msgspec.Struct, frozen=True):
    """Functions whose names come after one."""

    after: str = ""
    limit: int = PAGE


class Listed(msgspec.Struct, frozen=True):
    """Functions by name; more may come after ``next``, unless that is empty."""

    functions: list[Function]
    next: str = ""


class HistoryRequest(msgspec.Struct, frozen=True):
    """Versions of a function with numbers below one; 0 is all."""

    name: str
    before: int = 0
    limit: int = PAGE


class History(msgspec.Struct, frozen=True):
    """Versions, the newest first, and whether more follow."""

    versions: list[Version]
    more: bool = False


class NumberRequest(msgspec.Struct, frozen=True):
    """A version of a function; what 0 is, the endpoint says."""

    name: str
    number: int = 0


class Sources(msgspec.Struct, frozen=True):
    """The files of a version, by path."""

    number: int
    files: dict[str, str]


class DiffRequest(msgspec.Struct, frozen=True):
    """Two versions; a new one of 0 is the newest that gets requests, an old one that before."""

    name: str
    old: int = 0
    new: int = 0


class Diff(msgspec.Struct, frozen=True):
    """What differs, as a unified diff; empty if nothing does."""

    old: int
    new: int
    text: str


class SplitRequest(msgspec.Struct, frozen=True):
    """Hundredths of all requests by the numbers of versions."""

    name: str
    shares: dict[int, int]


class Verified(msgspec.Struct, frozen=True):
    """What is wrong with a chain of versions, and how many there are."""

    problems: list[str]
    versions: int


class SecretRequest(msgspec.Struct, frozen=True):
    """A secret of a function."""

    name: str
    secret: str


class LimitsRequest(msgspec.Struct, frozen=True):
    """An account; empty is that of whoever asks."""

    account: str = ""


class SetLimitsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the functions of an account may use from now on, by the names of `Limits`.

    Attributes:
        account: whose; empty is that of whoever asks.
        defaults: of what its functions do not say; what is not named stays.
        ceilings: of what they may say; what is not named stays.
        reset: whether all that was said before is forgotten first.
    """

    account: str = ""
    defaults: dict[str, float] = {}
    ceilings: dict[str, float] = {}
    reset: bool = False


class AccountLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the functions of an account may use.

    Attributes:
        account: whose.
        defaults: what an admin has said of it.
        ceilings: what an admin has said of it.
        default: what a function may use of which nothing is said.
        ceiling: the most that one may be given.
    """

    account: str
    defaults: dict[str, float]
    ceilings: dict[str, float]
    default: Limits
    ceiling: Limits


class QuotaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A quota: of a function, of all functions of an account, or else of the namespace.

    Attributes:
        name: of the function.
        account: whose.
        measure: as of `quotas.Quota`, and so are the others.
        most: so much; nothing of a quota that is to be deleted.
        period: for which.
        soft: parts at which an event tells of it; None is 80 %.
    """

    measure: str
    period: str
    name: str = ""
    account: str = ""
    most: int | float = 0
    soft: list[float] | None = None


class QuotasRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Quotas that one may look at; with a name or an account those that hold for it."""

    name: str = ""
    account: str = ""
    after: str = ""
    limit: int = PAGE


class Allotted(msgspec.Struct, frozen=True, kw_only=True):
    """A quota, and what is used of it.

    Attributes:
        name: of the function; empty of the others.
        account: whose; empty of the others.
        measure: as of `quotas.Quota`.
        most: of it.
        period: of it.
        soft: of it.
        by: of it.
        used: in the period that it is.
        until: when that is over, RFC 3339.
        spent: whether requests are refused because of it.
    """

    name: str
    account: str
    measure: str
    most: int | float
    period: str
    soft: list[float]
    by: str
    used: int | float
    until: str
    spent: bool


class Quotas(msgspec.Struct, frozen=True):
    """Quotas; more may come after ``next``, unless that is empty."""

    quotas: list[Allotted]
    next: str = ""


class LogsRequest(msgspec.Struct, frozen=True):
    """The last lines of a function's log, and those that come."""

    name: str
    lines: int = 100
    follow: bool = False


class LogLine(msgspec.Struct, frozen=True):
    """A line of a log."""

    line: str


class InvokeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a function, as it would come by HTTP.

    Attributes:
        name: of the function.
        method: of HTTP.
        path: below its family, with a query string if there is one.
        headers: pairs.
        body: bytes.
        replay: the world to answer it in; None is the real one.
    """

    name: str
    method: str = "GET"
    path: str = ""
    headers: list[tuple[str, str]] = []
    body: bytes = b""
    replay: Replay | None = None


class Invoked(msgspec.Struct, frozen=True, kw_only=True):
    """What a function has answered."""

    status: int
    headers: list[tuple[str, str]] = []
    body: bytes = b""


# For the platform's own processes.


class FollowRequest(msgspec.Struct, frozen=True):
    """What has changed after a sequence that a core of an epoch has told."""

    epoch: str = ""
    sequence: int = 0


class Heard(msgspec.Struct, frozen=True):
    """What comes back on the stream of ``Functions.Follow``.

    Attributes:
        sequence: of the last news; all up to it are known.
    """

    sequence: int


class UnitRequest(msgspec.Struct, frozen=True):
    """A version that is to be loaded."""

    namespace: str
    name: str
    number: int


class PassRequest(msgspec.Struct, frozen=True):
    """A function that wants to call as itself."""

    namespace: str
    name: str


class Pass(msgspec.Struct, frozen=True):
    """A token of a function's own account, and when it ends, in seconds since the epoch."""

    token: str
    expiry: float


class RevealRequest(msgspec.Struct, frozen=True):
    """A secret that is to be filled in; the egress alone can ask.

    Attributes:
        namespace: where the function lives.
        name: of the function.
        secret: its name.
        proof: what only the core and the egress of a server know.
    """

    namespace: str
    name: str
    secret: str
    proof: str


class Revealed(msgspec.Struct, frozen=True):
    """The value of a secret."""

    value: str


class StrikeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a version did to its worker.

    Attributes:
        namespace: where the function lives.
        name: of the function.
        number: of the version.
        worker: which one; unique for ever. The same one is not counted twice.
        reason: for people.
        suspected: whether it may have been somebody else's doing.
    """

    namespace: str
    name: str
    number: int
    worker: str
    reason: str
    suspected: bool = False


class Pardoned(msgspec.Struct, frozen=True):
    """How many versions had strikes."""

    versions: int


class CountRequest(msgspec.Struct, frozen=True):
    """What functions have used in a worker.

    Attributes:
        worker: which one; unique for ever.
        sequence: grows with each of a worker's; what is sent again has the same.
        counts: by ``NAMESPACE/NAME/v3``, or ``NAMESPACE/NAME`` of no version in particular.
    """

    worker: str
    sequence: int
    counts: dict[str, Counts]


def checked_page(limit: int) -> int:
    """How many an answer may list.

    Raises:
        errors.BadRequest: none, or more than `PAGE`.
    """
    if not 0 < limit <= PAGE:
        raise errors.BadRequest(NAME, f"limit: a number from 1 to {PAGE}, not {limit}")
    return limit
