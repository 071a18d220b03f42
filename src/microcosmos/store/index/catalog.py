"""What is known of a table's indexes: who declared which version when, and how far each has come.

One record an index, in the table ``TABLE$index``; the entries are in ``TABLE$index/ID/VERSION``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.store.interface import Check, Delete, Op, Store

RENEW = 600.0
"""Seconds after which a program says again that it uses an index."""

SUPERSEDED = 3600.0
"""Seconds after which a version that no program uses is removed, once a newer one is complete."""

ORPHANED = 7 * 24 * 3600.0
"""Seconds after which an index that no program uses is removed."""

PART = "index"
"""The part of a table that its plans are in; the entries are in further ones, below it."""

_AT_ONCE = 200

logger = logging.getLogger(__name__)


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an index.

    Attributes:
        declared: when a program last said that it uses it, in seconds since the epoch.
        done: its entries are complete: it may serve.
        finished: when they first were.
        checked: every record was compared with the entries, as of ``seen``.
        cursor: else the last key that was.
        seen: changes of the table up to this version of the store are in the entries, or are
            found by the run through the table.
        dropping: its entries are being removed.
    """

    declared: float
    done: bool = False
    finished: float = 0
    checked: bool = False
    cursor: str = ""
    seen: int = 0
    dropping: bool = False


class Plan(msgspec.Struct, frozen=True):
    """The versions of an index."""

    versions: dict[str, Build] = {}

    def replaced(self, version: str, build: Build | None) -> Plan:
        """The plan with another state of a version, None for without it."""
        others = {name: old for name, old in self.versions.items() if name != version}
        return Plan(others if build is None else {**others, version: build})

    def serving(self, but: str) -> str | None:
        """The version completed last, among the others; None if there is none."""
        done = {
            name: build.finished
            for name, build in self.versions.items()
            if name != but and build.done and not build.dropping
        }
        return max(done, key=lambda name: done[name]) if done else None

    def orphans(self, now: float) -> list[str]:
        """The versions that nobody uses any more."""
        found = []
        for name, build in self.versions.items():
            idle = now - build.declared
            newer = any(
                other.done and not other.dropping and other.declared > build.declared
                for other in self.versions.values()
            )
            if build.dropping or idle > ORPHANED or (newer and idle > SUPERSEDED):
                found.append(name)
        return found


class Catalog:
    """The plans of a table's indexes.

    Args:
        table: that is indexed.
        clock: what declarations are dated by.
    """

    def __init__(self, table: Store, clock: Clock = SYSTEM) -> None:
        self._table = table
        self._store = table.part(PART)
        self.name = self._store.scope[1]
        self._clock = clock

    def entries(self, id: str, version: str) -> Store:
        """The table that has a version's entries."""
        return self._table.part(f"{PART}/{id}/{version}")

    async def declare(self, id: str, version: str) -> Build:
        """Say that a program uses this version."""
        now = self._clock.time()
        while True:
            seen, (_, current) = await self._store.version(), await self.plan(id)

            def declared(build: Build | None, seen: int = seen, current: int = current) -> Build:
                if build is None:
                    return Build(declared=now, seen=seen)
                if build.dropping:
                    return build
                build = msgspec.structs.replace(build, declared=max(now, build.declared))
                if build.seen < current:
                    return build
                # Nobody has seen what came after this was written: it is from another store.
                return msgspec.structs.replace(build, checked=False, cursor="", seen=seen)

            build = await self.change(id, version, declared)
            if not build.dropping:
                return build
            # Half of it is gone: the rest has to be before it can begin anew.
            await self._drop(id, version)

    async def change(self, id: str, version: str, change: Callable[[Build | None], Build]) -> Build:
        """Replace the state of a version by what ``change`` makes of it."""

        def changed(plan: Plan | None) -> Plan:
            plan = plan or Plan()
            return plan.replaced(version, change(plan.versions.get(version)))

        plan: Plan = await self._store.modify(id, changed, Plan)
        return plan.versions[version]

    async def plan(self, id: str) -> tuple[Plan, int]:
        """The plan of an index and the version of its record, 0 if there is none."""
        try:
            record = await self._store.read(id)
        except errors.NotFound:
            return Plan(), 0
        return codec.decode(record.value, Plan), record.version

    async def drop_orphans(self) -> list[str]:
        """Remove what nobody uses, and return what that was, as ``ID/VERSION``.

        It may be ended anywhere, and goes on at the next call.
        """
        dropped = []
        async for id in self._store.all_keys():
            plan, _ = await self.plan(id)
            orphans = plan.orphans(self._clock.time())
            dropped += [f"{id}/{one}" for one in orphans if await self._remove(id, one)]
        return dropped

    async def _remove(self, id: str, version: str) -> bool:
        return await self._mark(id, version) and await self._drop(id, version)

    async def _mark(self, id: str, version: str) -> bool:
        """Say that a version is being dropped, unless a program has come back to it."""

        def marked(plan: Plan | None) -> Plan | None:
            if plan is None or version not in plan.orphans(self._clock.time()):
                return plan
            doomed = msgspec.structs.replace(plan.versions[version], dropping=True)
            return plan.replaced(version, doomed)

        plan: Plan | None = await self._store.modify(id, marked, Plan)
        return plan is not None and version in plan.versions and plan.versions[version].dropping

    async def _drop(self, id: str, version: str) -> bool:
        entries = self.entries(id, version)
        while True:
            plan, current = await self.plan(id)
            build = plan.versions.get(version)
            if build is None or not build.dropping:
                return False
            keys = await entries.list(limit=_AT_ONCE)
            ops: list[Op] = [Delete(key, table=entries.scope[1]) for key in keys]
            try:
                if not keys:
                    await self._forget(id, plan.replaced(version, None), current)
                    return True
                # As long as the plan says so: somebody else may be done, and it begun anew.
                await self._store.batch([*ops, Check(id, current)])
            except errors.Conflict:
                continue

    async def _forget(self, id: str, plan: Plan, current: int) -> None:
        if plan.versions:
            await self._store.write(id, codec.encode(plan), version=current)
        else:
            await self._store.delete(id, version=current)


async def drop_orphans(store: Store, *, clock: Clock = SYSTEM) -> list[str]:
    """Remove the indexes of a database that no program has used for `ORPHANED` seconds.

    For who sees all tables of the database: a program removes those of its own tables itself.

    Returns:
        What was removed, as ``TABLE/ID/VERSION``.
    """
    dropped = []
    for name in await store.tables():
        table, mark, part = name.rpartition("$")
        if mark and part == PART:
            gone = await Catalog(store.table(table), clock).drop_orphans()
            dropped += [f"{table}/{each}" for each in gone]
    for each in dropped:
        logger.info("the index %s was removed: no program uses it", each)
    return dropped
