"""Strikes: what versions have done to their workers, and what follows from it.

A version that held up its worker, or was its end, gets a strike. With one it runs in a process of
its own; each further one has it refused for a while, longer every time. One that may have been
somebody else's doing is a suspicion: it sets the version apart, and that is all.

Strikes are forgotten when there was no new one for a time. A new version has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import Clock
from microcosmos.store import Delete, Store, Write
from microcosmos.store import Record as Kept

from .heads import ID
from .interface import State
from .versions import Which, stamp

FORGOTTEN = 3600.0
"""Seconds without a new strike after which those of a version are forgotten."""

SUSPECTED = 600.0
"""The same for a version that was only suspected."""

FIRST_PAUSE = 1.0
"""Seconds for which a version is refused after its second strike; they double with each further
one."""

LONGEST_PAUSE = 60.0
"""The longest such pause, in seconds."""

LONGEST_REASON = 300
"""Characters of the reason of a strike that are kept."""

REPEATS = 10
"""How often a strike is written again that others got in the way of."""

QUARANTINE = "functions.quarantine"
"""The id of the error of a version that is refused."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The strikes of a version, as the store has them.

    Attributes:
        proven: how many it has earned for certain.
        suspected: how many others.
        reason: of the last one, for people.
        since: when the first one was, in seconds since the epoch.
        last: when the last one was.
        struck: when the last proven one was.
        worker: whose end the last one was; the same one is not counted twice.
    """

    proven: int = 0
    suspected: int = 0
    reason: str = ""
    since: float = 0.0
    last: float = 0.0
    struck: float = 0.0
    worker: str = ""

    @property
    def count(self) -> int:
        """All of them."""
        return self.proven + self.suspected

    @property
    def forgotten(self) -> float:
        """When they are."""
        return self.last + (FORGOTTEN if self.proven else SUSPECTED)

    @property
    def refused(self) -> float:
        """Until when the version is not run; 0 if it is."""
        if self.proven < 2:
            return 0.0
        doubled = min(self.proven - 2, 16)
        return self.struck + min(FIRST_PAUSE * float(1 << doubled), LONGEST_PAUSE)

    def state(self, now: float) -> State:
        """The same, for people."""
        refused = self.refused > now
        return State(
            state="refused" if refused else "quarantined",
            strikes=self.count,
            reason=self.reason,
            since=stamp(self.since),
            until=stamp(self.refused if refused else self.forgotten),
        )


class Strikes:
    """The strikes of all versions.

    Args:
        table: where they are kept.
        clock: tells when they were.
    """

    def __init__(self, table: Store, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def add(
        self, which: Which, number: int, *, worker: str, reason: str, suspected: bool
    ) -> State:
        """Give a version a strike; durable on return, and only once for each worker.

        Args:
            which: the function.
            number: of the version.
            worker: whose end it was; unique for ever.
            reason: for people.
            suspected: whether it may have been somebody else's doing.

        Raises:
            errors.Conflict: others write it all the time.
        """
        key = which.version(number)
        for _ in range(REPEATS):
            before, version = await self._read(key)
            now = self._clock.time()
            if before.worker == worker:
                return before.state(now)
            after = Record(
                proven=before.proven + (not suspected),
                suspected=before.suspected + suspected,
                reason=reason[:LONGEST_REASON],
                since=before.since or now,
                last=now,
                struck=before.struck if suspected else now,
                worker=worker,
            )
            write = Write(
                key, codec.encode(after), expiry=after.forgotten - now + 1.0, version=version
            )
            try:
                await self._table.batch([write])
            except errors.Conflict:
                continue
            return after.state(now)
        raise errors.Conflict(ID, f"others write strikes of {which.name} all the time")

    async def of(self, which: Which, number: int) -> Record:
        """The strikes of a version; it may have none."""
        return (await self._read(which.version(number)))[0]

    async def check(self, which: Which, number: int) -> int:
        """How many strikes a version has that may be run now.

        Raises:
            errors.Unavailable: it may not, ``functions.quarantine``; the error says until when.
        """
        record, now = await self.of(which, number), self._clock.time()
        if record.refused <= now:
            return record.count
        left = record.refused - now
        error = errors.Unavailable(
            QUARANTINE,
            f"v{number} of function {which.name} is not run for another {left:.0f} s: it has"
            f" {record.count} strikes, and was {record.reason}; wait, or deploy another version",
        )
        error.retry_after = left
        raise error

    async def states(self, namespace: str) -> Mapping[str, Mapping[str, State]]:
        """What of a namespace has strikes, by the functions' `Which.prefix`, and by ``v3``."""
        return _by_function(await self._table.read(prefix=f"{namespace}/"), self._clock.time())

    async def states_of(self, which: Which) -> Mapping[str, State]:
        """The versions of a function that have strikes, by ``v3``."""
        found = _by_function(await self._table.read(prefix=which.prefix), self._clock.time())
        return found.get(which.prefix, {})

    async def pardon(self, which: Which) -> int:
        """Forget the strikes of all versions of a function; how many versions had some."""
        keys = await self._table.list(which.prefix)
        if keys:
            await self._table.batch([Delete(key) for key in keys])
        return len(keys)

    async def _read(self, key: str) -> tuple[Record, int]:
        """The strikes that are not forgotten, and the version of their record."""
        try:
            record = await self._table.read(key)
        except errors.NotFound:
            return Record(), 0
        found: Record = codec.decode(record.value, Record, id=ID)
        return (found if found.forgotten > self._clock.time() else Record()), record.version


def _by_function(records: Sequence[Kept], now: float) -> dict[str, dict[str, State]]:
    found: dict[str, dict[str, State]] = {}
    for one in records:
        prefix, _, number = one.key.rpartition("/")
        record: Record = codec.decode(one.value, Record, id=ID)
        if record.forgotten > now:
            found.setdefault(f"{prefix}/", {})[f"v{int(number)}"] = record.state(now)
    return found
