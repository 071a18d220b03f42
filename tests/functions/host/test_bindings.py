"""Bindings, on the core's real services with real accounts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from microcosmos.auth.interface import Resource, Rule
from microcosmos.base import context, errors
from microcosmos.base.context import TRACE, Metadata, Unasked
from microcosmos.broker.interface import Message
from microcosmos.functions.host.bindings import MAX_KEYS, Bindings, callee
from microcosmos.functions.host.passes import SPARE, Passes
from microcosmos.functions.interface import Unit
from microcosmos.functions.requests import Pass
from microcosmos.functions.wire import Use
from microcosmos.rpc import Endpoint, Hosted

from ..plane import draft
from .core import Core, core

ALL = ["store", "config", "events", "broker", "call"]


class Function:
    """A function of the test, at work."""

    def __init__(self, bindings: Bindings, unit: Unit) -> None:
        self._bindings = bindings
        self._unit = unit

    async def use(self, binding: str, verb: str, *arguments: Any) -> Any:
        use = Use(binding=binding, verb=verb, arguments=[*arguments])
        return json.loads(await self._bindings.use(self._unit, use))


def unit(name: str, grants: list[str], namespace: str = "micro") -> Unit:
    return Unit(
        namespace=namespace,
        name=name,
        number=1,
        key="k",
        owner="jane",
        language="javascript",
        form="script",
        engine="quickjs",
        main="index.js",
        code="",
        grants=grants,
    )


@asynccontextmanager
async def function(
    here: Core, name: str = "shop", grants: list[str] = ALL
) -> AsyncIterator[Function]:
    await (await here.plane.admin()).deploy(draft(name))
    bindings = Bindings(here.client, Passes(here.plane.platform.grant))
    yield Function(bindings, unit(name, grants))


async def test_a_table_of_its_own() -> None:
    async with core() as here, function(here) as shop:
        assert await shop.use("store", "get", "a") is None
        await shop.use("store", "set", "a/1", {"n": [1, "ü"]})
        await shop.use("store", "set", "a/2", 2, {"expiry": 60})
        await shop.use("store", "set", "b", None)
        assert await shop.use("store", "get", "a/1") == {"n": [1, "ü"]}
        assert await shop.use("store", "list", {"prefix": "a/"}) == ["a/1", "a/2"]
        assert await shop.use("store", "list", {"limit": 1, "after": "a/1"}) == ["a/2"]
        await shop.use("store", "delete", "a/1")
        assert await shop.use("store", "list") == ["a/2"]
        table = here.plane.store.table("shop", database="micro")
        assert 0 < (await table.read("a/2")).expiry <= 60
        async with function(here, "other") as other:
            assert await other.use("store", "list") == []


async def test_what_somebody_else_has_put_there_and_is_no_json() -> None:
    async with core() as here, function(here) as shop:
        await here.plane.store.table("shop", database="micro").write("note", b"hello\xff")
        assert await shop.use("store", "get", "note") == "hello\ufffd"


@pytest.mark.parametrize(
    "use",
    [
        ("get",),
        ("get", 5),
        ("get", ""),
        ("get", "x" * 2000),
        ("set", "a"),
        ("set", "a", 1, {"expire": 3}),
        ("set", "a", 1, {"expiry": -1}),
        ("set", "a", 1, {"expiry": "soon"}),
        ("list", {"limit": 0}),
        ("list", {"limit": MAX_KEYS + 1}),
        ("list", "a"),
        ("drop",),
    ],
)
async def test_bad_uses_of_a_table(use: tuple[Any, ...]) -> None:
    async with core() as here, function(here) as shop:
        with pytest.raises((errors.BadRequest, errors.TooLarge)):
            await shop.use("store", *use)


async def test_its_own_section_of_the_config() -> None:
    async with core() as here, function(here, "shop.cart") as cart:
        admin = await here.plane.auth.login()
        client = here.plane.calling(admin)
        settings = {"shop.cart.limit": (5, False), "shop.cart.key": ("s3cret", True)}
        for path, (value, secret) in {**settings, "other": ("mine", False)}.items():
            data = {"data": json.dumps(value), "format": "json"}
            body = {"path": path, "value": data, "options": {"secret": secret}}
            await client.call("config", "Config.Set", json.dumps(body).encode())
        assert await cart.use("config", "get", "limit") == 5
        assert await cart.use("config", "get", "key") == "s3cret"
        assert await cart.use("config", "get", "other") is None
        assert await cart.use("config", "get") == {"limit": 5, "key": "s3cret"}
        with pytest.raises(errors.BadRequest):
            await cart.use("config", "get", "a..b")
        with pytest.raises(errors.BadRequest):
            await cart.use("config", "get", 7)


async def test_events_are_published_with_key_metadata_and_trace() -> None:
    async with core() as here, function(here) as shop:
        context.set_current(Unasked(Metadata({TRACE: "t" * 32})))
        about = {"key": "joe", "metadata": {"source": "web"}}
        told = await shop.use("events", "publish", "orders", {"n": 1}, about)
        (event,) = await here.log.read("orders")
        assert told == {"id": event.id}
        assert (event.key, event.unmarshal()) == ("joe", {"n": 1})
        assert event.metadata == {"Source": "web", TRACE: "t" * 32}


async def test_messages_are_published() -> None:
    async with core() as here, function(here) as shop:
        heard: list[Message] = []
        await here.broker.subscribe("news", heard.append)
        await shop.use("broker", "publish", "news", "hello", {"metadata": {"a": "b"}})
        assert [(one.body, one.headers["A"]) for one in heard] == [(b'"hello"', "b")]


@pytest.mark.parametrize(
    ("binding", "arguments"),
    [
        ("events", ("orders",)),
        ("events", ("no topic!", 1)),
        ("events", ("orders", 1, {"keys": "x"})),
        ("events", ("orders", 1, {"metadata": {"a b": "c"}})),
        ("events", ("orders", 1, {"metadata": {"a": 1}})),
        ("broker", (7, 1)),
        ("broker", ("orders", 1, {"metadata": {"a": "b\nc"}})),
    ],
)
async def test_what_cannot_be_published(binding: str, arguments: tuple[Any, ...]) -> None:
    async with core() as here, function(here) as shop:
        with pytest.raises(errors.BadRequest):
            await shop.use(binding, "publish", *arguments)


async def test_rules_about_topics_are_about_functions_too() -> None:
    async with core() as here, function(here) as shop:
        rule = Rule(
            id="no",
            scope="service",
            resource=Resource("topic", "secret.>", "publish"),
            access="DENIED",
            priority=1,
        )
        await here.plane.auth.authority.rules.create("micro", rule)
        with pytest.raises(errors.Forbidden, match="shop may not publish to secret"):
            await shop.use("events", "publish", "secret.plan", 1)
        with pytest.raises(errors.Forbidden, match="shop may not publish to secret"):
            await shop.use("broker", "publish", "secret.plan", 1)


def users(seen: list[Any]) -> Hosted:
    async def read(body: bytes) -> bytes:
        here = context.current()
        seen.append((json.loads(body), here.account, here.trace, here.remaining()))
        return b'{"name":"Joe"}'

    return Hosted("users", [Endpoint("Users.Read", read), Endpoint("Admin.Drop", read)])


async def test_services_are_called_as_the_function_itself() -> None:
    async with core() as here, function(here) as shop:
        seen: list[Any] = []
        here.serve(users(seen))
        context.set_current(Unasked(Metadata({TRACE: "t" * 32})))
        assert await shop.use("call", "users.read", {"id": 7}) == {"name": "Joe"}
        ((request, account, trace, _),) = seen
        assert request == {"id": 7}
        assert (account.id, account.type, account.namespace) == ("shop", "service", "micro")
        assert trace == "t" * 32


async def test_the_deadline_of_a_request_goes_along() -> None:
    async with core() as here, function(here) as shop:
        seen: list[Any] = []
        here.serve(users(seen))
        import time

        context.set_current(Unasked(None, time.monotonic() + 3))
        await shop.use("call", "users.read")
        assert 0 < seen[0][3] <= 3


@pytest.mark.parametrize(
    ("grants", "verb", "allowed"),
    [
        (["call"], "users.read", True),
        (["call:users"], "users.read", True),
        (["call:users.read"], "users.read", True),
        (["call:users.read"], "users.Users.Read", True),
        (["call:users.write"], "users.read", False),
        (["call:user"], "users.read", False),
        (["call:users.read"], "users.Admin.Drop", False),
        ([], "users.read", False),
        (["store"], "users.read", False),
        (["call"], "store.read", False),
        (["call"], "auth.Auth.Token", False),
    ],
)
async def test_what_was_granted_of_calls(grants: list[str], verb: str, allowed: bool) -> None:
    async with core() as here, function(here, grants=grants) as shop:
        here.serve(users([]))
        if allowed:
            assert await shop.use("call", verb) == {"name": "Joe"}
        else:
            with pytest.raises(errors.Forbidden, match=f"`--grant call:{verb}`"):
                await shop.use("call", verb)


async def test_the_platforms_own_services_are_called_if_they_are_named() -> None:
    async with core() as here, function(here, grants=["call:registry", "call:store"]) as shop:
        answer = await shop.use("call", "store.Store.Tables", {"database": "micro"})
        assert "tables" in answer


@pytest.mark.parametrize("binding", ["store", "config", "events", "broker"])
async def test_what_was_not_granted_is_refused_with_the_way_out(binding: str) -> None:
    async with core() as here, function(here, grants=["call"]) as shop:
        verb = {"store": "get", "config": "get"}.get(binding, "publish")
        with pytest.raises(errors.Forbidden, match=f"`--grant {binding}`"):
            await shop.use(binding, verb, "a", "b")


async def test_a_binding_that_there_is_not() -> None:
    async with core() as here, function(here) as shop:
        with pytest.raises(errors.BadRequest, match="no binding"):
            await shop.use("files", "read", "/etc/passwd")
        with pytest.raises(errors.BadRequest):
            await shop.use("call", "not a name")


async def test_an_account_that_was_made_anew() -> None:
    """A function that is deleted and deployed again has other tokens."""
    async with core() as here:
        platform = here.plane.platform
        passes = Passes(platform.grant)
        bindings = Bindings(here.client, passes)
        admin = await here.plane.admin()
        await admin.deploy(draft("shop"))
        shop = Function(bindings, unit("shop", ALL))
        await shop.use("store", "set", "a", 1)
        await admin.delete("shop")
        await admin.deploy(draft("shop"))
        await shop.use("store", "set", "a", 2)


def test_what_a_callee_is_called() -> None:
    assert callee("users") == ("users", "Users.Call")
    assert callee("users.read") == ("users", "Users.Read")
    assert callee("users.read-all") == ("users", "Users.ReadAll")
    assert callee("users.Admin.Drop") == ("users", "Admin.Drop")
    assert callee("v1.users.read") == ("v1.users", "Users.Read")
    for bad in ("", ".", "users.", "a b.c", "users.read*"):
        with pytest.raises(errors.BadRequest):
            callee(bad)


async def test_a_token_is_asked_for_once_and_renewed_in_time() -> None:
    asked: list[str] = []
    now = 1000.0

    async def grant(namespace: str, name: str) -> Pass:
        asked.append(f"{namespace}/{name}")
        return Pass(f"token{len(asked)}", now + 600)

    passes = Passes(grant, lambda: now)
    assert await passes.header("micro", "shop") == "Bearer token1"
    assert await passes.header("micro", "shop") == "Bearer token1"
    now += 600 - SPARE + 1
    assert await passes.header("micro", "shop") == "Bearer token2"
    passes.forget("micro", "shop")
    assert await passes.header("micro", "shop") == "Bearer token3"
    assert asked == ["micro/shop"] * 3
