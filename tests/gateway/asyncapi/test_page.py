"""The page: complete in itself, and nothing that a service says is more than text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from playwright.async_api import async_playwright, expect

from microcosmos.gateway.asyncapi import page
from microcosmos.gateway.asyncapi.flows import Flow, Payload

from .conftest import FLOWS, ORDER, made

CHROMIUM = "/usr/bin/chromium"
expect.set_options(timeout=60_000)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

EVIL = "</style></script><script>document.title='broken'</script><img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    """The texts of a page, and its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> Reader:
    found = Reader(html)
    assert found.open == []
    return found


async def test_a_topic_is_shown_with_its_fields_and_both_ends() -> None:
    found = read(page.write(made(ORDER, flows=FLOWS), link="/asyncapi.json"))
    text = re.sub(r"\s+", " ", " ".join(found.texts))
    for said in (
        "orders.placed",
        "An order that was placed.",
        "version 2, schema 7",
        "backward transitive",
        "list of Line",
        "whole number, else 1",
        "in order of keys",
        "by orders.>",
        "map of text",
    ):
        assert said in text, said
    assert found.tags.count("a") >= 2


async def test_what_services_say_is_text() -> None:
    schema = {
        "title": EVIL,
        "description": EVIL,
        "type": "object",
        "properties": {EVIL: {"enum": [EVIL], "default": EVIL, "pattern": EVIL}},
    }
    flows = [Flow(service=EVIL, action="receive", topic="t", group=EVIL)]
    found = read(page.write(made(Payload(topic="t", schema=schema), flows=flows), link=EVIL))
    assert not {"script", "img"} & {*found.tags}
    assert found.tags.count("style") == 1
    assert read(page.refused(EVIL)).tags.count("script") == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}},
        {"type": "object", "properties": {str(at): {"type": "string"} for at in range(5000)}},
        {"anyOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}},
        True,
        {"enum": []},
        {"type": ["string", "null"], "additionalProperties": {"items": {"type": "object"}}},
    ],
)  # fmt: skip
async def test_any_schema_can_be_shown(schema: Any) -> None:
    read(page.write(made(Payload(topic="t", schema=schema))))


async def test_a_schema_that_is_deep_ends_somewhere() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(60):
        deep = {"type": "object", "properties": {"a": deep}}
    assert "… and so on" in page.write(made(Payload(topic="t", schema=deep)))


@pytest.mark.slow
async def test_a_browser_shows_it_without_a_word_to_anybody() -> None:
    wrong: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = await browser.new_page(viewport={"width": 390, "height": 844})
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda one: wrong.append(one.text))
        tab.on("request", lambda one: wrong.append(one.url) if "http" in one.url else None)
        await tab.set_content(page.write(made(ORDER, flows=FLOWS), link="/asyncapi.json"))
        await expect(tab.get_by_role("heading", name="orders.placed")).to_be_visible()
        await expect(tab.get_by_text("One line of an order.")).to_be_visible()
        width = await tab.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        await browser.close()
    assert not wrong
