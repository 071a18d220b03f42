"""Logins: how long they last, how refresh tokens follow one another, and when all of it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import argon2
import jwt
import msgspec
import pytest

from microcosmos.auth.authority import Authority
from microcosmos.auth.granting import bounded
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.passwords import Passwords, digest
from microcosmos.auth.sessions import IDLE, LEEWAY, LONGEST, MAX_SESSIONS, read
from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import Store, open_store

from .world import World, world


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite://{tmp_path}/store.db"


@asynccontextmanager
async def timed(url: str = "memory://") -> AsyncIterator[tuple[World, ManualClock]]:
    clock = ManualClock()
    async with world(url, clock=clock) as at:
        yield at, clock


async def refresh(at: World, session: Any, **fields: Any) -> Any:
    request = {"refresh_token": session["refresh_token"], **fields}
    return (await at.ask("Auth.Token", "", request))["token"]


async def alive(at: World, session: Any) -> bool:
    try:
        await at.ask("Accounts.Read", session["access_token"])
    except errors.Unauthorized:
        return False
    return True


def leap(clock: ManualClock, seconds: float) -> None:
    """Let time pass without all that would be done meanwhile."""
    clock._now += seconds


async def test_a_login_is_an_access_token_and_one_to_refresh_it_by(url: str) -> None:
    async with timed(url) as (at, clock):
        session = await at.session()
        assert session["expiry"] - session["created"] == 900
        assert session["created"] == int(clock.time())
        claims = jwt.decode(session["access_token"], options={"verify_signature": False})
        assert {*claims} == {"sub", "iss", "type", "scopes", "name", "iat", "exp", "jti", "sid"}
        assert claims["exp"] - claims["iat"] == 900
        await clock.advance(901)
        assert not await alive(at, session)
        assert await alive(at, await refresh(at, session))


async def test_each_refresh_gives_another_token(url: str) -> None:
    async with timed(url) as (at, clock):
        session, seen = await at.session(), set()
        for _ in range(5):
            seen.add(session["refresh_token"])
            session = await refresh(at, session)
            await clock.advance(600)
        assert len(seen) == 5
        assert session["refresh_token"] not in seen


async def test_one_that_was_copied_ends_the_login(url: str) -> None:
    async with timed(url) as (at, clock):
        stolen = await at.session()
        session = await refresh(at, stolen)
        await clock.advance(LEEWAY + 1)
        with pytest.raises(errors.Unauthorized, match="the login has ended; log in again"):
            await refresh(at, stolen)
        for one in (stolen, session):
            assert not await alive(at, one)
            with pytest.raises(errors.Unauthorized):
                await refresh(at, one)
        entries = (await at.ask("Audit.List", (await at.session())["access_token"]))["entries"]
        assert entries[-1]["action"] == "login ended"
        assert entries[-1]["detail"] == "a refresh token was used again"


async def test_one_of_long_ago_is_seen_to_be_copied(url: str) -> None:
    async with timed(url) as (at, clock):
        stolen = session = await at.session()
        for _ in range(4):
            session = await refresh(at, session)
            await clock.advance(1)
        # Not the one just replaced: no leeway.
        with pytest.raises(errors.Unauthorized):
            await refresh(at, stolen)
        assert not await alive(at, session)


async def test_an_answer_that_was_lost_may_be_asked_for_again(url: str) -> None:
    async with timed(url) as (at, clock):
        session = await at.session()
        first = await refresh(at, session)
        await clock.advance(LEEWAY)
        again = await refresh(at, session)
        assert again["refresh_token"] == first["refresh_token"]
        assert await alive(at, await refresh(at, again))


async def test_programs_that_refresh_at_once_all_go_on(url: str) -> None:
    async with timed(url) as (at, clock):
        session = await at.session()
        got = await asyncio.gather(*(refresh(at, session) for _ in range(10)))
        assert len({one["refresh_token"] for one in got}) == 1
        await clock.advance(LEEWAY + 1)
        for one in got:
            assert await alive(at, one)
        assert await alive(at, await refresh(at, got[7]))


async def test_what_only_looks_like_a_token_of_the_login_ends_nothing() -> None:
    async with timed() as (at, _):
        session = await at.session()
        head, family, secret = session["refresh_token"].split(".")
        claims = jwt.decode(session["access_token"], options={"verify_signature": False})
        for bad in (
            "",
            "x",
            "..",
            f"{head}.{family}",
            f"{head}.{claims['sid']}.{secret}",
            f"{head}.{family}x.{secret}",
            f"bWljcm8v.{family}.{secret}",
            f"{head}.{family}.{secret}.{secret}",
            "ü.ü.ü",
            "\x00.\x00.\x00",
            "x" * 2000,
            session["access_token"],
        ):
            with pytest.raises((errors.Unauthorized, errors.BadRequest)):
                await refresh(at, {"refresh_token": bad})
        assert await alive(at, session)
        assert await alive(at, await refresh(at, session))


async def test_it_lasts_as_long_as_it_is_used_but_not_for_ever(url: str) -> None:
    async with timed(url) as (at, clock):
        session = await at.session()
        began = clock.time()
        while clock.time() + IDLE - 1 < began + LONGEST:
            leap(clock, IDLE - 1)
            session = await refresh(at, session)
        leap(clock, began + LONGEST - clock.time() - 1)
        session = await refresh(at, session)
        leap(clock, 1)
        with pytest.raises(errors.Unauthorized, match="log in again"):
            await refresh(at, session)


async def test_it_ends_when_it_is_not_used(url: str) -> None:
    async with timed(url) as (at, clock):
        session = await at.session()
        leap(clock, IDLE)
        with pytest.raises(errors.Unauthorized):
            await refresh(at, session)


async def test_the_access_token_lives_as_long_as_was_asked_for() -> None:
    async with timed() as (at, _):
        session = await at.session(token_expiry=60)
        assert session["expiry"] - session["created"] == 60
        session = await refresh(at, session, token_expiry=86400)
        assert session["expiry"] - session["created"] == 86400
        for bad in (-1, 86401, 1e300):
            with pytest.raises(errors.BadRequest, match="token_expiry: from 1 to 86400"):
                await at.session(token_expiry=bad)
            with pytest.raises(errors.BadRequest, match="token_expiry"):
                await refresh(at, session, token_expiry=bad)


def test_no_lifetime_is_no_number() -> None:
    with pytest.raises(errors.BadRequest):
        bounded(float("nan"))


async def test_logging_out_ends_this_login_at_once_and_no_other(url: str) -> None:
    async with timed(url) as (at, _):
        one, other, third = [await at.session() for _ in range(3)]
        await at.ask("Auth.Logout", refresh_token=one["refresh_token"])
        await at.ask("Auth.Logout", other["access_token"])
        for gone in (one, other):
            assert not await alive(at, gone)
            with pytest.raises(errors.Unauthorized):
                await refresh(at, gone)
        assert await alive(at, third)
        await at.ask("Auth.Logout", refresh_token=one["refresh_token"])
        with pytest.raises(errors.Unauthorized):
            await at.ask("Auth.Logout", other["access_token"])
        with pytest.raises(errors.BadRequest, match="give a refresh token"):
            await at.ask("Auth.Logout")


async def test_a_login_that_was_renewed_for_longer_is_revoked_as_long() -> None:
    async with timed() as (at, clock):
        session = await at.session()
        longer = await refresh(at, session, token_expiry=86400)
        await at.ask("Auth.Logout", refresh_token=longer["refresh_token"])
        for _ in range(23):
            await clock.advance(3600)
            assert not await alive(at, longer)


async def test_revocations_go_when_nothing_is_left_to_revoke() -> None:
    async with timed() as (at, clock):
        session = await at.session()
        await at.ask("Auth.Logout", refresh_token=session["refresh_token"])
        assert len(at.authority.policy.revoked) == 1
        await clock.advance(900 + 130)
        assert at.authority.policy.revoked == {}


async def test_an_account_has_so_many_logins_and_the_oldest_goes() -> None:
    async with open_store("memory://") as store, world(store) as at:
        first = await at.session()
        second = await at.session()
        for _ in range(MAX_SESSIONS - 1):
            await at.session()
        with pytest.raises(errors.Unauthorized):
            await refresh(at, first)
        assert await alive(at, await refresh(at, second))
        sessions = store.table("auth/sessions", database="$platform")
        assert await sessions.count() == MAX_SESSIONS


async def test_the_namespace_has_to_be_the_logins_own() -> None:
    async with timed() as (at, _):
        session = await at.session()
        with pytest.raises(errors.Unauthorized):
            await refresh(at, session, options={"namespace": "blue"})
        await refresh(at, session, options={"namespace": "micro"})


async def test_who_asks_for_nothing_is_told_what_to_give() -> None:
    async with timed() as (at, _):
        for request in ({}, {"secret": "micro"}):
            with pytest.raises(errors.BadRequest, match="an id and its secret, or a refresh"):
                await at.ask("Auth.Token", "", request)
        with pytest.raises(errors.BadRequest, match="only an admin needs none"):
            await at.ask("Auth.Token", id="admin")
        with pytest.raises(errors.BadRequest, match="not both"):
            await at.ask("Auth.Token", id="admin", secret="micro", refresh_token="x")


async def test_wrong_and_unknown_read_the_same() -> None:
    async with timed() as (at, _):
        details = set()
        for id, options in (("admin", {}), ("nobody", {}), ("admin", {"namespace": "red"})):
            with pytest.raises(errors.Unauthorized) as caught:
                await at.ask("Auth.Token", id=id, secret="wrong", options=options)
            where = options.get("namespace", "micro")
            details.add(caught.value.detail.replace(id, "ID").replace(where, "NS"))
        assert details == {"there is no account ID in NS with this secret"}


async def test_too_many_wrong_passwords_have_to_wait() -> None:
    async with timed() as (at, clock):
        for _ in range(10):
            with pytest.raises(errors.Unauthorized):
                await at.session("admin", "wrong", origin="203.0.113.7")
        with pytest.raises(errors.TooManyRequests, match="try again in 6 s"):
            await at.session("admin", "micro", origin="203.0.113.7")
        await at.session("admin", "micro", origin="203.0.113.8")
        await clock.advance(6)
        await at.session("admin", "micro", origin="203.0.113.7")


async def test_an_old_password_is_guessed_at_no_faster() -> None:
    async with timed() as (at, _):
        shown = await at.make("jane")
        request = {"id": "jane", "old_secret": "wrong", "new_secret": "long enough"}
        for _ in range(10):
            with pytest.raises(errors.BadRequest):
                await at.ask("Accounts.ChangeSecret", shown, request)
        with pytest.raises(errors.TooManyRequests):
            await at.ask("Accounts.ChangeSecret", shown, request)


async def test_an_admin_gets_a_token_of_another_account() -> None:
    async with timed() as (at, _):
        await at.make("jane", namespace="blue")
        boss = await at.make("boss", "admin", namespace="blue")
        options = {"namespace": "blue"}
        for shown, where in ((await at.login(), "micro"), (boss, "blue")):
            got = await at.ask(
                "Auth.Token", shown, at=where, id="jane", options=options, token_expiry=60
            )
            assert got["token"]["refresh_token"] == ""
            said = await at.ask("Accounts.Read", got["token"]["access_token"], at="blue")
            assert said["account"]["id"] == "jane"
            assert got["token"]["expiry"] - got["token"]["created"] == 60
        with pytest.raises(errors.Forbidden):
            await at.ask("Auth.Token", boss, at="blue", id="admin", options={"namespace": "micro"})
        entries = (await at.ask("Audit.List", boss, at="blue"))["entries"]
        assert [(e["who"], e["action"], e["subject"]) for e in entries[-2:]] == [
            ("admin", "token created", "jane"),
            ("boss", "token created", "jane"),
        ]


# Changes at the same time.


async def test_who_logs_in_while_the_password_changes_has_nothing_of_it() -> None:
    async with open_store("memory://") as store:
        held = Held()
        keys = TokenKeys()
        passwords = Passwords(held)
        held.go.set()
        async with Authority(store, keys, passwords=passwords) as authority:
            at = World(authority, keys)
            held.go.clear()
            login = asyncio.create_task(at.session())
            await asyncio.to_thread(held.begun.wait)
            # It has read the account, and compares its password.
            account = await authority.records.accounts.get("micro", "admin")
            record = msgspec.structs.replace(account.record, secret=digest("another one"))
            await authority.people._replace(account, record, [])
            held.go.set()
            session = await login
            assert not await alive(at, session)
            with pytest.raises(errors.Unauthorized):
                await refresh(at, session)


class Held(argon2.PasswordHasher):
    """Compares once it is let go."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go, self.begun = threading.Event(), threading.Event()

    def verify(self, hash: Any, password: Any) -> Any:
        self.begun.set()
        self.go.wait(60)
        return super().verify(hash, password)


