"""Asking the ledger: who may look at what, and the rows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from microcosmos.base import errors

from . import keys, times
from .interface import KINDS, SUMMED, Kind, Line
from .reading import Entry, Reading
from .wire import ROWS, Consumption, ConsumptionRequest, Row

_NARROW = "rows by {0} are of all that there is; leave the name out"


class Viewer(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes:
        account: the id of the account, as owners are called.
        admin: whether one may look at all of the namespace.
        administers: whether one may look at all of another namespace.
    """

    account: str
    admin: bool
    administers: Callable[[str], bool]


class Asking:
    """Answers one question about a namespace.

    Args:
        reading: of the ledger.
        namespace: which.
        viewer: who asks.
        id: of errors.
        now: seconds since the epoch.
    """

    def __init__(
        self, reading: Reading, namespace: str, viewer: Viewer, id: str, now: float
    ) -> None:
        self._reading = reading
        self._namespace = namespace
        self._viewer = viewer
        self._id = id
        self._now = now

    async def answer(self, request: ConsumptionRequest, *, known: bool = False) -> Consumption:
        """What was used.

        Args:
            request: of what.
            known: whether what has that name is there, and one may look at it.

        Raises:
            errors.BadRequest: that is no question.
            errors.NotFound: nothing of that name was ever counted.
            errors.Forbidden: it is another's.
        """
        if not 0 < request.limit <= ROWS:
            detail = f"limit: a number from 1 to {ROWS}, not {request.limit}"
            raise errors.BadRequest(self._id, detail)
        since = times.parse(request.since, self._now, self._id)
        if request.name:
            found = await self._of_name(request, since, known)
        elif request.by in ("hour", "day"):
            found = await self._of_all(request, since)
            found.rows = await self._periods(request, await self._own(request), since)
        elif request.by == "namespace" and self._viewer.admin:
            found = await self._namespaces(request, since)
        elif request.by in ("account", "namespace"):
            found = await self._accounts(request, since)
        else:
            found = await self._names(request, since)
        found.since = self._begins(since)
        return found

    def _begins(self, since: float) -> str:
        return times.stamp(self._reading.begin(since)) if since else ""

    # One name.

    async def _of_name(self, request: ConsumptionRequest, since: float, known: bool) -> Consumption:
        if request.by in ("account", "namespace"):
            raise errors.BadRequest(self._id, "by: " + _NARROW.format(request.by))
        entries: list[Entry] = []
        for kind in _kinds(request):
            line = Line(namespace=self._namespace, kind=kind, name=request.name)
            entries += await self._reading.find(line)
        if not entries and not known:
            detail = f"nothing is counted of {request.name[:100]!r}; leave the name out for all"
            raise errors.NotFound(self._id, detail)
        if not known and not all(self._may(entry) for entry in entries):
            owner = entries[-1].kept.account
            raise errors.Forbidden(self._id, f"{request.name} belongs to {owner}")
        found = await self._summed(entries, since)
        if request.by == "version":
            found.rows = [await self._row([entry], since) for entry in _by_version(entries)]
        elif request.by:
            found.rows = await self._periods(request, entries, since)
        return found

    # All that may be seen.

    async def _names(self, request: ConsumptionRequest, since: float) -> Consumption:
        """A page of names, or of their versions, in the order of kinds and names."""
        found = await self._of_all(request, since)
        prefix = keys.of_names(self._namespace, request.kind)
        page = await self._reading.page(prefix, request.after, request.limit)
        groups = _groups(page)
        if len(page) == request.limit:
            # The last one may have versions that are not in this page.
            if len(groups) == 1:
                line = msgspec.structs.replace(page[0].line, version=None)
                groups = [await self._reading.find(line)]
            else:
                groups.pop()
            found.next = groups[-1][-1].key
        for group in groups:
            entries = [entry for entry in group if self._may(entry)]
            if request.by == "version":
                found.rows += [await self._row([entry], since) for entry in _by_version(entries)]
            elif entries:
                found.rows.append(await self._row(entries, since))
        found.rows = [row for row in found.rows if not since or _used(row)]
        return found

    async def _accounts(self, request: ConsumptionRequest, since: float) -> Consumption:
        found = await self._of_all(request, since)
        if not self._viewer.admin:
            entries = await self._own(request)
        else:
            prefix = keys.of_accounts(self._namespace)
            entries = await self._reading.page(prefix, request.after, request.limit)
            found.next = entries[-1].key if len(entries) == request.limit else ""
        found.rows = await self._lines(request, entries, since)
        return found

    async def _namespaces(self, request: ConsumptionRequest, since: float) -> Consumption:
        entries = await self._reading.page(keys.NAMESPACES, request.after, request.limit)
        mine = [entry for entry in entries if self._viewer.administers(entry.line.namespace)]
        found = await self._summed([one for one in mine if _asked(request, one)], since)
        found.next = entries[-1].key if len(entries) == request.limit else ""
        found.rows = await self._lines(request, mine, since)
        return found

    async def _lines(
        self, request: ConsumptionRequest, entries: Sequence[Entry], since: float
    ) -> list[Row]:
        rows = [await self._row([one], since) for one in entries if _asked(request, one)]
        return [row for row in rows if not since or _used(row)]

    async def _own(self, request: ConsumptionRequest) -> list[Entry]:
        """The lines of all that one may look at here."""
        account = None if self._viewer.admin else self._viewer.account
        entries: list[Entry] = []
        for kind in _kinds(request):
            line = Line(namespace=self._namespace, kind=kind, account=account)
            entries += await self._reading.find(line)
        return entries

    async def _of_all(self, request: ConsumptionRequest, since: float) -> Consumption:
        """The sum of all that one may look at here."""
        return await self._summed(await self._own(request), since)

    def _may(self, entry: Entry) -> bool:
        return self._viewer.admin or entry.kept.account == self._viewer.account

    # Rows.

    async def _summed(self, entries: Sequence[Entry], since: float) -> Consumption:
        total = await self._reading.used(entries, since)
        return Consumption(**msgspec.structs.asdict(total))

    async def _row(self, entries: Sequence[Entry], since: float) -> Row:
        """A row of one line, or of several of one name."""
        line, counts = entries[0].line, await self._reading.used(entries, since)
        return Row(
            namespace=line.namespace,
            kind=line.kind,
            account=entries[0].kept.account,
            name=line.name or "",
            version=line.version or "" if len(entries) == 1 else "",
            counts=counts,
        )

    async def _periods(
        self, request: ConsumptionRequest, entries: Sequence[Entry], since: float
    ) -> list[Row]:
        """Rows of hours or days."""
        reading = self._reading.hours if request.by == "hour" else self._reading.days
        periods = await reading(entries, since)
        return [
            Row(
                namespace=self._namespace,
                kind=request.kind,
                name=request.name,
                begin=keys.begin_of(stamp),
                counts=counts,
            )
            for stamp, counts in periods.items()
        ]


def _kinds(request: ConsumptionRequest) -> tuple[Kind, ...]:
    return (request.kind,) if request.kind else KINDS


def _asked(request: ConsumptionRequest, entry: Entry) -> bool:
    return entry.line.kind in _kinds(request)


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Lines of versions, those of one name together."""
    groups: dict[tuple[str, str | None], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.line.kind, entry.line.name), []).append(entry)
    return list(groups.values())


def _by_version(entries: Sequence[Entry]) -> list[Entry]:
    """The newest first: ``v10`` is newer than ``v9``."""
    return sorted(entries, key=lambda entry: _ordered(entry.line.version or ""), reverse=True)


def _ordered(version: str) -> tuple[int, str]:
    figures = version.removeprefix("v")
    return (int(figures) if figures.isdecimal() and len(figures) < 20 else 0), version


def _used(row: Row) -> bool:
    """Whether there is anything in a row."""
    return any(getattr(row.counts, name) for name in SUMMED)
