"""Commands that listen for long: their token ends, and they go on with the next one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .live import Live, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIFETIME = 2.0


@pytest.fixture
def short() -> Iterator[Live]:
    """A server, and a login there whose token ends long before the command line expects it."""
    server = Live("--gateways=1")
    try:
        server.start()
        server.micro("login", "--username=admin", "--password=micro")
        yield server
    finally:
        server.close()


def shorten(live: Live) -> float:
    """Replace the token of the login by one that ends soon, and say when."""
    asked = {"id": "admin", "secret": "micro", "token_expiry": LIFETIME}
    token = live.micro("call", "auth", "Auth.Token", json.dumps(asked)).json["token"]
    file = live.home.path / "tokens"
    kept = json.loads(file.read_text())
    (login,) = kept["local"]["logins"].values()
    login.update(access_token=token["access_token"], refresh_token=token["refresh_token"])
    file.write_text(json.dumps(kept))
    return time.time() + LIFETIME


def test_a_listener_outlives_its_token(short: Live) -> None:
    ends = shorten(short)
    words = [
        ("broker", "subscribe", "t", "--limit=1"),
        ("events", "consume", "t", "--limit=2", "--offset=beginning"),
        ("events", "consume", "t", "--limit=2", "--offset=beginning", "--group=g"),
    ]
    listening = [short.typing(*each) for each in words]
    short.micro("events", "publish", "t", "1")
    until(lambda: time.time() > ends + 1)
    assert [one.poll() for one in listening] == [None, None, None]
    short.micro("events", "publish", "t", "2")
    for one in listening[1:]:
        said = short.ended(one)
        assert [json.loads(line)["payload"] for line in said.lines] == [1, 2]

    def heard() -> bool:
        short.micro("broker", "publish", "t", "3")
        return listening[0].poll() is not None

    until(heard)
    assert json.loads(short.ended(listening[0]).lines[-1])["body"] == 3


def test_whose_account_is_deleted_listens_no_more(short: Live, tmp_path: Path) -> None:
    far = {"MICRO_HOME": str(tmp_path)}
    short.micro("auth", "create", "account", "--scopes=service", "--secret=jane's own", "jane")
    short.micro("env", "add", "far", short.info.addresses["proxy"], **far)
    short.micro("env", "set", "far", **far)
    short.micro("login", "--username=jane", "--password=jane's own", **far)
    listening = [
        short.typing("broker", "subscribe", "t", "--limit=1", **far),
        short.typing("events", "consume", "t", "--group=g", **far),
    ]
    until(lambda: "g" in short.micro("events", "groups").out)
    short.micro("auth", "delete", "account", "jane")
    for one in listening:
        said = short.ended(one)
        assert said.code == 2
        assert said.err.splitlines()[-1].startswith("micro: ")