async def test_a_refresh_does_not_bring_back_a_login_that_ended_meanwhile() -> None:
    async with timed() as (at, clock):
        shown = read((await at.session())["refresh_token"])
        sessions = at.authority.records.sessions
        held = await sessions.find(shown.key)
        assert held is not None
        await at.authority.logins.logout((await at.session())["refresh_token"])
        await at.authority.records.commit([sessions.end(held.key)])
        with pytest.raises(errors.Conflict):
            await sessions.advance(held, shown, clock.time())
        assert await sessions.find(shown.key) is None


async def test_a_token_asked_for_again_lives_no_longer_than_the_login_knows() -> None:
    async with timed() as (at, _):
        session = await at.session()
        await refresh(at, session)
        again = await refresh(at, session, token_expiry=86400)
        assert again["expiry"] - again["created"] <= 900


# A server that dies between two steps.


class Dying:
    """A store whose writes fail from one on, as if the process had died there."""

    def __init__(self, store: Store, *, after: bool) -> None:
        self._store = store
        self._after = after
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def table(self, name: str = "", *, database: str = "") -> Any:
        other = Dying(self._store.table(name, database=database), after=self._after)
        other.__dict__["dead"] = self
        return other

    async def batch(self, ops: Any) -> int:
        root = self
        while isinstance(root.dead, Dying):
            root = root.dead
        if not root.dead:
            return await self._store.batch(ops)
        if self._after:
            await self._store.batch(ops)
        raise errors.Unavailable("store", "the database has gone away")


