"""Accounts: how they are made, changed and removed; the first one; those of services."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from microcosmos.auth import accounts
from microcosmos.auth.interface import Account
from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import open_store

from .world import World, world

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


async def ids(at: World, shown: str, **request: Any) -> list[str]:
    found = await at.ask("Accounts.List", shown, **request)
    return [one["id"] for one in found["accounts"]]


# The first one.


async def test_a_new_platform_has_one_account_and_one_rule() -> None:
    async with world() as at:
        shown = await at.login("admin", "micro")
        found = await at.ask("Accounts.List", shown)
        assert found["accounts"] == [
            {
                "id": "admin",
                "type": "user",
                "issuer": "micro",
                "metadata": None,
                "scopes": ["admin"],
                "name": "admin",
            }
        ]
        assert [rule["id"] for rule in (await at.ask("Rules.List", shown))["rules"]] == ["default"]
        assert at.authority.default_password_stands()


async def test_two_cores_that_start_at_once_make_one_first_account() -> None:
    async with open_store("memory://") as store, AsyncExitStack() as stack:
        opened = (stack.enter_async_context(world(store)) for _ in range(5))
        cores = await asyncio.gather(*opened)
        for at in cores:
            assert await ids(at, await at.login()) == ["admin"]
            assert at.authority.default_password_stands()


async def test_it_is_never_made_again(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    async with world(url) as at:
        root = await at.make("root", "admin")
        await at.ask("Accounts.Delete", root, id="admin")
        assert not at.authority.default_password_stands()
    async with world(url) as at:
        assert await ids(at, await at.login("root", "password of root")) == ["root"]
        with pytest.raises(errors.Unauthorized):
            await at.login("admin", "micro")


async def test_its_password_may_come_from_the_operator() -> None:
    async with world(admin_password="long enough") as at:
        assert not at.authority.default_password_stands()
        await at.login("admin", "long enough")
        with pytest.raises(errors.Unauthorized):
            await at.login("admin", "micro")


async def test_it_replaces_the_default_one_but_no_other(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    async with world(url):
        pass
    async with world(url, admin_password="from the operator") as at:
        assert not at.authority.default_password_stands()
        await at.login("admin", "from the operator")
    async with world(url, admin_password="another one") as at:
        await at.login("admin", "from the operator")


# Making.


async def test_a_secret_is_made_and_shown_once() -> None:
    async with world() as at:
        shown = await at.login()
        made = (await at.ask("Auth.Generate", shown, id="jane", scopes=["admin"]))["account"]
        order = ["id", "type", "issuer", "metadata", "scopes", "secret", "name"]
        assert [*made] == order
        assert re.fullmatch(UUID, made.pop("secret"))
        assert made == {
            "id": "jane",
            "type": "user",
            "issuer": "micro",
            "metadata": None,
            "scopes": ["admin"],
            "name": "jane",
        }


async def test_what_is_shown_logs_in() -> None:
    async with world() as at:
        shown = await at.login()
        for fields in ({}, {"secret": "my own secret"}):
            made = (await at.ask("Auth.Generate", shown, id=f"j{len(fields)}", **fields))["account"]
            token = await at.login(made["id"], made["secret"])
            said = (await at.ask("Auth.Inspect", "", {"token": token}))["account"]
            del made["secret"]
            assert said == made


async def test_no_secret_is_kept_in_the_clear() -> None:
    async with open_store("memory://") as store, world(store) as at:
        shown = await at.login()
        secrets = ["my own secret"]
        await at.ask("Auth.Generate", shown, id="jane", secret=secrets[0])
        secrets.append((await at.ask("Auth.Generate", shown, id="jim"))["account"]["secret"])
        secrets.append(await at.authority.service_secret("micro", "foo", "0"))
        session = await at.session("jane", secrets[0])
        secrets += [session["refresh_token"].rpartition(".")[2], session["access_token"]]
        platform = store.table("micro", database="$platform")
        for name in await platform.tables():
            for record in await platform.table(name).read(prefix=""):
                for secret in secrets:
                    assert secret.encode() not in record.value
                    assert secret not in record.key


async def test_an_id_is_taken_once() -> None:
    async with world() as at:
        shown = await at.login()
        request: dict[str, Any] = {"id": "jane", "secret": "long enough"}
        outcomes = await asyncio.gather(
            *(at.ask("Auth.Generate", shown, **request) for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(one, dict) for one in outcomes) == 1
        refused = [one for one in outcomes if isinstance(one, errors.Conflict)]
        assert len(refused) == 4
        assert "there is an account jane in micro already" in refused[0].detail


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"id": ""}, "''"),
        ({"id": "a/b"}, "'a/b'"),
        ({"id": "-a"}, "'-a'"),
        ({"id": "a" * 101}, "is no id of an account"),
        ({"id": "a\n"}, "is no id"),
        ({"id": "jane", "type": "platform"}, "user or service"),
        ({"id": "jane", "scopes": ["*"]}, "is no scope"),
        ({"id": "jane", "scopes": [""]}, "is no scope"),
        ({"id": "jane", "scopes": ["s" * 65]}, "is no scope"),
        ({"id": "jane", "scopes": [f"s{n}" for n in range(33)]}, "at most 32"),
        ({"id": "jane", "name": "x" * 101}, "name:"),
        ({"id": "jane", "name": "a\nb"}, "name:"),
        ({"id": "jane", "metadata": {"a": "x" * 3000}}, "metadata:"),
        ({"id": "jane", "provider": "github"}, "provider:"),
        ({"id": "jane", "secret": "short"}, "at least 8"),
        ({"id": "jane", "metadata": {"a": 1}}, "metadata"),
    ],
)
async def test_what_could_be_no_account_is_refused(request_: dict[str, Any], says: str) -> None:
    async with world() as at:
        shown = await at.login()
        with pytest.raises(errors.BadRequest, match=re.escape(says)):
            await at.ask("Auth.Generate", shown, request_)
        assert await ids(at, shown) == ["admin"]


async def test_an_account_needs_a_namespace_that_is_there() -> None:
    async with world() as at:
        shown, options = await at.login(), {"namespace": "blue"}
        request = {"id": "jane", "secret": "long enough", "options": options}
        with pytest.raises(errors.NotFound, match=r"'blue'; .* `micro auth create namespace`"):
            await at.ask("Auth.Generate", shown, request)
        await at.authority.create_namespace("blue")
        await at.ask("Auth.Generate", shown, request)
        assert await ids(at, shown, options=options) == ["jane"]
        assert await ids(at, shown) == ["admin"]
        await at.login("jane", "long enough", options=options)
        with pytest.raises(errors.Unauthorized):
            await at.login("jane", "long enough")


async def test_accounts_come_in_pages() -> None:
    async with world() as at:
        shown = await at.login()
        for number in range(5):
            await at.authority.people.create(Account(id=f"user{number}"), "long enough")
        assert await ids(at, shown, limit=3) == ["admin", "user0", "user1"]
        assert await ids(at, shown, limit=3, after="user1") == ["user2", "user3", "user4"]
        assert await ids(at, shown, after="user4") == []
        for limit in (-1, 1001):
            with pytest.raises(errors.BadRequest, match="limit"):
                await ids(at, shown, limit=limit)


async def test_accounts_of_a_namespace_that_is_not_there() -> None:
    async with world() as at:
        with pytest.raises(errors.NotFound, match="no namespace 'red'"):
            await ids(at, await at.login(), options={"namespace": "red"})


# Changing.


async def test_a_password_is_changed_with_the_old_one() -> None:
    async with world() as at:
        shown = await at.make("jane")
        request = {"id": "jane", "new_secret": "another one"}
        for old in ("", "wrong one"):
            with pytest.raises(errors.BadRequest, match="old_secret: it is not the secret of jane"):
                await at.ask("Accounts.ChangeSecret", shown, {**request, "old_secret": old})
        await at.ask("Accounts.ChangeSecret", shown, {**request, "old_secret": "password of jane"})
        await at.login("jane", "another one")
        with pytest.raises(errors.Unauthorized):
            await at.login("jane", "password of jane")


async def test_an_admin_needs_none_but_for_their_own() -> None:
    async with world() as at:
        await at.make("jane")
        shown = await at.login()
        await at.ask("Accounts.ChangeSecret", shown, id="jane", new_secret="another one")
        await at.login("jane", "another one")
        with pytest.raises(errors.BadRequest, match="old_secret"):
            await at.ask("Accounts.ChangeSecret", shown, id="admin", new_secret="another one")
        await at.login("admin", "micro")


async def test_the_default_password_is_gone_for_good_once_it_was_changed(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    async with world(url) as at:
        request = {"id": "admin", "old_secret": "micro", "new_secret": "micro"}
        with pytest.raises(errors.BadRequest, match="at least 8"):
            await at.ask("Accounts.ChangeSecret", await at.login(), request)
        assert at.authority.default_password_stands()
        request["new_secret"] = "another one"
        await at.ask("Accounts.ChangeSecret", await at.login(), request)
        assert not at.authority.default_password_stands()
    async with world(url) as at:
        assert not at.authority.default_password_stands()


@pytest.mark.parametrize("what", ["secret", "scopes", "delete", "revoke", "own revoke"])
async def test_what_was_logged_in_ends_at_once(what: str) -> None:
    async with world() as at:
        admin, shown = await at.login(), await at.make("jane", "editor")
        session = await at.session("jane", "password of jane")
        assert (await at.ask("Accounts.Read", shown))["account"]["id"] == "jane"
        if what == "secret":
            await at.ask("Accounts.ChangeSecret", admin, id="jane", new_secret="another one")
        elif what == "scopes":
            await at.ask("Accounts.Update", admin, id="jane", scopes=["reader"])
        elif what == "delete":
            await at.ask("Accounts.Delete", admin, id="jane")
        else:
            by = shown if what == "own revoke" else admin
            await at.ask("Auth.Revoke", by, id="jane")
        for token in (shown, session["access_token"]):
            with pytest.raises(errors.Unauthorized, match="revoked"):
                await at.ask("Accounts.Read", token)
        with pytest.raises(errors.Unauthorized, match="log in again"):
            await at.ask("Auth.Token", refresh_token=session["refresh_token"])
        await at.ask("Accounts.Read", admin)
        if what in ("scopes", "revoke", "own revoke"):
            # At once, though by the clock that may be the same moment.
            again = await at.login("jane", "password of jane")
            await at.ask("Accounts.Read", again)


async def test_a_revocation_holds_when_the_clock_stands_still() -> None:
    clock = ManualClock()
    async with world(clock=clock) as at:
        for _ in range(3):
            shown = await at.login("admin", "micro")
            await at.ask("Auth.Revoke", shown, id="admin")
            with pytest.raises(errors.Unauthorized, match="revoked"):
                await at.ask("Accounts.Read", shown)
            await at.ask("Accounts.Read", await at.login("admin", "micro"))


async def test_an_account_made_again_has_nothing_of_the_one_before() -> None:
    async with world() as at:
        admin = await at.login()
        old = await at.session("admin", "micro")
        await at.make("root", "admin")
        shown = await at.make("jane", "admin")
        session = await at.session("jane", "password of jane")
        await at.ask("Accounts.Delete", admin, id="jane")
        await at.ask("Auth.Generate", admin, id="jane", secret="password of jane")
        for token in (shown, session["access_token"]):
            with pytest.raises(errors.Unauthorized, match="revoked"):
                await at.ask("Accounts.List", token)
        with pytest.raises(errors.Unauthorized):
            await at.ask("Auth.Token", refresh_token=session["refresh_token"])
        fresh = await at.login("jane", "password of jane")
        with pytest.raises(errors.Forbidden):
            await at.ask("Accounts.List", fresh)
        assert old


async def test_names_and_notes_change_without_a_new_login() -> None:
    async with world() as at:
        admin, shown = await at.login(), await at.make("jane")
        changed = await at.ask(
            "Accounts.Update", admin, id="jane", name="Jane Doe", metadata={"team": "red"}
        )
        assert changed["account"]["name"] == "Jane Doe"
        assert (await at.ask("Accounts.Read", shown))["account"] == changed["account"]


# Removing.


async def test_nobody_deletes_themselves_or_the_last_admin() -> None:
    async with world() as at:
        admin = await at.login()
        with pytest.raises(errors.BadRequest, match="logged in as"):
            await at.ask("Accounts.Delete", admin, id="admin")
        root = await at.make("root", "admin")
        await at.ask("Accounts.Delete", root, id="admin")
        with pytest.raises(errors.Conflict, match="root is the last admin"):
            await at.ask("Accounts.Update", root, id="root", scopes=["editor"])
        with pytest.raises(errors.Conflict, match="root is the last admin"):
            await at.authority.people.delete("micro", "root")
        await at.login("root", "password of root")


async def test_of_two_last_admins_that_leave_at_once_one_stays() -> None:
    async with world() as at:
        for id in ("root", "boss"):
            await at.make(id, "admin")
        await at.authority.people.delete("micro", "admin")
        records = at.authority.records
        found = [await records.accounts.get("micro", id) for id in ("root", "boss")]
        # Each has looked, and the other was there.
        guards = [await records.accounts.fewer_admins(one.record.account) for one in found]
        await records.commit([records.accounts.delete(found[0]), *guards[0]])
        with pytest.raises(errors.Conflict):
            await records.commit([records.accounts.delete(found[1]), *guards[1]])
        with pytest.raises(errors.Conflict, match="boss is the last admin"):
            await at.authority.people.delete("micro", "boss")


async def test_an_account_that_is_not_there() -> None:
    async with world() as at:
        shown = await at.login()
        for endpoint in ("Accounts.Delete", "Accounts.Read", "Accounts.Update", "Auth.Revoke"):
            with pytest.raises(errors.NotFound, match="there is no account 'nobody' in micro"):
                await at.ask(endpoint, shown, id="nobody")


# Services.


async def test_each_replica_logs_in_by_a_secret_of_its_own() -> None:
    async with world() as at:
        first = await at.authority.service_secret("micro", "foo", "foo-0")
        second = await at.authority.service_secret("micro", "foo", "foo-1")
        assert first != second
        tokens = [await at.login("foo", secret) for secret in (first, second)]
        said = await at.ask("Accounts.Read", tokens[0])
        assert said["account"]["type"] == "service"
        assert said["account"]["scopes"] == ["service"]
        # Its secret is all that a replica needs to get another token.
        assert (await at.session("foo", first))["refresh_token"] == ""


async def test_a_new_secret_ends_what_the_same_replica_had_and_nothing_else() -> None:
    async with world() as at:
        secrets = [await at.authority.service_secret("micro", "foo", f"foo-{n}") for n in (0, 1)]
        tokens = [await at.login("foo", secret) for secret in secrets]
        fresh = await at.authority.service_secret("micro", "foo", "foo-0")
        with pytest.raises(errors.Unauthorized, match="revoked"):
            await at.ask("Accounts.Read", tokens[0])
        with pytest.raises(errors.Unauthorized):
            await at.login("foo", secrets[0])
        await at.ask("Accounts.Read", tokens[1])
        await at.ask("Accounts.Read", await at.login("foo", fresh))


async def test_replicas_that_start_at_once_all_get_in() -> None:
    async with world() as at:
        names = [f"foo-{n}" for n in range(8)]
        secret = at.authority.service_secret
        secrets = await asyncio.gather(*(secret("micro", "foo", name) for name in names))
        for one in secrets:
            await at.login("foo", one)


async def test_a_service_that_is_forgotten_is_out() -> None:
    async with world() as at:
        secret = await at.authority.service_secret("micro", "foo", "foo-0")
        token = await at.login("foo", secret)
        await at.authority.forget_service("micro", "foo")
        await at.authority.forget_service("micro", "foo")
        with pytest.raises(errors.Unauthorized, match="revoked"):
            await at.ask("Accounts.Read", token)
        with pytest.raises(errors.Unauthorized):
            await at.login("foo", secret)
        again = await at.authority.service_secret("micro", "foo", "foo-0")
        await at.ask("Accounts.Read", await at.login("foo", again))


async def test_what_an_admin_made_for_a_service_stays_when_it_is_forgotten() -> None:
    async with world() as at:
        admin = await at.login()
        made = await at.ask("Auth.Generate", admin, id="foo", type="service")
        replica = await at.authority.service_secret("micro", "foo", "foo-0")
        token = await at.login("foo", replica)
        await at.authority.forget_service("micro", "foo")
        with pytest.raises(errors.Unauthorized):
            await at.ask("Accounts.Read", token)
        await at.ask("Accounts.Read", await at.login("foo", made["account"]["secret"]))


async def test_a_service_takes_no_users_name() -> None:
    async with world() as at:
        await at.make("jane")
        with pytest.raises(errors.Conflict, match="jane is the account of a user in micro"):
            await at.authority.service_secret("micro", "jane", "jane-0")
        await at.authority.forget_service("micro", "jane")
        await at.login("jane", "password of jane")
        await at.authority.service_secret("micro", "foo", "foo-0")
        with pytest.raises(errors.Conflict):
            await at.ask("Auth.Generate", await at.login(), id="foo")


async def test_a_service_of_a_namespace_that_is_not_there() -> None:
    async with world() as at:
        with pytest.raises(errors.NotFound, match="red"):
            await at.authority.service_secret("red", "foo", "foo-0")


def test_ids_that_there_may_be() -> None:
    for id in ("jane", "jane.doe@example.com", "a", "v1.foo", "9lives", "a+b"):
        assert accounts.check_id(id) == id
