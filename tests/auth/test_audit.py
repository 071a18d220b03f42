"""The audit log: each change, by whom, in the same write; nothing secret; bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from microcosmos.auth import audit
from microcosmos.base import context, errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import open_store

from .world import World, world


async def entries(world: World, shown: str, /, **request: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.ask("Audit.List", shown, **request))["entries"]
    return found


async def told(world: World, shown: str, /, **request: Any) -> list[tuple[str, str, str]]:
    return [
        (one["who"], one["action"], one["subject"])
        for one in await entries(world, shown, **request)
    ]


async def test_every_change_is_noted_with_who_made_it() -> None:
    async with world() as at:
        shown = await at.login()
        await at.ask("Auth.Generate", shown, id="jane", secret="long enough", scopes=["admin"])
        jane = await at.login("jane", "long enough")
        await at.ask("Rules.Create", jane, rule={"id": "no", "access": "DENIED", "scope": "*"})
        await at.ask("Rules.Delete", jane, id="no")
        await at.ask("Accounts.Update", shown, id="jane", scopes=["admin", "editor"])
        await at.ask("Accounts.ChangeSecret", shown, id="jane", new_secret="another one")
        await at.ask("Auth.Revoke", shown, id="jane")
        await at.ask("Accounts.Delete", shown, id="jane")
        await at.ask("Auth.Rotate", shown)
        found = await told(at, shown)
        assert found == [
            ("system", "account created", "admin"),
            ("admin", "account created", "jane"),
            ("jane", "rule created", "no"),
            ("jane", "rule deleted", "no"),
            ("admin", "account changed", "jane"),
            ("admin", "secret changed", "jane"),
            ("admin", "tokens revoked", "jane"),
            ("admin", "account deleted", "jane"),
            ("admin", "key rotated", at.keys.signer.id),
        ]
        details = [one["detail"] for one in await entries(at, shown)]
        assert details[1] == "type user, scopes admin"
        assert details[2] == "DENIED *:*:* to * at 0"
        assert details[4] == "scopes admin -> admin,editor"


async def test_no_secret_is_in_it() -> None:
    async with world() as at:
        shown = await at.login()
        made = await at.ask("Auth.Generate", shown, id="jane")
        secrets = [made["account"]["secret"], "another one", "micro-secret", shown]
        await at.ask("Accounts.ChangeSecret", shown, id="jane", new_secret="another one")
        text = json.dumps(await entries(at, shown))
        for secret in secrets:
            assert secret not in text


async def test_what_was_refused_is_not_in_it() -> None:
    async with world() as at:
        shown = await at.login()
        before = await entries(at, shown)
        for endpoint, request in (
            ("Rules.Delete", {"id": "nothing"}),
            ("Accounts.Delete", {"id": "nobody"}),
            ("Auth.Generate", {"id": "admin"}),
            ("Rules.Create", {"rule": {"id": "default", "access": "DENIED"}}),
        ):
            with pytest.raises(errors.Error):
                await at.ask(endpoint, shown, **request)
        assert await entries(at, shown) == before


async def test_the_rest_of_the_platform_notes_there_too() -> None:
    async with world() as at:
        await at.authority.audit("deployment created", "helloworld", "latest from ./helloworld")
        jane = context.Context(context.Metadata({"Micro-Namespace": "micro"}))
        token = at.authority.access.token(f"Bearer {await at.make('jane')}")
        assert token is not None
        jane.account = token.account
        was = context.set_current(jane)
        await at.authority.audit("deployment deleted", "helloworld", "x" * 5000)
        was.var.reset(was)
        found = await entries(at, await at.login())
        assert [one["who"] for one in found[-3:]] == ["system", "system", "jane"]
        assert len(found[-1]["detail"]) == audit.LONGEST_DETAIL


async def test_it_is_read_in_pages_the_last_entry_last() -> None:
    async with world() as at:
        shown = await at.login()
        for number in range(7):
            await at.authority.audit("tested", str(number))
        subjects = lambda page: [one["subject"] for one in page]  # noqa: E731
        last = await entries(at, shown, limit=3)
        assert subjects(last) == ["4", "5", "6"]
        before = await entries(at, shown, limit=3, before=last[0]["id"])
        assert subjects(before) == ["1", "2", "3"]
        after = await entries(at, shown, after=before[-1]["id"])
        assert subjects(after) == ["4", "5", "6"]
        assert await entries(at, shown, after=last[-1]["id"]) == []
        with pytest.raises(errors.BadRequest, match="limit"):
            await entries(at, shown, limit=1001)


async def test_it_is_read_by_account_and_by_namespace() -> None:
    async with world() as at:
        shown = await at.login()
        boss = await at.make("boss", "admin", namespace="blue")
        await at.ask("Rules.Create", boss, at="blue", rule={"id": "a", "access": "GRANTED"})
        await at.ask("Rules.Create", shown, rule={"id": "b", "access": "GRANTED"})
        in_blue = await told(at, boss, at="blue")
        assert in_blue[-1] == ("boss", "rule created", "a")
        assert all(subject != "b" for _, _, subject in in_blue)
        assert await told(at, shown, account="admin") == [("admin", "rule created", "b")]
        by_admin = await told(at, shown, options={"namespace": "blue"})
        assert by_admin == in_blue
        # That there is a namespace is a matter of the platform.
        assert ("system", "namespace created", "blue") in await told(at, shown)
        everything = {"namespace": "*"}
        assert {*in_blue} < {*await told(at, shown, options=everything)}
        with pytest.raises(errors.Forbidden):
            await told(at, boss, at="blue", options=everything)


async def test_it_is_bounded_in_number_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "KEPT", 10)
    monkeypatch.setattr(audit, "_TRIM_EVERY", 5)
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store, world(store, clock=clock) as at:
        table = store.table(audit.TABLE, database="$platform")
        for number in range(40):
            await at.authority.audit("tested", str(number))
            assert await table.count() <= 15
        found = await entries(at, await at.login())
        assert found[-1]["subject"] == "39"
        clock._now += audit.KEPT_FOR + 1
        assert await table.count() == 0


async def test_entries_of_one_moment_stay_in_their_order() -> None:
    clock = ManualClock()
    async with world(clock=clock) as at:
        for number in range(50):
            await at.authority.audit("tested", str(number))
        found = await entries(at, await at.login(), limit=50)
        assert [one["subject"] for one in found] == [str(number) for number in range(50)]
