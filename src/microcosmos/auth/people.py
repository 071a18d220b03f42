"""People, and services: the changes of accounts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.store import Op

from . import accounts, passwords
from .access import unknown
from .accounts import AccountRecord, Found, Replica
from .interface import SERVICE, Account
from .records import REPEATS, Records, busy
from .standing import AdminEntry

T = TypeVar("T")

ADMIN_ENTRY = "admin"
"""Where the policy's table says whether the default password stands."""


class People:
    """Makes, changes and removes accounts; who may do so is for the caller to see to.

    Args:
        records: where they are.
    """

    def __init__(self, records: Records) -> None:
        self._records = records

    async def create(self, account: Account, secret: str = "") -> str:
        """Make an account, and return its secret, in the clear this one time.

        Args:
            account: as `accounts.check` makes one.
            secret: what it logs in by; else one is made.

        Raises:
            errors.BadRequest: the secret is no good password.
            errors.Conflict: the id is taken.
            errors.NotFound: there is no such namespace.
        """
        self._known(account.namespace)
        if secret:
            kept = await self._records.passwords.hash(passwords.check(secret, account.id))
        else:
            secret = passwords.generated()
            kept = passwords.digest(secret)
        detail = f"type {account.type}, scopes {_list(account.scopes)}"
        try:
            await self._records.commit(
                [
                    self._records.accounts.write(self._record(account, kept), 0),
                    self._note("account created", account, detail),
                ]
            )
        except errors.Conflict:
            raise self._taken(account) from None
        return secret

    def _record(self, account: Account, secret: passwords.Hash | None) -> AccountRecord:
        records, now = self._records, self._records.clock.time()
        what = f"account/{account.namespace}/{account.id}"
        since = max(records.good_from(what), records.good_from(f"namespace/{account.namespace}"))
        return AccountRecord(
            account=account,
            secret=secret,
            generation=accounts.new_generation(),
            created=now,
            since=max(now, since),
        )

    def _taken(self, account: Account) -> errors.Conflict:
        detail = f"there is an account {account.id} in {account.namespace} already"
        return errors.Conflict("auth", detail)

    def _known(self, namespace: str) -> None:
        if namespace not in self._records.standing.policy.rules:
            raise unknown(namespace)

    async def delete(self, namespace: str, id: str) -> None:
        """Remove an account; its tokens are refused from now on.

        Raises:
            errors.NotFound: there is none.
            errors.Conflict: it is the last admin of the platform.
        """

        async def step() -> None:
            await self._delete(await self._records.accounts.get(namespace, id))

        await self._until_done(id, step)

    async def _delete(self, found: Found) -> None:
        account = found.record.account
        ops = [
            self._records.accounts.delete(found),
            self._note("account deleted", account),
            *await self._records.accounts.fewer_admins(account),
            *self._not_default(account),
        ]
        await self._revoking(found, ops, self._revocation(found))

    async def change_secret(self, namespace: str, id: str, secret: str) -> None:
        """Give an account another password; its tokens and logins end.

        Raises:
            errors.NotFound: there is no such account.
            errors.BadRequest: it is no good password.
        """
        await self._records.accounts.get(namespace, id)
        kept = await self._records.passwords.hash(passwords.check(secret, id))

        async def step() -> None:
            found = await self._records.accounts.get(namespace, id)
            account = found.record.account
            record = msgspec.structs.replace(found.record, secret=kept)
            note = self._note("secret changed", account)
            await self._replace(found, record, [note, *self._not_default(account)])

        await self._until_done(id, step)

    async def update(
        self,
        namespace: str,
        id: str,
        *,
        scopes: Sequence[str] | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Account:
        """Change what is said of an account; None stays as it is.

        Other scopes end its tokens and logins.

        Raises:
            errors.NotFound: there is no such account.
            errors.BadRequest: what is said is not good.
            errors.Conflict: it is the last admin of the platform, and would be none.
        """

        async def step() -> Account:
            found = await self._records.accounts.get(namespace, id)
            before = found.record.account
            changed = msgspec.structs.replace(
                before,
                scopes=before.scopes if scopes is None else accounts.check_scopes(scopes),
                name=before.name if name is None else accounts.check_name(name) or id,
                metadata=before.metadata if metadata is None else accounts.check_metadata(metadata),
            )
            await self._update(found, changed)
            return changed

        return await self._until_done(id, step)

    async def _update(self, found: Found, changed: Account) -> None:
        before = found.record.account
        record = msgspec.structs.replace(found.record, account=changed)
        if set(changed.scopes) == set(before.scopes):
            write = self._records.accounts.write(record, found.version)
            await self._commit([write, self._note("account changed", changed)])
            return
        detail = f"scopes {_list(before.scopes)} -> {_list(changed.scopes)}"
        ops = [self._note("account changed", changed, detail)]
        if not changed.everywhere:
            ops += await self._records.accounts.fewer_admins(before)
        await self._replace(found, record, ops)

    async def _replace(self, found: Found, record: AccountRecord, ops: Sequence[Op]) -> None:
        """Write a record of which all that was logged in before ends."""
        revocation = self._revocation(found)
        since = revocation[1]
        record = msgspec.structs.replace(
            record,
            generation=accounts.new_generation(),
            since=since,
            replicas={
                name: msgspec.structs.replace(replica, since=max(replica.since, since))
                for name, replica in record.replicas.items()
            },
        )
        write = self._records.accounts.write(record, found.version)
        await self._revoking(found, [write, *ops], revocation)

    async def revoke(self, namespace: str, id: str) -> None:
        """End all tokens and logins of an account; it may log in again.

        Raises:
            errors.NotFound: there is none.
        """

        async def step() -> None:
            found = await self._records.accounts.get(namespace, id)
            note = self._note("tokens revoked", found.record.account)
            await self._replace(found, found.record, [note])

        await self._until_done(id, step)

    def _revocation(self, found: Found) -> tuple[Op, float]:
        account, issued = found.record.account, found.record.since
        return self._records.revoke(_what(account), account.namespace, issued=issued)

    async def _revoking(
        self, found: Found, ops: Sequence[Op], revocation: tuple[Op, float]
    ) -> None:
        records, account = self._records, found.record.account
        what, (revoked, since) = _what(account), revocation
        ends = await records.sessions.ends(account.namespace, account.id)
        await self._commit([*ops, revoked, *ends])
        await records.late(what, account.namespace, since)

    async def _until_done(self, what: str, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step again and again that fails where others were faster."""
        for _ in range(REPEATS):
            try:
                return await step()
            except _Meanwhile:
                continue
        raise busy(what)

    async def _commit(self, ops: Sequence[Op]) -> None:
        try:
            await self._records.commit(ops)
        except errors.Conflict:
            raise _Meanwhile from None

    # Services.

    async def service_secret(self, namespace: str, service: str, replica: str) -> str:
        """Make the secret of a replica; what its former one logged in ends.

        Raises:
            errors.Conflict: a user has the service's name.
            errors.NotFound: there is no such namespace.
        """
        self._known(namespace)
        secret = passwords.generated()
        kept = passwords.digest(secret)

        async def step() -> None:
            found = await self._records.accounts.find(namespace, service)
            await self._add_replica(namespace, service, replica, kept, found)

        await self._until_done(service, step)
        return secret

    async def _add_replica(
        self,
        namespace: str,
        service: str,
        replica: str,
        secret: passwords.Hash,
        found: Found | None,
    ) -> None:
        records, ops = self._records, []
        if found is None:
            record = self._record(_of_service(namespace, service), None)
            ops.append(self._note("account created", record.account, "type service"))
        else:
            record = found.record
        _check_service(record.account)
        since = record.since
        if former := record.replicas.get(replica):
            session = replica_session(namespace, service, replica)
            issued = max(record.since, former.since)
            revocation, since = records.revoke(f"session/{session}", namespace, issued=issued)
            ops.append(revocation)
        replicas = {**record.replicas, replica: Replica(secret, since)}
        record = msgspec.structs.replace(record, replicas=replicas)
        write = records.accounts.write(record, found.version if found else 0)
        await self._commit([write, *ops])

    async def service_account(self, namespace: str, service: str) -> None:
        """Make the account of a service that no process of its own logs in as, if there is none.

        Raises:
            errors.Conflict: a user has the service's name.
            errors.NotFound: there is no such namespace.
        """
        self._known(namespace)

        async def step() -> None:
            found = await self._records.accounts.find(namespace, service)
            if found is not None:
                _check_service(found.record.account)
                return
            record = self._record(_of_service(namespace, service), None)
            note = self._note("account created", record.account, "type service")
            await self._commit([self._records.accounts.write(record, 0), note])

        await self._until_done(service, step)

    async def forget_service(self, namespace: str, service: str) -> None:
        """Remove the account that the runtime made for a service, with its tokens.

        One that an admin made stays, without the replicas.
        """

        async def step() -> None:
            found = await self._records.accounts.find(namespace, service)
            if found is None or found.record.account.type != "service":
                return
            if found.record.secret is None:
                await self._delete(found)
            elif found.record.replicas:
                record = msgspec.structs.replace(found.record, replicas={})
                note = self._note("tokens revoked", record.account)
                await self._replace(found, record, [note])

        await self._until_done(service, step)

    # The first one.

    def first(self, secret: passwords.Hash, *, default: bool) -> list[Op]:
        """What makes the first account, once for ever."""
        account = Account(id=passwords.DEFAULT_ID, scopes=("admin",), name=passwords.DEFAULT_ID)
        return [
            self._records.put(ADMIN_ENTRY, AdminEntry(default), version=0),
            self._records.accounts.write(self._record(account, secret), 0),
            self._note("account created", account, "the first one"),
        ]

    def _not_default(self, account: Account) -> list[Op]:
        """What takes note that the default password is gone."""
        first = (DEFAULT_NAMESPACE, passwords.DEFAULT_ID)
        if (account.namespace, account.id) != first:
            return []
        return [self._records.put(ADMIN_ENTRY, AdminEntry(default=False))]

    def _note(self, action: str, account: Account, detail: str = "") -> Op:
        return self._records.audit.op(action, account.id, detail, namespace=account.namespace)


class _Meanwhile(Exception):
    """Somebody else was faster: look again."""


def replica_session(namespace: str, service: str, replica: str) -> str:
    """The session that the tokens of a replica are of."""
    return passwords.digest(f"{namespace}/{service}/{replica}").text[:24]


def _of_service(namespace: str, service: str) -> Account:
    return Account(id=service, type="service", namespace=namespace, scopes=(SERVICE,), name=service)


def _check_service(account: Account) -> None:
    """Refuse the account of a user where a service wants one of its name."""
    if account.type != "service":
        detail = f"{account.id} is the account of a user in {account.namespace}"
        raise errors.Conflict("auth", f"{detail}; delete it, or give the service another name")


def _what(account: Account) -> str:
    return f"account/{account.namespace}/{account.id}"


def _list(scopes: Sequence[str]) -> str:
    return ",".join(scopes) or "none"
