"""Accounts: what the store keeps of them, and what may be written there."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.store import Delete, Op, Store, Write

from .audit import MAX_PAGE
from .interface import ADMIN, Account, Kind
from .passwords import Hash

TABLE = "auth"
"""Where they stand in the store's database of the platform."""

MAX_ID = 100
"""Characters of the id of an account or a rule."""

MAX_NAME = 100
"""Characters of the name of an account."""

MAX_SCOPES = 32
"""Scopes of one account."""

MAX_SCOPE = 64
"""Characters of a scope."""

MAX_METADATA = 2048
"""Bytes of an account's metadata as JSON; they are in each of its tokens."""

_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.@+-]{{0,{MAX_ID - 1}}}")
_SCOPE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.:/@-]{{0,{MAX_SCOPE - 1}}}")
_GUARD = "admins"


class Replica(msgspec.Struct, frozen=True):
    """What one replica of a service logs in by.

    Attributes:
        secret: what is kept of it.
        since: no token of it is from before this time, see `AccountRecord.since`.
    """

    secret: Hash
    since: float


class AccountRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An account as it is kept.

    Attributes:
        account: who.
        secret: by which it logs in, if it has one of its own.
        replicas: of a service that the runtime started, by their names.
        generation: another one after each change of secret or scopes, so that what was logged in
            by what it was before is seen to be.
        created: seconds since the epoch.
        since: tokens that were issued before this time, in seconds since the epoch, are revoked.
    """

    account: Account
    secret: Hash | None = None
    replicas: dict[str, Replica] = {}
    generation: str
    created: float
    since: float


class Found(msgspec.Struct, frozen=True):
    """An account's record and its version."""

    record: AccountRecord
    version: int


class Accounts:
    """Reads accounts, and makes the ops that change them.

    Args:
        store: the table `TABLE` of the platform's database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find(self, namespace: str, id: str) -> Found | None:
        """An account; None when there is none."""
        if not _ID.fullmatch(id):
            return None
        try:
            record = await self._store.read(_key(namespace, id))
        except errors.NotFound:
            return None
        return Found(codec.decode(record.value, AccountRecord), record.version)

    async def get(self, namespace: str, id: str) -> Found:
        """An account.

        Raises:
            errors.NotFound: there is none.
        """
        found = await self.find(namespace, id)
        if found is None:
            raise errors.NotFound("auth", f"there is no account {id!r:.120} in {namespace}")
        return found

    async def all(self, namespace: str) -> AsyncIterator[AccountRecord]:
        """Every account of a namespace."""
        after = ""
        while page := await self.list(namespace, limit=MAX_PAGE, after=after):
            for one in page:
                yield one
            after = page[-1].account.id

    def write(self, record: AccountRecord, version: int) -> Write:
        """What puts an account there, if it is still at this version; 0 for there is none."""
        key = _key(record.account.namespace, record.account.id)
        return Write(key, codec.encode(record), version=version, table=TABLE)

    def delete(self, found: Found) -> Delete:
        """What removes an account, if it is still as it was found."""
        account = found.record.account
        return Delete(_key(account.namespace, account.id), version=found.version, table=TABLE)

    async def sweep(self, namespace: str) -> None:
        """Remove all of a namespace."""
        await sweep(self._store, _key(namespace, ""))

    async def fewer_admins(self, leaving: Account) -> list[Op]:
        """What guards that the platform keeps an admin who can log in, when one leaves.

        Raises:
            errors.Conflict: it is the last one.
        """
        if leaving.namespace != DEFAULT_NAMESPACE or ADMIN not in leaving.scopes:
            return []
        try:
            version = (await self._store.read(_GUARD)).version
        except errors.NotFound:
            version = 0
        async for one in self.all(DEFAULT_NAMESPACE):
            other = one.account
            if other.id != leaving.id and ADMIN in other.scopes and one.secret is not None:
                # Of two that leave at once, each by the other's word, one has to think again.
                return [Write(_GUARD, b"{}", version=version, table=TABLE)]
        detail = f"{leaving.id} is the last admin of the platform; make another one first"
        raise errors.Conflict("auth", detail)

    # Last, because after it the name means this method to a type checker.
    async def list(self, namespace: str, *, limit: int = 0, after: str = "") -> list[AccountRecord]:
        """The accounts of a namespace by id, those after one."""
        prefix = _key(namespace, "")
        cursor = prefix + after if after else ""
        records = await self._store.read(prefix=prefix, limit=limit, after=cursor)
        return [codec.decode(record.value, AccountRecord) for record in records]


async def sweep(store: Store, prefix: str) -> None:
    """Remove all records of a prefix, some at a time."""
    while keys := await store.list(prefix, limit=MAX_PAGE):
        await store.batch([Delete(key) for key in keys])


def new_generation() -> str:
    """One that no account had before."""
    return secrets.token_hex(8)


def check(
    id: str,
    kind: str,
    namespace: str,
    scopes: Sequence[str],
    name: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Account:
    """The account that these make.

    Raises:
        errors.BadRequest: one of them is not good; the detail says which, and what is.
    """
    check_id(id)
    if kind not in ("user", "service"):
        raise _bad(f"type: user or service, not {kind!r:.80}")
    said: Kind = "service" if kind == "service" else "user"
    return Account(
        id=id,
        type=said,
        namespace=namespace,
        scopes=check_scopes(scopes),
        name=check_name(name) or id,
        metadata=check_metadata(metadata or {}),
    )


def check_id(id: str, what: str = "account") -> str:
    """Return the id of an account or a rule when it is a good one."""
    if _ID.fullmatch(id):
        return id
    raise _bad(
        f"id: {id!r:.120} is no id of a{'n' if what == 'account' else ''} {what}; use up to "
        f"{MAX_ID} letters, digits and _ . @ + -, beginning with a letter or digit"
    )


def check_scope(scope: str) -> str:
    """Return a named scope when it is a good one."""
    if _SCOPE.fullmatch(scope):
        return scope
    raise _bad(
        f"scopes: {scope!r:.80} is no scope; use up to {MAX_SCOPE} letters, digits and "
        "_ . : / @ -, beginning with a letter or digit"
    )


def check_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return scopes, each once."""
    if len(scopes) > MAX_SCOPES:
        raise _bad(f"scopes: at most {MAX_SCOPES}, not {len(scopes)}")
    return tuple(dict.fromkeys(check_scope(scope) for scope in scopes))


def check_name(name: str) -> str:
    """Return the name of an account when it is a good one."""
    if len(name) > MAX_NAME or not name.isprintable():
        raise _bad(f"name: use up to {MAX_NAME} printable characters, not {name!r:.120}")
    return name


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata when they are not too large."""
    size = len(codec.encode(metadata)) if metadata else 0
    if size > MAX_METADATA:
        raise _bad(f"metadata: {size} bytes as JSON; at most {MAX_METADATA} are kept")
    return dict(metadata)


def _key(namespace: str, id: str) -> str:
    return f"account/{namespace}/{id}"


def _bad(detail: str) -> errors.BadRequest:
    return errors.BadRequest("auth", detail)
