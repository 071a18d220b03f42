"""examples/functions-*: the commands of their pages, typed as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..e2e.live import Live, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


class Page:
    """The page of an example, and a shell to type its commands into."""

    def __init__(self, live: Live, example: str) -> None:
        self.live = live
        text = (ROOT / "examples" / example / "README.md").read_text("utf-8")
        blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.commands = [line for block in blocks for line in block.splitlines()]

    def type(self, *beginnings: str) -> list[str]:
        """What the commands that begin so print, in the order of the page."""
        return [self._run(one) for one in self.commands if one.startswith(beginnings)]

    def deploy(self) -> None:
        """Type its deploys."""
        for said in self.type("micro functions deploy"):
            assert " is live at http://" in said

    def _run(self, command: str) -> str:
        command = command.replace("127.0.0.1:8080", self.live.info.addresses["api"])
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", command.replace("examples/", f"{ROOT}/examples/")],
            cwd=self.live.work,
            env={**self.live.env, "PATH": programs},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.stdout


@pytest.fixture
def page(live: Live, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of the example that the test is named for; what it deploys goes again."""
    example = request.node.get_closest_marker("example").args[0]
    opened = Page(live, example)
    yield opened
    for command in opened.commands:
        if found := re.match(r"micro functions deploy (\S+)", command):
            live.micro("functions", "delete", found[1])


def answer(said: str) -> str:
    """The body of what curl has printed, without its progress."""
    return said[said.find("{") :] if "{" in said else said


@pytest.mark.example("functions-hello")
def test_the_hello_page(page: Page) -> None:
    page.deploy()
    ours, cosmos = page.type("curl")
    assert "<h1>Hello from nice/place!</h1>" in ours
    assert ours[ours.find("<!DOCTYPE") :] == cosmos[cosmos.find("<!DOCTYPE") :]
    got = page.live.web.get("/hello")
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert "Hello from the top!" in got.text


@pytest.mark.example("functions-api")
def test_notes_are_kept_and_found(page: Page) -> None:
    page.deploy()
    _, milk, all_of_them, bread = page.type("curl")
    assert '{"text":"two litres","changed":"' in milk
    assert answer(all_of_them) == '{"notes":["milk"]}'
    assert "404 Not Found" in bread
    assert '{"error":"there is no note bread"}' in bread
    web = page.live.web
    assert web.put("/notes/milk", content=b"{").json() == {"error": 'a note is {"text": "…"}'}
    assert web.post("/notes/milk").status_code == 405
    assert web.delete("/notes/milk").status_code == 204
    assert web.get("/notes").json() == {"notes": []}


@pytest.mark.example("functions-fetch")
def test_three_places_are_asked_at_once(page: Page) -> None:
    page.deploy()
    (said,) = page.type("curl")
    assert said.count('"status":200') == 2
    assert said.count('"error":') == 1


@pytest.mark.example("functions-python")
def test_words_are_counted_in_python(page: Page) -> None:
    page.deploy()
    (said,) = page.type("curl")
    assert answer(said) == '{"words":6,"different":4,"top":{"be":2,"to":2}}'
    posted = page.live.web.post("/words", content="Être ou ne pas être, to be".encode())
    assert posted.json()["top"] == {"tre": 2, "be": 1}
    until(lambda: "6 words, run 1 of this sandbox" in page.type("micro functions logs")[0])
    *_, refused = page.type("echo", "micro functions validate")
    assert refused.startswith("broken.py:1:28: yield expressions cannot be used in functions\n")


@pytest.mark.example("functions-orders")
def test_orders_are_summed_up(page: Page) -> None:
    page.deploy()
    page.type("micro events publish")
    page.live.micro("events", "publish", "orders", '{"nobody": 1}')
    until(lambda: answer(page.type("curl")[0]) == '{"ann":42}')
    until(lambda: "ann ordered for 30" in page.type("micro functions logs")[0])
    until(lambda: "no order" in page.type("micro functions logs")[0])


@pytest.mark.example("functions-cron")
def test_a_heart_beats(page: Page) -> None:
    page.deploy()
    shown, _ = page.type("curl", "micro functions logs")
    assert answer(shown).startswith('{"beats":')
    page.commands = [one.replace("*/5 * * * *", "@every 1s") for one in page.commands]
    page.deploy()
    until(lambda: page.live.web.get("/heartbeat").json()["beats"] >= 1)
    until(lambda: "of @every 1s" in page.type("micro functions logs")[0])


@pytest.mark.example("functions-router")
def test_links_are_led_to_by_a_router_from_npm(page: Page) -> None:
    page.deploy()
    made, followed, listed, refused = page.type("curl")
    assert answer(made) == '{"code":"bb83600e","url":"https://example.org/a/long/way"}'
    assert "302 Found" in followed
    assert "location: https://example.org/a/long/way" in followed
    assert answer(listed) == '{"links":["bb83600e"]}'
    assert answer(refused) == '{"error":"say a url"}'
    assert page.live.web.get("/links/none").json() == {"error": "there is no such link"}


@pytest.mark.example("functions-typescript")
def test_lengths_are_converted_in_typescript(page: Page) -> None:
    page.deploy()
    converted, refused = page.type("curl")
    assert answer(converted) == '{"value":50.8,"unit":"mm"}'
    assert "400 Bad Request" in refused
    *_, wrong = page.type("printf", "micro functions validate")
    assert wrong.startswith("broken.ts:1:40: ")
