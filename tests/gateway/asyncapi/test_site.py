"""The document and the page as the gateway answers them."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from playwright.async_api import async_playwright, expect

from microcosmos.auth.interface import Account
from microcosmos.auth.topics import authorising, open_to_all
from microcosmos.events.schema import Declaration, Reader
from microcosmos.events.schema.registry import Registry
from microcosmos.events.schema.service import SchemasService
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Hosted
from microcosmos.service.memory import MemoryPlatform
from microcosmos.store import open_store
from microcosmos.testing import Bench
from microcosmos.testing.accounts import Accounts

from ..conftest import Site, open_site
from .test_page import CHROMIUM, FLAGS

SCHEMA = {"title": "User", "type": "object", "properties": {"name": {"type": "string"}}}
EVE = Account(id="eve")


class Front(NamedTuple):
    """A gateway, the schemas behind it, and who there is."""

    site: Site
    schemas: Registry
    accounts: Accounts


@contextlib.asynccontextmanager
async def opened(*, guarded: bool = False, events: bool = True) -> AsyncIterator[Front]:
    """A gateway until the block ends.

    Args:
        guarded: whether it is asked who may.
        events: whether there is a service `events`.
    """
    accounts = Accounts()
    platform = MemoryPlatform(verifier=accounts)
    authorise = authorising(accounts.access) if guarded else open_to_all
    settings = {"access": accounts.access} if guarded else {}
    if guarded:
        accounts.allow([])
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        schemas = Registry(await enter(open_store("memory://")))
        stack.callback(schemas.close)
        hosted = [RegistryService(platform.registry).hosted()]
        if events:
            hosted.append(Hosted("events", SchemasService(schemas, authorise).endpoints()))
        await enter(platform.host(hosted))
        site = await enter(open_site(Bench(platform, stack, accounts), **settings))
        yield Front(site, schemas, accounts)


async def fill(schemas: Registry) -> None:
    catalogue = schemas.of("micro")
    # It is what a service registered whose account is called as it is.
    await catalogue.register("users.created-value", SCHEMA, author="registry")
    await catalogue.register("users/Read-request", SCHEMA)
    await catalogue.declare(Declaration("mailer", (Reader("users.>", "mailer"),)))


async def test_topics_with_schemas_are_channels() -> None:
    async with opened() as (site, schemas, _):
        await fill(schemas)
        api = (await site.http.get("/asyncapi.json")).json()
        assert api["asyncapi"] == "3.0.0"
        assert {one["address"] for one in api["channels"].values()} == {"users.created"}
        told = [(one["x-service"], one["action"]) for one in api["operations"].values()]
        assert sorted(told) == [("mailer", "receive"), ("registry", "send")]
        shown = await site.http.get("/asyncapi")
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in shown.headers["content-security-policy"]
        assert "users.created" in shown.text


async def test_what_changes_is_in_the_next_document() -> None:
    async with opened() as (site, schemas, _):
        first = await site.http.get("/asyncapi.json")
        tag = first.headers["etag"]
        same = await site.http.get("/asyncapi.json", headers={"if-none-match": tag})
        assert same.status_code == 304
        await fill(schemas)
        other = await site.http.get("/asyncapi.json", headers={"if-none-match": tag})
        assert "users.created" in other.json()["channels"]


async def test_it_is_compressed_for_those_who_take_it() -> None:
    async with opened() as (site, _, _), site.http.stream("GET", "/asyncapi") as answer:
        assert answer.headers["content-encoding"] == "gzip"
        body = b"".join([part async for part in answer.aiter_raw()])
        assert gzip.decompress(body).startswith(b"<!doctype html>")


async def test_a_platform_without_events_has_an_empty_document() -> None:
    async with opened(events=False) as (site, _, _):
        found = await site.http.get("/asyncapi.json")
        assert found.json()["channels"] == {}
        assert (await site.http.post("/asyncapi.json")).status_code == 405


async def test_it_is_for_accounts() -> None:
    async with opened(guarded=True) as (site, schemas, accounts):
        await fill(schemas)
        headers = {"authorization": f"Bearer {accounts.token(EVE)}"}
        refused = await site.http.get("/asyncapi.json")
        assert (refused.status_code, refused.json()["Code"]) == (401, 401)
        page = await site.http.get("/asyncapi")
        assert (page.status_code, "<form>" in page.text) == (401, True)
        assert "users.created" not in page.text
        for path in ("/asyncapi", "/asyncapi.json"):
            assert "users.created" in (await site.http.get(path, headers=headers)).text
            # What somebody was shown is not for everybody after that.
            assert (await site.http.get(path)).status_code == 401


@pytest.mark.slow
async def test_a_browser_shows_it_for_a_token() -> None:
    wrong: list[str] = []
    async with opened(guarded=True) as (site, schemas, accounts), async_playwright() as playwright:
        await fill(schemas)
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = await browser.new_page()
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda one: wrong.append(one.text) if "Policy" in one.text else None)
        await tab.goto(f"http://127.0.0.1:{site.port}/asyncapi")
        await tab.get_by_label("Token").fill("no token")
        await tab.get_by_role("button").click()
        await expect(tab.get_by_role("status")).not_to_be_empty()
        await tab.get_by_label("Token").fill(accounts.token(EVE))
        await tab.get_by_role("button").click()
        await expect(tab.get_by_role("heading", name="users.created")).to_be_visible()
        shown = await tab.evaluate("getComputedStyle(document.querySelector('.badge')).display")
        assert shown == "inline-block"
        await browser.close()
    assert not wrong
