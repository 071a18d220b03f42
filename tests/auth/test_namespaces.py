"""Namespaces: made with their rule, removed with all that is in them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from microcosmos.auth import spaces
from microcosmos.auth.interface import Account, Rule
from microcosmos.base import errors
from microcosmos.store import open_store

from .world import World, world


async def names(world: World, shown: str, /, **fields: Any) -> list[str]:
    found: list[str] = (await world.ask("Namespaces.List", shown, **fields))["namespaces"]
    return found


async def test_a_namespace_begins_with_the_default_rule() -> None:
    async with world() as at:
        shown = await at.login()
        assert await names(at, shown) == ["micro"]
        await at.ask("Namespaces.Create", shown, name="blue")
        assert await names(at, shown) == ["blue", "micro"]
        listed = await at.ask("Rules.List", shown, options={"namespace": "blue"})
        assert [rule["id"] for rule in listed["rules"]] == ["default"]


async def test_who_is_not_of_the_platform_sees_their_own() -> None:
    async with world() as at:
        shown = await at.make("jane", namespace="blue")
        await at.authority.create_namespace("red")
        assert await names(at, shown, at="blue") == ["blue"]


@pytest.mark.parametrize("name", ["", "Blue", "a/b", "a b", "-a", "$platform", "x" * 51, "ü"])
async def test_what_is_no_name_of_one(name: str) -> None:
    async with world() as at:
        with pytest.raises(errors.BadRequest, match="is no namespace"):
            await at.ask("Namespaces.Create", await at.login(), name=name)


async def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as at:
        create = at.authority.create_namespace
        made = await asyncio.gather(*(create("blue") for _ in range(3)), return_exceptions=True)
        assert sum(one is None for one in made) == 1
        with pytest.raises(errors.Conflict, match="there is a namespace blue already"):
            await create("blue")
        monkeypatch.setattr(spaces, "MAX_NAMESPACES", 2)
        with pytest.raises(errors.Conflict, match="which is the most"):
            await create("red")


async def test_one_that_is_not_empty_goes_by_force_only() -> None:
    async with world() as at:
        shown, jane = await at.login(), await at.make("jane", namespace="blue")
        session = await at.session("jane", "password of jane", options={"namespace": "blue"})
        with pytest.raises(errors.Conflict, match="blue has accounts, such as jane"):
            await at.ask("Namespaces.Delete", shown, name="blue")
        await at.ask("Accounts.Read", jane, at="blue")
        await at.ask("Namespaces.Delete", shown, name="blue", force=True)
        assert await names(at, shown) == ["micro"]
        with pytest.raises(errors.Unauthorized, match="revoked"):
            await at.ask("Accounts.Read", jane, at="blue")
        with pytest.raises(errors.Unauthorized):
            await at.ask("Auth.Token", refresh_token=session["refresh_token"])
        with pytest.raises(errors.NotFound, match="there is no namespace 'blue'"):
            await at.ask("Accounts.List", shown, at="blue")


async def test_one_of_the_same_name_has_nothing_of_it() -> None:
    async with world() as at:
        shown, jane = await at.login(), await at.make("jane", "admin", namespace="blue")
        session = await at.session("jane", "password of jane", options={"namespace": "blue"})
        await at.authority.rules.create("blue", Rule(id="mine"))
        await at.authority.rules.delete("blue", "default")
        await at.ask("Namespaces.Delete", shown, name="blue", force=True)
        await at.ask("Namespaces.Create", shown, name="blue")
        options = {"namespace": "blue"}
        assert (await at.ask("Accounts.List", shown, options=options))["accounts"] == []
        rules = (await at.ask("Rules.List", shown, options=options))["rules"]
        assert [rule["id"] for rule in rules] == ["default"]
        with pytest.raises(errors.Unauthorized, match="revoked"):
            await at.ask("Accounts.List", jane, at="blue")
        with pytest.raises(errors.Unauthorized):
            await at.ask("Auth.Token", refresh_token=session["refresh_token"])
        await at.authority.people.create(Account(id="jane", namespace="blue"), "long enough")
        fresh = await at.login("jane", "long enough", options=options)
        await at.ask("Accounts.Read", fresh, at="blue")


async def test_what_was_left_when_the_server_died_is_cleared_away() -> None:
    async with open_store("memory://") as store, world(store) as at:
        await at.make("jane", namespace="blue")
        # The namespace is gone, and then the process was.
        policy = store.table("auth/policy", database="$platform")
        await policy.delete("namespace/blue")
        async with world(store) as after:
            with pytest.raises(errors.Unauthorized):
                await after.login("jane", "password of jane", options={"namespace": "blue"})
            await after.authority.create_namespace("blue")
            with pytest.raises(errors.Unauthorized):
                await after.login("jane", "password of jane", options={"namespace": "blue"})


async def test_the_platforms_own_stays() -> None:
    async with world() as at:
        with pytest.raises(errors.Conflict, match="it stays"):
            await at.ask("Namespaces.Delete", await at.login(), name="micro", force=True)
        with pytest.raises(errors.NotFound, match="'red'"):
            await at.ask("Namespaces.Delete", await at.login(), name="red")


async def test_whoever_keeps_something_there_is_asked_first() -> None:
    async with world() as at:
        await at.authority.create_namespace("blue")
        asked: list[tuple[str, bool]] = []

        async def deployments(name: str, force: bool) -> None:
            asked.append((name, force))
            if not force:
                raise errors.Conflict("runtime", f"foo is deployed in {name}")

        at.authority.before_delete(deployments)
        shown = await at.login()
        with pytest.raises(errors.Conflict, match="foo is deployed in blue"):
            await at.ask("Namespaces.Delete", shown, name="blue")
        assert await names(at, shown) == ["blue", "micro"]
        await at.ask("Namespaces.Delete", shown, name="blue", force=True)
        assert asked == [("blue", False), ("blue", True)]
