"""Records: the tables of auth in the store, and how they are changed.

An entry of the audit log is in the same batch as the change, and the policy of this process
follows at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from microcosmos.base import codec, errors
from microcosmos.base.clock import Clock
from microcosmos.store import PLATFORM, Check, Delete, Op, Store, Write

from . import accounts, audit, sessions
from .passwords import Passwords
from .standing import Entry, RevokedEntry, Standing
from .tokens import LONGEST

POLICY = "auth/policy"
"""The table of what policies are made of."""

MARGIN = 1.0
"""Seconds that a revocation reaches ahead, for tokens that are issued while it is written."""

REPEATS = 20
"""Times that a change is tried that others get in the way of."""


class Records:
    """What the rooms of auth share.

    Args:
        store: any table of the store; the database `PLATFORM` of it is used.
        clock: the times of all that is written.
        passwords: hashes and compares them.

    Attributes:
        policy: the table of what policies are made of.
        accounts: reads accounts.
        sessions: logins that last.
        audit: who changed what.
        standing: what stands, in memory.
    """

    def __init__(self, store: Store, clock: Clock, passwords: Passwords) -> None:
        home = store.table(accounts.TABLE, database=PLATFORM)
        self.clock = clock
        self.passwords = passwords
        self.policy = home.table(POLICY)
        self.accounts = accounts.Accounts(home)
        self.sessions = sessions.Sessions(home.table(sessions.TABLE), clock)
        self.audit = audit.Audit(home.table(audit.TABLE), clock)
        self.standing = Standing()

    async def load(self) -> None:
        """Read all that policies are made of."""
        version = await self.policy.version()
        records = await self.policy.read(prefix="")
        entries = [Entry(record.key, record.version, record.value) for record in records]
        self.standing.replace(entries, version)

    async def commit(self, ops: Iterable[Op]) -> None:
        """Do all of it or nothing; the policy of this process follows before it returns.

        Raises:
            errors.Conflict: a record is not at the version that an op names.
        """
        ops = [*ops]
        version = await self.policy.batch(ops)
        self.standing.apply(_entry(op, version) for op in ops if _concerns(op))
        await self.audit.trim()

    def put(self, key: str, entry: object, *, version: int | None = None, expiry: float = 0) -> Op:
        """What puts an entry of the policy there."""
        data = codec.encode(entry)
        return Write(key, data, expiry=expiry, version=version, table=POLICY)

    def drop(self, key: str) -> Op:
        """What removes an entry of the policy."""
        return Delete(key, table=POLICY)

    def revoke(
        self, what: str, namespace: str, *, issued: float = 0, until: float = 0
    ) -> tuple[Op, float]:
        """What refuses all tokens of something, and the time from which new ones are good.

        Args:
            what: ``account/NAMESPACE/ID``, ``session/SID`` or ``namespace/NAME``.
            namespace: where it is.
            issued: when the last of them may say that it was issued, if that is ahead of now:
                after one revocation it is, until this much time has passed.
            until: when the last of these tokens ends; 0 is as late as any can.
        """
        now = self.clock.time()
        entry = RevokedEntry(max(now + MARGIN, issued), namespace)
        # Until no token from before it can be alive.
        stays = min(max(until - now, 0.0) if until else LONGEST, LONGEST) + 4 * MARGIN
        return self.put(f"revoked/{what}", entry, expiry=stays), entry.until + 1e-3

    def good_from(self, what: str) -> float:
        """The time from which tokens of something are good."""
        return self.standing.policy.revoked.get(what, 0.0) + 1e-3

    def soon(self) -> float:
        """The latest time that a token of now may say it was issued at."""
        return self.clock.time() + 2 * MARGIN

    async def late(self, what: str, namespace: str, since: float) -> None:
        """Revoke once more if that was long in being written: tokens may be from after it."""
        if self.clock.time() >= since:
            op, _ = self.revoke(what, namespace)
            await self.commit([op])


def busy(what: str) -> errors.Conflict:
    """The error of a change that others got in the way of all the time."""
    return errors.Conflict("auth", f"{what} is being changed by others all the time; try again")


def _concerns(op: Op) -> bool:
    return op.table == POLICY and not isinstance(op, Check)


def _entry(op: Op, version: int) -> Entry:
    return Entry(op.key, version, op.value if isinstance(op, Write) else None)
