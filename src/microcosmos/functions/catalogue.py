"""The catalogue: the functions of all namespaces with their versions, in a store."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Mapping, Sequence

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.config.keys import Keys
from microcosmos.monitor.ledger.ledger import Ledger
from microcosmos.store import Op, Store, Write

from . import heads, limits, placeholders, versions
from .allotments import Allotments
from .allowances import Allowances, Allowed
from .claiming import Claimant, Claiming
from .conflicts import Claims, Others, no_others
from .feed import Feed
from .heads import ID, Found, Head, Tables, busy
from .interface import API_VERSION, Draft, Function, Limits, State, Unit, Version
from .ledger import move, whose
from .removal import REPEATS, Removal
from .requests import PAGE
from .secrets import Secrets, gone
from .showing import path_of
from .strikes import Strikes
from .verifying import verify
from .versions import Kept, Made, Which

MAX_SHARES = 10
"""The most versions that share the requests of a function."""

HISTORY_BYTES = 2 * 1024 * 1024
"""Bytes of versions that one page of a history has, about."""


class _Record(msgspec.Struct, frozen=True):
    """All of a version."""

    kept: Kept
    sources: bytes
    code: bytes


class Catalogue:
    """Functions: who may change which is for the caller to see to.

    Every change is durable when it returns, and is done only if nobody else has changed the
    function since it was looked at (`Found`): else `errors.Conflict` says so.

    Attributes:
        feed: tells which functions run.
        ledger: what they, and services and apps, have used.
        removal: deletes them.
        secrets: keeps theirs; one of those that a new config key has to be told to.
        allowances: what those of an account may use.
        allotments: how much may be used in an hour, a day, a month.
        strikes: what versions have done to their workers.

    Args:
        store: any table of the database `PLATFORM`.
        keys: of config, for secrets.
        others: the services that are in the way of functions.
        clock: where the times of versions come from.
        ledger: kept by somebody else, who counts in it too.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        *,
        others: Others = no_others,
        clock: Clock = SYSTEM,
        ledger: Ledger | None = None,
    ) -> None:
        tables = self._tables = Tables(store)
        self._claims = Claims(tables.families, tables.announced)
        self._claiming = Claiming(tables, self._claims, others)
        self._clock = clock
        self.ledger = ledger or Ledger(store, clock=clock)
        self.allotments = Allotments(tables, self.ledger, clock)
        self.feed = Feed(tables, self.allotments.spending)
        self.ledger.belongs("function", whose(tables))
        self.removal = Removal(tables, self._claims, self.ledger)
        self.secrets = Secrets(tables.secrets, keys)
        self.allowances = Allowances(tables)
        self.strikes = Strikes(tables.strikes, clock)

    async def tidy(self) -> None:
        """Finish what a process that was killed has begun, and take over what an older one kept."""
        await self.removal.tidy()
        await move(self._tables, self.ledger)

    # Reading.

    async def get(self, namespace: str, name: str) -> Found:
        """A function.

        Raises:
            errors.NotFound: there is none.
        """
        return await self._tables.get(namespace, name)

    async def find(self, namespace: str, name: str) -> Found | None:
        """A function; None if there is none."""
        return await self._tables.find(namespace, name)

    async def page(self, namespace: str, after: str = "", limit: int = PAGE) -> Sequence[Found]:
        """Functions of a namespace by name, from after one on."""
        return await self._tables.page(namespace, after, limit)

    async def functions(self, namespace: str, some: Sequence[Found]) -> list[Function]:
        """Functions of a namespace as people look at them."""
        states = await self.strikes.states(namespace)
        return [await self.function(one, states.get(one.which.prefix, {})) for one in some]

    async def function(self, found: Found, states: Mapping[str, State] | None = None) -> Function:
        """A function as people look at it.

        Args:
            found: the function.
            states: of its versions, where they are known already.
        """
        head, name = found.head, found.name
        newest = await self.version(found, head.live)
        allowed = await self._allowed(found)
        return Function(
            name=name,
            owner=head.owner,
            version=newest,
            shares={f"v{share.number}": share.weight for share in head.shares},
            created=head.created,
            updated=head.updated,
            url=path_of(name),
            secrets=sorted(head.secrets),
            limits=allowed.limits(newest),
            states=dict(await self.strikes.states_of(found.which) if states is None else states),
        )

    async def version(self, found: Found, number: int) -> Version:
        """A version.

        Raises:
            errors.NotFound: there is none of that number.
        """
        return (await self.kept(found, number)).version

    async def history(self, found: Found, before: int = 0, limit: int = PAGE) -> Sequence[Version]:
        """Versions below a number, the newest first."""
        which = found.which
        records = await self._tables.versions.read(
            prefix=which.prefix,
            after=which.version(before) if before else "",
            order="desc",
            limit=limit,
            max_bytes=HISTORY_BYTES,
        )
        return [codec.decode(record.value, Kept).version for record in records]

    async def sources(self, found: Found, number: int = 0) -> dict[str, str]:
        """The files of a version, by path; 0 is the newest that gets requests.

        Raises:
            errors.NotFound: there is no such version.
        """
        number = number or found.head.live
        await self.kept(found, number)
        record = await self._tables.sources.read(found.which.version(number))
        return codec.decode(record.value, dict[str, str])

    async def unit(self, found: Found, number: int) -> Unit:
        """All that a worker needs to run a version.

        Raises:
            errors.NotFound: there is no such version.
            errors.Unavailable: a secret that it needs is gone, or its strikes keep it from running.
        """
        which, marks = found.which, found.head.secrets
        kept = await self.kept(found, number)
        strikes = await self.strikes.check(which, number)
        version = kept.version
        limits = (await self._allowed(found)).limits(version)
        code = await self._tables.code.read(which.version(number))
        readable = [name for name in version.secrets if placeholders.readable(name, version.grants)]
        values = await self.secrets.open(which, readable)
        if missing := versions.missing(version, marks):
            raise gone(which.name, missing[0])
        hidden = {
            name: placeholders.placeholder_of(which.prefix, name)
            for name in version.secrets
            if name not in values
        }
        return Unit(
            namespace=which.namespace,
            name=which.name,
            number=number,
            key=versions.key_of(version, marks, limits),
            owner=found.head.owner,
            language=kept.language,
            form=version.form,
            engine=version.engine,
            main=version.main,
            code=code.value.decode(),
            env={**kept.env, **values, **hidden},
            hosts=version.hosts,
            # Of bindings; what may be read is in `env`.
            grants=[one for one in version.grants if one.partition(":")[0] != placeholders.GRANT],
            placeholders={placeholder: name for name, placeholder in hidden.items()},
            secret_uses={name: version.secret_uses.get(name, []) for name in hidden},
            limits=limits,
            isolation=version.isolation,
            strikes=strikes,
        )

    async def reveal(self, found: Found, secret: str) -> str:
        """The value of a secret.

        Raises:
            errors.Unavailable: it is gone.
        """
        return (await self.secrets.open(found.which, [secret]))[secret]

    async def verify(self, found: Found) -> tuple[list[str], int]:
        """What is wrong with the chain of versions, and how many there are."""
        return await verify(self._tables, found, (await self._allowed(found)).allowance)

    async def kept(self, found: Found, number: int) -> Kept:
        """A version, with what only its function may know.

        Raises:
            errors.NotFound: there is none of that number.
        """
        name = found.name
        try:
            record = await self._tables.versions.read(found.which.version(number))
        except (errors.NotFound, errors.BadRequest):
            detail = f"function {name} has no v{number}; its newest is v{found.head.number}"
            raise errors.NotFound(ID, detail) from None
        return codec.decode(record.value, Kept)

    # Deploying.

    async def look(
        self, namespace: str, name: str, routes: Sequence[str], who: Claimant
    ) -> Found | None:
        """The function of a name that is to be deployed; None if it is a new one.

        Raises:
            errors.Conflict: the name or a route is another's, or a service's.
        """
        return await self._claiming.look(namespace, name, routes, who)

    async def limits(
        self, namespace: str, draft: Draft, found: Found | None, who: Claimant
    ) -> Limits:
        """What a draft may use.

        Raises:
            errors.BadRequest: it asks for more than its account may have; the detail names both.
        """
        owner = (
            found.head.owner if found else await self._claiming.owner(namespace, draft.name, who)
        )
        allowed = await self.allowances.of(namespace, owner)
        return limits.check_allowed(draft.limits, owner, allowed.allowance)

    async def _allowed(self, found: Found) -> Allowed:
        return await self.allowances.of(found.which.namespace, found.head.owner)

    def check_secrets(self, draft: Draft, found: Found | None) -> None:
        """Refuse a draft that takes a secret which is not kept.

        Raises:
            errors.BadRequest: it does; the detail names it.
        """
        known = found.head.secrets if found else {}
        for name, value in draft.secrets.items():
            if value is None and name not in known:
                detail = f"secrets: there is no secret {name} of {draft.name} yet; give its value"
                raise errors.BadRequest(ID, detail)

    async def deploy(
        self, namespace: str, made: Made, found: Found | None, who: Claimant
    ) -> Version:
        """Keep a version and let it have all requests.

        Args:
            namespace: where.
            made: of what.
            found: the function as it was when the draft was checked; None is a new one.
            who: deploys it.

        Raises:
            errors.Conflict: another change was quicker, or has taken the name.
            errors.BadRequest: a secret is not kept any more.
        """
        draft = made.draft
        which = found.which if found else Which(namespace, draft.name, randomness.token_hex(4))
        values = {name: value for name, value in draft.secrets.items() if value is not None}
        known = found.head.secrets if found else {}
        self.check_secrets(draft, found)
        async with self.secrets.writing:
            ops, marks = await self.secrets.put(which, values, known)
            salt = versions.new_salt()
            version = versions.first_or_next(
                which,
                made,
                salt,
                number=found.head.number + 1 if found else 1,
                parent=found.head.hash if found else "",
                author=who.id,
                time=self._clock.time(),
            )
            kept = Kept(version=version, env=draft.env, salt=salt, linked=made.linked)
            record = _Record(kept, codec.encode(draft.files), made.code.encode())
            await self._commit(which, found, record, {**known, **marks}, ops, who)
        return version

    async def rollback(self, found: Found, number: int, who: Claimant) -> Version:
        """Deploy an old version once more, as a new one.

        Args:
            found: the function.
            number: the old version; 0 is the one before the newest that gets requests.
            who: does so.

        Raises:
            errors.NotFound: there is no such version.
            errors.Conflict: a secret that it needs is gone, or another change was quicker.
        """
        which, head = found.which, found.head
        number = number or head.live - 1
        if number < 1:
            raise errors.NotFound(ID, f"function {which.name} has no version before v{head.live}")
        kept = await self.kept(found, number)
        check_runs(found, kept.version)
        sources = await self._tables.sources.read(which.version(number))
        code = await self._tables.code.read(which.version(number))
        version = msgspec.structs.replace(
            kept.version,
            number=head.number + 1,
            parent=head.hash,
            api_version=API_VERSION,
            author=who.id,
            message=f"rollback to v{number}",
            date=versions.stamp(self._clock.time()),
        )
        version = versions.sealed(which, version, codec.decode(sources.value, dict[str, str]))
        record = _Record(msgspec.structs.replace(kept, version=version), sources.value, code.value)
        await self._commit(which, found, record, head.secrets, [], who)
        return version

    async def _commit(
        self,
        which: Which,
        found: Found | None,
        record: _Record,
        marks: Mapping[str, str],
        ops: Sequence[Op],
        who: Claimant,
    ) -> None:
        """Write a version and what follows from it, all at once."""
        version = record.kept.version
        key = which.version(version.number)
        ops = [
            *ops,
            _new(self._tables.versions, key, codec.encode(record.kept)),
            _new(self._tables.sources, key, record.sources),
            _new(self._tables.code, key, record.code),
        ]
        for _ in range(REPEATS):
            found = await self._still(which, found)
            owner, claims = await self._claiming.claim(which, found, version.routes, who)
            allowed = await self.allowances.of(which.namespace, owner)
            head = Head(
                id=which.id,
                owner=owner,
                number=version.number,
                hash=version.hash,
                shares=[versions.share_of(record.kept, marks, allowed.limits(version))],
                created=found.head.created if found else version.date,
                updated=version.date,
                secrets=dict(marks),
            )
            try:
                written = heads.write(which, head, found)
                await self._tables.heads.batch([written, allowed.check, *claims, *ops])
            except errors.Conflict:
                # Of this function, or of one that is near it: it is looked at again.
                continue
            return
        raise busy(which.name)

    async def _still(self, which: Which, found: Found | None) -> Found | None:
        """A function as it is now, which may run with other limits than when it was looked at.

        Raises:
            errors.Conflict: somebody else has changed it; the detail says what it is now.
        """
        now = await self._tables.find(which.namespace, which.name)
        if (now and now.head.told) == (found and found.head.told):
            return now
        name = which.name
        if now is None:
            raise errors.Conflict(ID, f"function {name} was deleted meanwhile; deploy it anew")
        author = (await self.version(now, now.head.number)).author
        detail = f"function {name} was changed meanwhile: its newest is v{now.head.number}, by "
        raise errors.Conflict(ID, f"{detail}{author}; look at it, and try again")

    # Other changes.

    async def split(self, found: Found, shares: Mapping[int, int], who: Claimant) -> Found:
        """Divide requests among versions, hundredths by number.

        Raises:
            errors.BadRequest: they are not 100 in all.
            errors.NotFound: there is no such version.
            errors.Conflict: a secret is gone, a route is another's, or another change was quicker.
        """
        _check_shares(shares)
        made, head = [], found.head
        allowed = await self._allowed(found)
        for number in sorted(shares, reverse=True):
            kept = await self.kept(found, number)
            check_runs(found, kept.version)
            may = allowed.limits(kept.version)
            made.append(versions.share_of(kept, head.secrets, may, shares[number]))
        routes = [route for share in made for route in share.routes]
        _, claims = await self._claiming.claim(found.which, found, routes, who)
        after = msgspec.structs.replace(head, shares=made)
        return await self._change(found, after, allowed.check, *claims)

    async def forget_secret(self, found: Found, secret: str) -> Found:
        """Remove a secret; versions that need it cannot be run any more.

        Raises:
            errors.NotFound: there is none.
            errors.Conflict: another change was quicker.
        """
        which, head = found.which, found.head
        if secret not in head.secrets:
            raise errors.NotFound(ID, f"function {which.name} has no secret {secret[:100]}")
        marks = {name: mark for name, mark in head.secrets.items() if name != secret}
        allowed = await self._allowed(found)
        shares = []
        for share in head.shares:
            version = await self.version(found, share.number)
            # Another key, by which what runs with it is loaded anew, and fails.
            key = versions.key_of(version, marks, allowed.limits(version))
            shares.append(msgspec.structs.replace(share, key=key))
        after = msgspec.structs.replace(head, secrets=marks, shares=shares)
        forgotten = self.secrets.forget(which, secret)
        return await self._change(found, after, allowed.check, forgotten)

    async def _change(self, found: Found, head: Head, *ops: Op) -> Found:
        head = msgspec.structs.replace(head, updated=versions.stamp(self._clock.time()))
        try:
            version = await self._tables.heads.batch([heads.write(found.which, head, found), *ops])
        except errors.Conflict:
            await self._still(found.which, found)
            raise busy(found.name) from None
        return Found(found.which, head, version)

    # Whose a name is.

    async def taken(self, namespace: str, name: str) -> str:
        """Which functions are in the way of a service, for people; empty if none are."""
        return await self._claims.taken(namespace, name)


def check_runs(found: Found, version: Version) -> None:
    """Refuse a version whose secrets are gone.

    Raises:
        errors.Conflict: one is; the detail names it.
    """
    if gone := versions.missing(version, found.head.secrets):
        name = found.name
        detail = f"v{version.number} of function {name} needs the secret {gone[0]}, which is gone: "
        raise errors.Conflict("functions.secret", f"{detail}deploy {name} with --secret {gone[0]}")


def _check_shares(shares: Mapping[int, int]) -> None:
    total = sum(shares.values())
    if not shares or min(shares.values()) < 1 or total != 100:
        detail = f"shares: they are hundredths, from 1 on, and {total} in all, not 100"
        raise errors.BadRequest(ID, detail)
    if len(shares) > MAX_SHARES:
        detail = f"shares: {len(shares)} versions; at most {MAX_SHARES} share requests"
        raise errors.BadRequest(ID, detail)


def _new(table: Store, key: str, value: bytes) -> Op:
    return Write(key, value, version=0, table=table.scope[1])
