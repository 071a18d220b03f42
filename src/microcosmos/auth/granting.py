"""Granting: access tokens for a secret, for a refresh token, or by an admin's word."""

from __future__ import annotations

import msgspec

from microcosmos.base import errors

from . import sessions
from .accounts import AccountRecord
from .attempts import Attempt, Attempts
from .interface import Account
from .keys import TokenKeys
from .people import replica_session
from .records import REPEATS, Records, busy
from .tokens import LIFETIME, LONGEST


class Granted(msgspec.Struct, frozen=True):
    """A token as Micro's `Token` has it; times in seconds since the epoch."""

    access_token: str
    refresh_token: str
    created: int
    expiry: int


class Granting:
    """Logs in.

    Args:
        records: what is known.
        keys: what signs.
    """

    def __init__(self, records: Records, keys: TokenKeys) -> None:
        self._records = records
        self._keys = keys
        self._attempts = Attempts(records.clock)

    async def login(
        self, namespace: str, id: str, secret: str, *, expiry: float = 0, address: str = ""
    ) -> Granted:
        """A token for a secret; for a user's with a refresh token, for a replica's without.

        Args:
            namespace: of the account.
            id: of the account.
            secret: what proves it.
            expiry: seconds that it is good for; 0 is `tokens.LIFETIME`.
            address: where the login comes from; empty is inside.

        Raises:
            errors.Unauthorized: there is no such account, or it has another secret.
            errors.TooManyRequests: too many wrong ones; the detail says how long to wait.
            errors.BadRequest: the lifetime is out of bounds.
        """
        lifetime = bounded(expiry)
        # Before the account is read: what changes it from now on revokes this token.
        asked = self._records.clock.time()
        record, replica = await self.prove(Attempt(namespace, id, address), secret)
        account = record.account
        if replica:
            session = replica_session(account.namespace, account.id, replica)
            issued = max(asked, record.since, record.replicas[replica].since)
            return self._granted(account, session, issued, lifetime)
        issued = max(asked, record.since)
        session, refresh = await self._records.sessions.begin(
            account.namespace, account.id, record.generation, issued + lifetime
        )
        return self._granted(account, session, issued, lifetime, refresh)

    async def prove(self, attempt: Attempt, secret: str) -> tuple[AccountRecord, str]:
        """The account that a secret proves, and whose replica's it is; empty is the account's own.

        Raises:
            errors.Unauthorized: as `login` does.
            errors.TooManyRequests: as `login` does.
        """
        counted = self._attempts.begin(attempt)
        record = await self._record(attempt.namespace, attempt.account)
        replica = await self._proven(record, secret)
        if record is None or replica is None:
            where = f"{attempt.account[:120]} in {attempt.namespace[:80]}"
            raise errors.Unauthorized("auth", f"there is no account {where} with this secret")
        self._attempts.succeeded(counted)
        return record, replica

    async def _record(self, namespace: str, id: str) -> AccountRecord | None:
        if namespace not in self._records.standing.policy.rules:
            return None
        found = await self._records.accounts.find(namespace, id)
        return found.record if found else None

    async def _proven(self, record: AccountRecord | None, secret: str) -> str | None:
        """The replica whose secret it is, an empty text for the account's own, or None."""
        proves = self._records.passwords.proves
        if record is None:
            await proves(secret)
            return None
        if not record.replicas:
            known = [record.secret] if record.secret else []
            return "" if await proves(secret, *known) else None
        for name, replica in record.replicas.items():
            if self._records.passwords.quick(secret, replica.secret):
                return name
        known = [record.secret] if record.secret else []
        return "" if await proves(secret, *known) else None

    async def refresh(self, token: str, *, namespace: str = "", expiry: float = 0) -> Granted:
        """A token for a refresh token, and the next one of these.

        Args:
            token: the refresh token; it is replaced.
            namespace: where the account has to be; empty is where it is.
            expiry: seconds that the access token is good for; 0 is `tokens.LIFETIME`.

        Raises:
            errors.Unauthorized: it is not good. If it was once, it was copied, and the login ends.
            errors.BadRequest: the lifetime is out of bounds.
        """
        lifetime = bounded(expiry)
        shown = sessions.read(token)
        if namespace not in ("", shown.namespace):
            raise sessions.ended()
        for _ in range(REPEATS):
            try:
                return await self._refreshed(shown, lifetime)
            except errors.Conflict:
                continue
        raise busy("the login")

    async def _refreshed(self, shown: sessions.Shown, lifetime: float) -> Granted:
        records = self._records
        asked = records.clock.time()
        held = await records.sessions.find(shown.key)
        record = await self._record(shown.namespace, shown.account)
        if held is None or record is None or held.session.generation != record.generation:
            raise sessions.ended()
        standing = records.sessions.standing(held, shown)
        if standing == "old":
            await self._end(held, shown.namespace, "a refresh token was used again")
            raise sessions.ended()
        issued = max(asked, record.since)
        if standing == "good":
            following = await records.sessions.advance(held, shown, issued + lifetime)
        else:
            following = records.sessions.following(held, shown)
            # Nothing is written, so that no token of the login may outlive what it knows of.
            lifetime = max(min(lifetime, held.session.until - issued), 1.0)
        return self._granted(record.account, held.id, issued, lifetime, following)

    async def logout(self, token: str) -> None:
        """End the login of a refresh token; its access tokens are refused from now on.

        Raises:
            errors.Unauthorized: it is not good.
        """
        shown = sessions.read(token)
        held = await self._records.sessions.find(shown.key)
        if held is not None:
            await self._end(held, shown.namespace, "")

    async def end(self, account: Account, session: str) -> None:
        """End a login by its public id; its access tokens are refused from now on."""
        key = sessions.key_of(account.namespace, account.id, session)
        held = await self._records.sessions.find(key)
        if held is not None:
            await self._end(held, account.namespace, "")

    async def _end(self, held: sessions.Held, namespace: str, why: str) -> None:
        records, what = self._records, f"session/{held.id}"
        revocation, since = records.revoke(
            what, namespace, issued=records.soon(), until=held.session.until
        )
        ops = [records.sessions.end(held.key), revocation]
        if why:
            account = held.key.split("/")[1]
            ops.append(records.audit.op("login ended", account, why, namespace=namespace))
        await records.commit(ops)
        await records.late(what, namespace, since)

    async def for_another(self, namespace: str, id: str, *, expiry: float = 0) -> Granted:
        """A token of an account by an admin's word, without a refresh token.

        Raises:
            errors.NotFound: there is no such account.
            errors.BadRequest: the lifetime is out of bounds.
        """
        lifetime = bounded(expiry)
        asked = self._records.clock.time()
        record = (await self._records.accounts.get(namespace, id)).record
        await self._records.audit.add(
            "token created", id, f"for {lifetime:g} s", namespace=namespace
        )
        return self._granted(record.account, "", max(asked, record.since), lifetime)

    async def for_service(self, namespace: str, id: str, *, expiry: float = 0) -> Granted:
        """A token of a service by which the platform acts for it, without a refresh token.

        Raises:
            errors.NotFound: there is no such account, or it is a user's.
            errors.BadRequest: the lifetime is out of bounds.
        """
        lifetime = bounded(expiry)
        asked = self._records.clock.time()
        record = (await self._records.accounts.get(namespace, id)).record
        if record.account.type != "service":
            raise errors.NotFound("auth", f"there is no account of a service {id} in {namespace}")
        return self._granted(record.account, "", max(asked, record.since), lifetime)

    def _granted(
        self, account: Account, session: str, issued: float, lifetime: float, refresh: str = ""
    ) -> Granted:
        signed = self._keys.signer.sign(account, session, issued, lifetime)
        return Granted(signed, refresh, int(issued), int(issued + lifetime))


def bounded(expiry: float) -> float:
    """The lifetime of an access token that is asked for.

    Raises:
        errors.BadRequest: it is below 0 or above `tokens.LONGEST`.
    """
    if not 0 <= expiry <= LONGEST:
        detail = f"token_expiry: from 1 to {LONGEST:g} seconds, not {expiry:g}"
        raise errors.BadRequest("auth", detail)
    return expiry or LIFETIME
