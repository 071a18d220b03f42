"""The policy: it outlives the core, it is told of at once, and all cores have the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.auth import rulebook, standing
from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account, Policy, Resource, Rule
from microcosmos.auth.keys import TokenKeys, platform_token
from microcosmos.auth.standing import Entry, Standing
from microcosmos.base import codec, errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import open_store

from ..store.postgres import Postgres
from .world import World, until, world


@pytest.fixture(scope="module")
def postgres() -> Any:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").empty())
    return "memory://" if request.param == "memory" else f"sqlite://{tmp_path}/store.db"


@asynccontextmanager
async def two_cores(url: str) -> AsyncIterator[tuple[World, World]]:
    """Two authorities on one store; of PostgreSQL each has connections of its own."""
    if url.startswith("postgres"):
        async with (
            open_store(url) as one,
            open_store(url) as other,
            world(one) as first,
            world(other) as second,
        ):
            yield first, second
        return
    async with open_store(url) as store, world(store) as first, world(store) as second:
        yield first, second


async def test_what_one_core_changes_the_other_knows_soon(url: str) -> None:
    async with two_cores(url) as (one, other):
        admin, shown = await one.login(), await one.make("jane")

        async def known(good: Callable[[Policy], bool]) -> None:
            async with asyncio.timeout(60):
                await until(lambda: other.authority.policy, good)

        await known(lambda now: now.keys.keys() >= one.keys.public().keys())
        await other.ask("Accounts.Read", shown)
        await one.authority.create_namespace("blue")
        await known(lambda now: "blue" in now.rules)
        await one.ask("Rules.Create", admin, rule={"id": "no", "access": "DENIED"})
        await known(lambda now: len(now.rules["micro"]) == 2)
        await one.ask("Rules.Delete", admin, id="no")
        await known(lambda now: len(now.rules["micro"]) == 1)
        await one.authority.people.revoke("micro", "jane")
        await known(lambda now: "account/micro/jane" in now.revoked)
        with pytest.raises(errors.Unauthorized, match="revoked"):
            await other.ask("Accounts.Read", shown)
        await other.ask("Accounts.Read", await other.login("jane", "password of jane"))
        assert one.authority.policy.rules == other.authority.policy.rules


async def test_two_cores_that_change_the_same_thing_lose_nothing(url: str) -> None:
    async with two_cores(url) as (one, other):
        made = await asyncio.gather(
            *(at.authority.rules.create("micro", Rule(id=f"rule{n}"))
              for n in range(20) for at in (one, other)),
            return_exceptions=True,
        )  # fmt: skip
        assert sum(one is None for one in made) == 20
        assert sum(isinstance(one, errors.Conflict) for one in made) == 20
        for at in (one, other):
            await until(
                lambda at=at: at.authority.policy, lambda now: len(now.rules["micro"]) == 21
            )
        secrets = await asyncio.gather(
            *(at.authority.service_secret("micro", "foo", f"{n}-{at is one}")
              for n in range(5) for at in (one, other))
        )  # fmt: skip
        for secret in secrets:
            await one.login("foo", secret)


async def test_a_token_of_one_core_is_refreshed_by_the_other() -> None:
    async with open_store("memory://") as store, world(store) as one, world(store) as other:
        session = await one.session()
        fresh = await other.ask("Auth.Token", refresh_token=session["refresh_token"])
        await other.ask("Accounts.Read", fresh["token"]["access_token"])
        again = await one.ask("Auth.Token", refresh_token=fresh["token"]["refresh_token"])
        await until(
            lambda: one.authority.policy, lambda now: now.keys.keys() >= other.keys.public().keys()
        )
        await one.ask("Accounts.Read", again["token"]["access_token"])


async def test_nothing_is_lost_when_the_core_comes_back(tmp_path: Path) -> None:
    url, folder = f"sqlite://{tmp_path}/store.db", tmp_path / "keys"
    async with world(url, keys=TokenKeys(folder)) as at:
        admin, revoked = await at.session(), await at.make("jane")
        await at.ask("Rules.Delete", admin["access_token"], id="default")
        await at.ask("Rules.Create", admin["access_token"], rule={"id": "in", "scope": "*",
                     "access": "granted", "priority": 3})  # fmt: skip
        await at.authority.create_namespace("blue")
        await at.authority.people.revoke("micro", "jane")
        before = at.authority.policy
    async with world(url, keys=TokenKeys(folder)) as at:
        after = at.authority.policy
        assert after.rules == before.rules
        assert after.revoked == before.revoked
        assert after.keys == before.keys
        assert after.epoch != before.epoch
        await at.ask("Accounts.List", admin["access_token"])
        await at.ask("Auth.Token", refresh_token=admin["refresh_token"])
        with pytest.raises(errors.Unauthorized, match="revoked"):
            await at.ask("Accounts.Read", revoked)


async def test_a_new_key_signs_at_once_and_the_old_one_is_good_as_long_as_its_tokens() -> None:
    async with world() as at:
        session = await at.session()
        await at.ask("Auth.Rotate", session["access_token"])
        fresh = await at.session()
        for one in (session, fresh):
            await at.ask("Accounts.List", one["access_token"])
        keys = (await at.ask("Auth.Keys"))["keys"]
        assert {one["kid"] for one in keys} == {*at.keys.public()}
        assert len(keys) == 2
        await at.ask("Auth.Rotate", fresh["access_token"], forget=True)
        for one in (session, fresh):
            with pytest.raises(errors.Unauthorized, match="not one of this server's"):
                await at.ask("Accounts.List", one["access_token"])
        # Logins last: it is the access tokens that are of the lost key.
        again = await at.ask("Auth.Token", refresh_token=session["refresh_token"])
        await at.ask("Accounts.List", again["token"]["access_token"])
        assert len((await at.ask("Auth.Keys"))["keys"]) == 1


async def test_the_key_of_a_core_that_is_gone_is_forgotten_once_its_tokens_are() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store, world(store, clock=clock) as at:
        async with world(store, clock=clock) as gone:
            theirs = gone.keys.signer.id
        await until(lambda: at.authority.policy, lambda now: theirs in now.keys)
        for _ in range(49):
            await clock.advance(3600)
        assert {*at.authority.policy.keys} == {at.keys.signer.id}


async def test_rules_are_listed_as_the_reference_prints_them() -> None:
    async with world() as at:
        shown = await at.login()
        for rule in ({"id": "onlyloggedin", "scope": "*"}, {"id": "auth-public"}):
            await at.ask("Rules.Create", shown, rule={**rule, "access": "granted"})
        await at.ask("Rules.Create", shown, rule={"id": "first", "access": "denied", "priority": 1})
        listed = (await at.ask("Rules.List", shown))["rules"]
        assert [one["id"] for one in listed] == ["first", "auth-public", "onlyloggedin", "default"]
        assert listed[0] == {
            "id": "first",
            "scope": "",
            "resource": {"type": "*", "name": "*", "endpoint": "*"},
            "access": "DENIED",
            "priority": 1,
        }


async def test_the_default_rule_stays_away_once_it_was_deleted(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    async with world(url) as at:
        await at.ask("Rules.Delete", await at.login(), id="default")
    async with world(url) as at:
        assert (await at.ask("Rules.List", await at.login()))["rules"] == []
        with pytest.raises(errors.NotFound, match="there is no rule 'default' in micro"):
            await at.ask("Rules.Delete", await at.login(), id="default")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"id": "a"}, "access: GRANTED or DENIED, not ''"),
        ({"id": "a", "access": "UNKNOWN"}, "access"),
        ({"id": "", "access": "GRANTED"}, "id"),
        ({"id": "a", "access": "GRANTED", "priority": 2**31}, "priority"),
        ({"id": "a", "access": "GRANTED", "resource": {"type": "file"}}, "resource"),
        ({"id": "a", "access": "GRANTED", "colour": "red"}, "colour"),
    ],
)
async def test_a_bad_rule_is_refused(rule: dict[str, Any], says: str) -> None:
    async with world() as at:
        with pytest.raises(errors.BadRequest, match=says):
            await at.ask("Rules.Create", await at.login(), rule=rule)


async def test_rules_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as at:
        rules = at.authority.rules
        monkeypatch.setattr("microcosmos.auth.ruling.MAX_RULES", 2)
        await rules.create("micro", Rule(id="a"))
        with pytest.raises(errors.Conflict, match="has 2 rules, which is the most"):
            await rules.create("micro", Rule(id="b"))
        monkeypatch.undo()
        monkeypatch.setattr(rulebook, "MAX_SIZE", 100)
        with pytest.raises(errors.Conflict, match="at most 100 are kept"):
            await rules.create("micro", Rule(id="b"))


# Following.


async def followed(at: World, namespace: str, shown: str, **request: Any) -> Any:
    body = codec.encode({"namespace": namespace, **request})
    metadata = {"Authorization": f"Bearer {shown}"}
    if namespace:
        metadata["Micro-Namespace"] = namespace
    return at.client.stream("auth", "Policy.Follow", body, metadata=metadata)


async def test_a_process_is_told_of_its_namespace_only() -> None:
    async with world() as at:
        shown = platform_token(at.keys, "gateway")
        for name in ("blue", "red"):
            await at.make("jane", namespace=name)
            await at.authority.people.revoke(name, "jane")
        await at.authority.people.revoke("micro", "admin")
        async with await followed(at, "blue", shown) as stream:
            policy = msgspec.json.decode(await anext(stream), type=Policy)
            assert {*policy.rules} == {"blue"}
            assert {*policy.revoked} == {"account/blue/jane", "account/micro/admin"}
            # What happens elsewhere is not told; what happens here is.
            await at.authority.rules.create("red", Rule(id="a"))
            await at.authority.rules.create("blue", Rule(id="b"))
            policy = msgspec.json.decode(await anext(stream), type=Policy)
            assert [rule.id for rule in policy.rules["blue"]] == ["b", "default"]
        async with await followed(at, "", shown) as stream:
            policy = msgspec.json.decode(await anext(stream), type=Policy)
            assert {*policy.rules} == {"micro", "blue", "red"}
            assert len(policy.revoked) == 3


async def test_what_is_known_already_is_not_sent_again() -> None:
    async with world() as at:
        shown = platform_token(at.keys, "gateway")
        now = at.authority.policy
        async with await followed(at, "", shown, epoch=now.epoch, after=now.version) as stream:
            await at.authority.rules.create("micro", Rule(id="a"))
            assert b'"id":"a"' in await anext(stream)


async def test_followers_are_let_go_when_the_core_stops() -> None:
    async with world() as at:
        shown = platform_token(at.keys, "gateway")
        async with await followed(at, "", shown) as stream:
            await anext(stream)
            at.authority.close()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)


# What stands, whatever the order it is heard in.

KEYS = ["rule/micro/a", "rule/micro/b", "namespace/blue", "revoked/session/x", "admin"]


def written(key: str, number: int) -> bytes:
    kind = key.partition("/")[0]
    entry: Any = {
        "rule": standing.RuleEntry(Rule(id=key[-1], priority=number), float(number)),
        "namespace": standing.NamespaceEntry(float(number)),
        "revoked": standing.RevokedEntry(float(number), "micro"),
        "admin": standing.AdminEntry(default=bool(number % 2)),
    }[kind]
    return codec.encode(entry)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=40),
    st.data(),
)
def test_what_was_heard_twice_and_late_stands_as_it_was_written(
    writes: list[tuple[str, bool]], data: st.DataObject
) -> None:
    log = [
        Entry(key, version, written(key, version) if there else None)
        for version, (key, there) in enumerate(writes, 1)
    ]
    start = Entry("namespace/micro", 0, written("namespace/micro", 0))
    wanted, got = Standing(), Standing()
    for one in (wanted, got):
        one.replace([start], 0)
    wanted.apply(log)
    # The watch tells all of it in order; own writes are heard before or after.
    own = [entry for entry in log if data.draw(st.booleans())]
    watched = [*log]
    while own or watched:
        if own and (not watched or data.draw(st.booleans())):
            got.apply([own.pop(0)])
        else:
            got.apply([watched.pop(0)], settled=True)
    for name in ("rules", "revoked", "keys"):
        assert getattr(got.policy, name) == getattr(wanted.policy, name)
    assert got.default_password == wanted.default_password
    assert got.seen == len(log)


async def test_an_entry_that_cannot_be_read_is_passed_over(caplog: Any) -> None:
    found = Standing()
    found.replace(
        [
            Entry("namespace/micro", 1, b'{"created":1}'),
            Entry("rule/micro/bad", 2, b"rubbish"),
            Entry("of/a/later/release", 3, b"{}"),
        ],
        3,
    )
    assert found.policy.rules == {"micro": []}
    assert "rule/micro/bad" in caplog.text


async def test_a_listener_that_fails_keeps_no_other_from_hearing(caplog: Any) -> None:
    found, heard = Standing(), Access()

    def fail(policy: Policy) -> None:
        if policy.version:
            raise RuntimeError("no")

    found.listen(fail)
    found.listen(heard.follow)
    found.apply([Entry("namespace/micro", 1, b'{"created":1}')])
    assert heard.policy == found.policy
    assert "a listener of the policy failed" in caplog.text


# Why.


@pytest.mark.parametrize(
    ("rules", "account", "service", "endpoint", "code", "rule", "says"),
    [
        (["default"], "", "foo", "", 200, "default",
         "anybody may call foo:Foo.Call in micro: rule default (public, GRANTED, *:*:*, "
         "priority 0) grants it"),
        ([], "", "foo", "bar", 401, "",
         "anybody may not call foo:Foo.Bar in micro: no rule of micro applies, and what no rule "
         "grants is refused"),
        (["default", "no"], "jane", "foo", "Foo.Call", 403, "no",
         "jane may not call foo:Foo.Call in micro: rule no (scope *, DENIED, service:foo:*, "
         "priority 0) denies it"),
        (["default"], "jane", "auth", "Rules.List", 403, "default",
         "it asks for an admin of the namespace; rule default (public, GRANTED, *:*:*, priority 0) "
         "grants it, but rules open no core service further"),
        (["default"], "", "auth", "Auth.Token", 200, "", "open to everybody, whatever"),
        (["all"], "admin", "auth", "Rules.List", 200, "all",
         "denies it, but rules lock no admin out of auth"),
        (["default"], "", "registry", "GetService", 200, "default", "and it only reads"),
        ([], "", "registry", "GetService", 401, "", "it asks for any account of the namespace"),
        ([], "jane", "registry", "GetService", 200, "", "which the account is"),
    ],
)  # fmt: skip
async def test_why(
    rules: list[str],
    account: str,
    service: str,
    endpoint: str,
    code: int,
    rule: str,
    says: str,
) -> None:
    made = {
        "default": Rule(id="default"),
        "no": Rule(id="no", scope="*", access="DENIED", resource=Resource("service", "foo", "*")),
        "all": Rule(id="all", access="DENIED"),
    }
    async with world() as at:
        at.service._access_of = lambda service, _: "read" if service == "registry" else None
        shown = await at.login()
        await at.make("jane")
        await at.authority.rules.delete("micro", "default")
        for name in rules:
            await at.authority.rules.create("micro", made[name])
        found = await at.ask(
            "Rules.Why", shown, account=account, service=service, endpoint=endpoint
        )
        assert says in found["reason"]
        assert (found["code"], found["rule"]) == (code, rule)
        assert found["allowed"] is (code == 200)


async def test_why_of_oneself_needs_no_admin_and_of_others_one() -> None:
    async with world() as at:
        jane = await at.make("jane")
        await at.make("jim")
        found = await at.ask("Rules.Why", jane, account="jane", service="foo")
        assert found["allowed"]
        for other in ("jim", "nobody", ""):
            with pytest.raises(errors.Forbidden):
                await at.ask("Rules.Why", jane, account=other, service="foo")
        with pytest.raises(errors.NotFound, match="'nobody'"):
            await at.ask("Rules.Why", await at.login(), account="nobody", service="foo")
        with pytest.raises(errors.BadRequest):
            await at.ask("Rules.Why", await at.login(), account="jane", service="no such/name")


async def test_why_across_namespaces() -> None:
    async with world() as at:
        await at.make("jane", namespace="blue")
        shown, options = await at.login(), {"namespace": "blue"}
        for account, allowed in (("jane", True), ("admin", True)):
            found = await at.ask(
                "Rules.Why", shown, account=account, service="foo", options=options
            )
            assert found["allowed"] is allowed
        assert Account(id="jane", namespace="blue").enters("blue")
