"""Sessions: logins that last, each a family of refresh tokens of which only the newest is good.

A refresh token is ``family.secret``. The family's number is known to nobody but its holder (the
session's public id is a hash of it), so that whoever shows an old secret once had a token of it:
it was copied, and the family ends. The next secret follows from the one before and from a key
that never leaves the store; two programs that refresh at the same moment get the same one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Literal

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import Clock
from microcosmos.store import Delete, Op, Store, Write

from .accounts import sweep

TABLE = "auth/sessions"
"""Where they stand in the store's database of the platform."""

IDLE = 30 * 86400.0
"""Seconds after which a login that was not used ends."""

LONGEST = 90 * 86400.0
"""Seconds after which a login ends, used or not."""

LEEWAY = 10.0
"""Seconds for which a refresh token is good once it was replaced: the answer may have been lost."""

MAX_SESSIONS = 100
"""Logins of one account; a further one ends the oldest."""

_LONGEST_TOKEN = 1024


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A login.

    Attributes:
        generation: of the account when it logged in; see `accounts.AccountRecord`.
        created: when, in seconds since the epoch.
        hash: of the secret that is good.
        previous: of the one before it.
        replaced: when that was.
        until: when the last of its access tokens ends.
        key: what the next secret is made with.
    """

    generation: str
    created: float
    hash: str
    previous: str = ""
    replaced: float = 0.0
    until: float
    key: str


class Held(msgspec.Struct, frozen=True):
    """A session as it was found.

    Attributes:
        key: of its record.
        version: of its record.
        session: what is there.
    """

    key: str
    version: int
    session: Session

    @property
    def id(self) -> str:
        """The session's public id."""
        return self.key.rpartition("/")[2]


class Shown(msgspec.Struct, frozen=True):
    """What a refresh token says."""

    namespace: str
    account: str
    family: str
    secret: str

    @property
    def key(self) -> str:
        """The record that it belongs to."""
        return _key(self.namespace, self.account, self.family)


class Sessions:
    """Keeps them.

    Args:
        store: the table `TABLE` of the platform's database.
        clock: by which they end.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def begin(
        self, namespace: str, account: str, generation: str, until: float
    ) -> tuple[str, str]:
        """Begin one: its public id, and its first refresh token.

        Args:
            namespace: of the account.
            account: its id.
            generation: see `Session`.
            until: when its access token ends.
        """
        family, secret = secrets.token_urlsafe(24), secrets.token_urlsafe(32)
        session = Session(
            generation=generation,
            created=self._clock.time(),
            hash=_hash(secret),
            until=until,
            key=secrets.token_urlsafe(32),
        )
        key = _key(namespace, account, family)
        ops: list[Op] = [self._write(key, session, version=0)]
        ops.extend(Delete(old) for old in await self._surplus(namespace, account))
        await self._store.batch(ops)
        return key.rpartition("/")[2], _token(namespace, account, family, secret)

    async def _surplus(self, namespace: str, account: str) -> list[str]:
        keys = await self._store.list(_prefix(namespace, account))
        if len(keys) < MAX_SESSIONS:
            return []
        records = await self._store.read(prefix=_prefix(namespace, account))
        records.sort(key=lambda record: record.version)
        return [record.key for record in records[: len(records) - MAX_SESSIONS + 1]]

    async def find(self, key: str) -> Held | None:
        """The session of a record; None when it has ended."""
        try:
            record = await self._store.read(key)
        except errors.NotFound:
            return None
        return Held(record.key, record.version, codec.decode(record.value, Session))

    def standing(self, held: Held, shown: Shown) -> Literal["good", "replaced", "old"]:
        """Whether a refresh token is the good one, or was replaced, just now or before."""
        session, said = held.session, _hash(shown.secret)
        if hmac.compare_digest(said, session.hash):
            return "good"
        age = self._clock.time() - session.replaced
        if hmac.compare_digest(said, session.previous) and abs(age) <= LEEWAY:
            return "replaced"
        return "old"

    async def advance(self, held: Held, shown: Shown, until: float) -> str:
        """Replace the good secret by the next one, and return the token with that.

        Args:
            held: the session.
            shown: the token with the good secret.
            until: when the access token ends that is given with it.

        Raises:
            errors.Conflict: somebody else did so in the meantime.
        """
        following = self.following(held, shown)
        session = msgspec.structs.replace(
            held.session,
            hash=_hash(following.rpartition(".")[2]),
            previous=held.session.hash,
            replaced=self._clock.time(),
            until=max(held.session.until, until),
        )
        await self._store.batch([self._write(held.key, session, version=held.version)])
        return following

    def following(self, held: Held, shown: Shown) -> str:
        """The token that follows one."""
        made = hmac.digest(held.session.key.encode(), shown.secret.encode(), "sha256")
        return _token(shown.namespace, shown.account, shown.family, _url_base64(made))

    def end(self, key: str) -> Op:
        """What ends the one of a record."""
        return Delete(key, table=TABLE)

    async def ends(self, namespace: str, account: str) -> list[Op]:
        """What ends all of an account."""
        keys = await self._store.list(_prefix(namespace, account), limit=2 * MAX_SESSIONS)
        return [Delete(key, table=TABLE) for key in keys]

    async def sweep(self, namespace: str) -> None:
        """End all of a namespace."""
        await sweep(self._store, f"{namespace}/")

    def _write(self, key: str, session: Session, *, version: int) -> Write:
        left = session.created + LONGEST - self._clock.time()
        expiry = max(min(IDLE, left), 0.001)
        return Write(key, codec.encode(session), expiry=expiry, version=version)


def read(token: str) -> Shown:
    """Read a refresh token.

    Raises:
        errors.Unauthorized: it is none.
    """
    try:
        head, family, secret = token.split(".") if len(token) <= _LONGEST_TOKEN else ("", "", "")
        padded = head + "=" * (-len(head) % 4)
        namespace, account = base64.urlsafe_b64decode(padded).decode().split("/")
    except (ValueError, UnicodeError):
        raise ended() from None
    if not (namespace and account and family and secret and token.isascii()):
        raise ended()
    return Shown(namespace, account, family, secret)


def ended() -> errors.Unauthorized:
    """The error of a refresh token that is not good."""
    return errors.Unauthorized("auth", "the login has ended; log in again")


def key_of(namespace: str, account: str, id: str) -> str:
    """The record of a session by its public id."""
    return _prefix(namespace, account) + id


def _prefix(namespace: str, account: str) -> str:
    return f"{namespace}/{account}/"


def _key(namespace: str, account: str, family: str) -> str:
    id = hashlib.sha256(family.encode()).hexdigest()[:24]
    return key_of(namespace, account, id)


def _token(namespace: str, account: str, family: str, secret: str) -> str:
    return f"{_url_base64(f'{namespace}/{account}'.encode())}.{family}.{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _url_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
