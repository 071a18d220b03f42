"""Messages through a real server: between services, from every door, in one namespace each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from .live import Live, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MAILER = """
from microcosmos import Service, current, errors
from microcosmos.broker import Message

mailer = Service("mailer")
seen = []


@mailer.subscribe("users.*", queue="mailer")
async def mail(user: dict[str, str], message: Message) -> None:
    if user["name"] == "Bad":
        raise errors.Conflict("mail", "no post for Bad")
    seen.append({"name": user["name"], "topic": message.topic, "trace": current().trace})


@mailer.endpoint
async def call() -> list[dict[str, str]]:
    return seen


mailer.run()
"""

USERS = """
from microcosmos import Service

users = Service("users")


@users.endpoint
async def create(name: str) -> None:
    await users.broker.publish("users.created", {"name": name})


users.run()
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Live]:
    """A server with a publisher and a subscriber, and the subscriber in another namespace too."""
    server = Live("--gateways=1")
    try:
        server.start()
        server.micro("auth", "create", "namespace", "staging")
        mailer, users = server.folder("mailer", MAILER), server.folder("users", USERS)
        server.micro("run", str(mailer))
        server.micro("run", str(users))
        server.micro("--namespace", "staging", "run", str(mailer))
        yield server
    finally:
        server.close()


def mailed(site: Live, namespace: str = "micro") -> list[str]:
    seen: Any = site.micro("--namespace", namespace, "mailer").json
    return [one["name"] for one in seen]


def test_a_service_hears_what_another_publishes(site: Live) -> None:
    site.micro("users", "create", "--name=Ann")
    until(lambda: "Ann" in mailed(site))


def test_a_failure_is_in_both_logs_under_the_trace_of_the_message(site: Live) -> None:
    site.micro("users", "create", "--name=Bad")
    told = "subscriber mailer.mail of users.created failed: no post for Bad"
    until(lambda: told in site.micro("logs", "users").out)
    (line,) = [line for line in site.micro("logs", "users").lines if told in line]
    trace = line.rpartition("trace=")[2]
    assert trace in site.micro("logs", "mailer").out


def test_every_door_publishes(site: Live) -> None:
    site.micro("broker", "publish", "users.cli", '{"name": "by the command line"}')
    body = base64.b64encode(b'{"name": "by HTTP"}').decode()
    request = {"topic": "users.http", "message": {"header": {}, "body": body}}
    assert site.admin.post("/broker/publish", json=request).json() == {}
    assert site.web.post("/broker/publish", json=request).status_code == 401
    until(lambda: {"by the command line", "by HTTP"} <= {*mailed(site)})


def test_the_command_line_listens(site: Live) -> None:
    typed = site.typing("broker", "subscribe", "news.>", "--limit", "2")
    try:
        # Nobody says when it has begun to listen: so it is told again until it has heard.
        while typed.poll() is None:
            site.micro("broker", "publish", "news.today", '"rain"', "-H", "foobar=1")
        said = site.ended(typed)
    finally:
        typed.kill()
    assert said.code == 0
    for line in said.lines:
        message = json.loads(line)
        assert (message["topic"], message["body"]) == ("news.today", "rain")
        assert message["headers"]["Foobar"] == "1"


def test_namespaces_hear_nothing_of_each_other(site: Live) -> None:
    site.micro("--namespace", "staging", "broker", "publish", "users.x", '{"name": "staged"}')
    site.micro("broker", "publish", "users.x", '{"name": "not staged"}')
    until(lambda: "staged" in mailed(site, "staging"))
    until(lambda: "not staged" in mailed(site))
    assert mailed(site, "staging") == ["staged"]
    assert "staged" not in mailed(site)


def test_who_may_not(site: Live) -> None:
    site.micro("auth", "create", "account", "ann", "--secret=s3cret-s3")
    login = {"id": "ann", "secret": "s3cret-s3", "options": {"namespace": "micro"}}
    token = site.web.post("/auth/token", json=login).json()["token"]["access_token"]
    ann = {"Authorization": f"Bearer {token}"}
    request = {"topic": "users.http", "message": {"body": "e30="}}
    refused = site.web.post("/broker/publish", json=request, headers=ann)
    assert refused.status_code == 403
    assert "ann may not publish" in refused.json()["Detail"]
    refused = site.web.post("/broker/publish", json={"topic": "a b"}, headers=ann)
    assert refused.status_code == 400


def test_services_do_not_notice_a_core_that_dies(site: Live) -> None:
    before = site.kill_child("core")
    site.back("core", before)
    until(lambda: site.type("users", "create", "--name=Zoe").code == 0)
    until(lambda: "Zoe" in mailed(site))
