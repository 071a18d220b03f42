"""The page in a real browser: read, try, and nothing a service says is more than text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from playwright.async_api import Page, async_playwright, expect

from microcosmos import Context, Service
from microcosmos.auth.interface import Account, Resource, Rule

from .kinds import kinds

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}
# Debian's browser, without its sandbox: tests run as root in containers.
CHROMIUM = "/usr/bin/chromium"
expect.set_options(timeout=60_000)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

EVIL = "<img src=x onerror=\"document.title='broken into'\"><script>alert(1)</script>"


class Greeting(msgspec.Struct):
    msg: str
    token: str = ""


hello = Service("helloworld")


@hello.endpoint
async def call(context: Context, name: str = "World", times: int = 1) -> Greeting:
    """Say hello."""
    return Greeting(f"Hello {name}" * times, context.metadata.get("Authorization", ""))


evil = Service("evil", metadata={"description": EVIL})


@evil.endpoint(name="Call", metadata={"description": EVIL})
async def echo(field: str = EVIL) -> str:
    return field


echo.__doc__ = EVIL


@asynccontextmanager
async def opened(site: Any, path: str, **options: Any) -> AsyncIterator[Page]:
    """A page of the site; what it asks of anybody else, or gets wrong, fails the test."""
    wrong: list[str] = []
    own = (f"http://127.0.0.1:{site.port}/", "data:")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = await browser.new_context(
            base_url=f"http://127.0.0.1:{site.port}", reduced_motion="reduce", **options
        )
        page = await context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda one: None if one.url.startswith(own) else wrong.append(one.url))
        page.on("console", lambda one: wrong.append(one.text) if "Policy" in one.text else None)
        await page.goto(path)
        yield page
        assert not wrong
        assert "broken" not in await page.title()
        await browser.close()


def send(page: Page) -> Any:
    return page.get_by_role("button", name="Send").click()


def body(page: Page) -> Any:
    return page.get_by_label("Body of the answer")


async def test_an_endpoint_is_found_and_called(site: Any) -> None:
    await site.bench.start(hello, kinds)
    async with opened(site, "/openapi") as page:
        links = page.get_by_role("navigation").get_by_role("link")
        await expect(links.filter(has_text="/kinds/echo")).to_be_visible()
        await page.get_by_label("Search endpoints").fill("hello call")
        await expect(links).to_have_count(1)
        await links.click()
        await expect(page.get_by_role("heading", name="/helloworld/call")).to_be_visible()
        await expect(page).to_have_title("/helloworld/call - Microcosmos")
        await page.get_by_label("name").fill("John")
        await expect(page.locator("pre", has_text="curl")).to_have_text(
            f"curl 'http://127.0.0.1:{site.port}/helloworld/call' "
            "-H 'Content-Type: application/json' -d '{\"name\": \"John\"}'"
        )
        await send(page)
        await expect(page.get_by_text("200 OK,")).to_be_visible()
        await expect(body(page)).to_have_text('{\n  "msg": "Hello John",\n  "token": ""\n}')


async def test_a_query_string_and_json_do_the_same(site: Any) -> None:
    await site.bench.start(hello)
    async with opened(site, "/openapi?service=helloworld#/helloworld/call") as page:
        await page.get_by_label("name").fill("A & 'B'")
        await page.get_by_label("Method").select_option("get")
        await expect(page.locator("pre", has_text="curl")).to_have_text(
            f"curl 'http://127.0.0.1:{site.port}/helloworld/call?name=A+%26+%27B%27'"
        )
        await send(page)
        await expect(body(page)).to_contain_text("Hello A & 'B'")
        await page.get_by_role("button", name="Edit as JSON").click()
        await page.get_by_label("JSON of the request").fill('{"name": "C", "times": 2}')
        await send(page)
        await expect(body(page)).to_contain_text("Hello CHello C")


async def test_an_error_is_shown(site: Any) -> None:
    await site.bench.start(hello)
    async with opened(site, "/openapi#/helloworld/call") as page:
        await page.get_by_label("times").fill("many")
        await send(page)
        await expect(page.get_by_text("400 Bad Request,")).to_be_visible()
        await expect(body(page)).to_contain_text('"Code": 400')
        await expect(body(page)).to_contain_text("$.times")
        await page.get_by_text("Headers", exact=True).click()
        await expect(page.get_by_text("micro-trace:")).to_be_visible()


async def test_the_token_stays_with_the_tab(site: Any) -> None:
    await site.bench.start(hello)
    token = site.bench.accounts.token(Account(id="jane"))
    async with opened(site, "/openapi#/helloworld/call") as page:
        await page.get_by_label("Token").fill(token)
        await page.reload()
        await expect(page.locator("pre", has_text="$TOKEN")).to_be_visible()
        await expect(page.get_by_text(token)).to_have_count(0)
        await send(page)
        await expect(body(page)).to_contain_text(f"Bearer {token}")


async def test_the_document_is_that_of_the_token(open_site: Any, platform: Any) -> None:
    registry = Rule(id="registry", resource=Resource(name="registry"))
    platform.allow([registry, Rule(id="staff", scope="staff")])
    await platform.start(hello)
    access = platform.accounts.access
    token = platform.accounts.token(Account(id="jane", scopes=("staff",)))
    async with (
        open_site(platform, access=access) as site,
        opened(site, "/openapi#/helloworld/call") as page,
    ):
        shown = page.get_by_role("link", name="/helloworld/call")
        await expect(page.locator("#title")).to_have_text("Microcosmos")
        await expect(shown).to_have_count(0)
        await page.get_by_label("Token").fill(token)
        await page.get_by_label("Token").press("Enter")
        await expect(shown.first).to_be_visible()
        await page.get_by_label("Token").fill("old")
        await page.get_by_label("Token").press("Enter")
        await expect(page.get_by_text("The document cannot be read")).to_be_visible()


async def test_what_services_say_is_text(site: Any) -> None:
    await site.bench.start(evil)
    async with opened(site, "/openapi#/evil/call") as page:
        await expect(page.get_by_text(EVIL).first).to_be_visible()
        await send(page)
        await expect(body(page)).to_contain_text("<img src=x")
        assert await page.locator("img").count() == 0
        await page.goto("/openapi?service=<img src=x>#/<img src=x>")
        await expect(page.get_by_text("The document cannot be read")).to_be_visible()
        assert await page.locator("img").count() == 0


async def test_every_field_that_is_needed_begins_with_an_example(site: Any) -> None:
    await site.bench.start(kinds)
    async with opened(site, "/openapi#/kinds/mixed") as page:
        for method in ("post", "get"):
            await page.get_by_label("Method").select_option(method)
            await send(page)
            await expect(page.get_by_text("200 OK,")).to_be_visible()
        await expect(body(page)).to_have_text('{\n  "type": "Cat",\n  "lives": 9\n}')


async def test_long_numbers_stay_as_they_are(site: Any) -> None:
    await site.bench.start(kinds)
    async with opened(site, "/openapi#/kinds/anything") as page:
        await page.get_by_label("value").fill("[12345678901234567890123, 1.50, {}]")
        await send(page)
        text = "[\n  12345678901234567890123,\n  1.5,\n  {}\n]"
        await expect(body(page)).to_have_text(text)


async def test_it_fits_a_phone(site: Any) -> None:
    await site.bench.start(hello, kinds)
    async with opened(site, "/openapi#/kinds/plain", viewport=PHONE, color_scheme="dark") as page:
        await expect(page.get_by_role("heading", name="/kinds/plain")).to_be_in_viewport()
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"]


async def test_it_is_used_with_the_keyboard_alone(site: Any) -> None:
    await site.bench.start(hello)
    async with opened(site, "/openapi?service=helloworld") as page:
        await page.get_by_label("Search endpoints").focus()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="/helloworld/call")).to_be_visible()
        await page.keyboard.press("Tab")
        await page.keyboard.type("Ann")
        await page.keyboard.press("Enter")
        await expect(body(page)).to_contain_text("Hello Ann")


async def test_a_stream_is_shown_as_it_comes(site: Any) -> None:
    let, left = asyncio.Event(), asyncio.Event()
    ticks = Service("ticks")

    @ticks.endpoint
    async def call(last: int) -> AsyncIterator[int]:
        try:
            yield 1
            await let.wait()
            for number in range(2, last + 1):
                yield number
        except asyncio.CancelledError:
            left.set()
            raise

    await site.bench.start(ticks)
    async with opened(site, "/openapi#/ticks/call") as page:
        await page.get_by_label("last").fill("3")
        await send(page)
        await expect(body(page)).to_have_text("1\n")
        await expect(page.get_by_role("button", name="Stop")).to_be_visible()
        let.set()
        await expect(body(page)).to_have_text("1\n2\n3\n")
        await expect(page.get_by_text("200 OK,")).to_be_visible()
        let.clear()
        await page.get_by_label("Form of the answer").select_option("text/event-stream")
        await send(page)
        await expect(body(page)).to_contain_text("data: 1")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_text("200 OK, stopped,")).to_be_visible()
        async with asyncio.timeout(60):
            await left.wait()


async def test_what_the_caller_streams_is_sent_by_lines(site: Any) -> None:
    await site.bench.start(kinds)
    async with opened(site, "/openapi#/kinds/total") as page:
        await page.get_by_label("start").fill("10")
        await page.get_by_label("What is streamed").fill("1\n2")
        await expect(page.locator("pre", has_text="curl")).to_contain_text("total?start=10")
        await send(page)
        await expect(body(page)).to_have_text("13")