@pytest.mark.parametrize("after", [False, True])
async def test_a_refresh_whose_write_was_cut_off_can_be_made_again(after: bool) -> None:
    async with open_store("memory://") as store:
        dying: Any = Dying(store, after=after)
        keys = None
        async with world(dying) as at:
            keys = at.keys
            session = await at.session()
            dying.dead = True
            with pytest.raises(errors.Unavailable):
                await refresh(at, session)
        async with world(store, keys=keys) as at:
            assert await alive(at, session)
            assert await alive(at, await refresh(at, session))


@pytest.mark.parametrize("after", [False, True])
async def test_a_change_is_there_with_all_that_belongs_to_it_or_not_at_all(after: bool) -> None:
    async with open_store("memory://") as store:
        dying: Any = Dying(store, after=after)
        async with world(dying) as at:
            keys, session = at.keys, await at.session()
            request = {"id": "admin", "old_secret": "micro", "new_secret": "long enough"}
            dying.dead = True
            with pytest.raises(errors.Unavailable):
                await at.ask("Accounts.ChangeSecret", session["access_token"], request)
        async with world(store, keys=keys) as at:
            assert await alive(at, session) is not after
            assert at.authority.default_password_stands() is not after
            await at.login("admin", "long enough" if after else "micro")
            noted = [one.action for one in await at.authority.records.audit.list()]
            assert ("secret changed" in noted) is after
