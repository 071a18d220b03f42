"""`micro stop`, `micro reset`, `micro nats` where no server runs."""

from __future__ import annotations

import os
import time

import pytest

from microcosmos.auth.logins import LOCAL, Login, Logins
from microcosmos.base.home import Home, ServerInfo

from .conftest import Micro


def test_without_a_server_there_is_nothing_to_stop(micro: Micro) -> None:
    result = micro("stop")
    assert (result.code, result.err) == (4, "micro: no server is running for this MICRO_HOME\n")


def test_a_process_that_took_the_pid_of_a_killed_server_is_left_alone(
    micro: Micro, home: Home
) -> None:
    home.make()
    (home.server / "lock").write_text(f"{os.getpid()}\n")
    # Would end this very test if it were taken for the server.
    home.write_server_info(ServerInfo("0", time.time(), {"server": os.getpid()}, {}))
    assert micro("stop").code == 4


def test_without_a_server_nats_says_how_to_start_one(micro: Micro) -> None:
    assert "start one with `micro server`" in micro("nats").err


def test_reset_removes_the_servers_state_and_keeps_the_users(micro: Micro, home: Home) -> None:
    home.make()
    micro("user", "config", "set", "a", "b")
    login = Login(account="ann", access_token="a", expiry=1.0)
    logins = Logins(home.path / "tokens")
    for environment in (LOCAL, "far.example.com"):
        logins.put(environment, login)
    assert micro("reset", "--yes").code == 0
    assert not home.server.exists()
    assert not home.lanes.exists()
    assert logins.all(LOCAL) == []
    assert logins.all("far.example.com") == [login]
    assert micro("user", "config", "get", "a").out == "b\n"


def test_reset_removes_logins_that_cannot_be_read(micro: Micro, home: Home) -> None:
    home.make()
    (home.path / "tokens").write_text("x")
    assert micro("reset", "--yes").code == 0
    assert not (home.path / "tokens").exists()


def test_reset_of_nothing_is_nothing(micro: Micro) -> None:
    assert micro("reset").code == 0


def test_reset_asks_first(micro: Micro, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    home.make()
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    result = micro("reset")
    assert result.code == 130
    assert result.err.startswith(f"Remove {home.server}, ")
    assert home.server.exists()


def test_a_home_that_cannot_be_made_is_told(micro: Micro) -> None:
    result = micro("--home=/dev/null/x", "server", "--detach")
    assert result.code == 128
    assert result.err.startswith("micro: /dev/null/x cannot be the MICRO_HOME: ")
