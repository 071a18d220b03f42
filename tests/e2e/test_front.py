"""The policies of a whole server: its file, its gateways together, what outlives them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from .live import NO_AUTHORITIES, Live, once_within, until

pytestmark = pytest.mark.e2e

LIMIT = "[[limits]]\nquota = '40/day'\nservice = 'registry'\n"


@pytest.fixture
def server(another: Callable[..., Live]) -> Live:
    return another("--gateways=2")


def _settings(server: Live) -> Path:
    return server.home.path / "gateway.toml"


def _statuses(server: Live, times: int) -> list[int]:
    """Of requests on connections of their own, so that both gateways answer."""
    url = f"{server.url}/registry/listServices"
    plainly = {"timeout": 60, "trust_env": False, "verify": NO_AUTHORITIES}
    return [httpx.get(url, **plainly).status_code for _ in range(times)]


def test_a_quota_holds_for_the_whole_server_and_over_its_restart(server: Live) -> None:
    _settings(server).write_text(LIMIT)
    server.start()
    assert _statuses(server, 30) == [200] * 30
    for name in ("gateway-1", "gateway-2"):
        server.back(name, server.kill_child(name))
    server.kill()
    server.start()
    assert _statuses(server, 30).count(200) == 10


def test_the_file_is_followed_by_every_gateway(server: Live) -> None:
    server.start()
    assert set(_statuses(server, 10)) == {200}
    _settings(server).write_text("[block]\naddresses = ['127.0.0.1']\n")
    # Both, which requests do not show: they may all have come to one of them.
    until(lambda: all("the settings are taken" in _log(server, n) for n in (1, 2)))
    assert set(_statuses(server, 20)) == {403}
    _settings(server).write_text("[[block]\n")
    until(lambda: all("the settings before that hold" in _log(server, n) for n in (1, 2)))
    assert set(_statuses(server, 20)) == {403}
    # A gateway that starts now has the settings that were good.
    server.back("gateway-1", server.kill_child("gateway-1"))
    until(lambda: _log(server, 1).count("the settings before that hold") == 2)
    assert set(_statuses(server, 20)) == {403}
    _settings(server).unlink()
    until(lambda: set(_statuses(server, 20)) == {200})


def _log(server: Live, number: int) -> str:
    return (server.home.logs / f"gateway-{number}.log").read_text()


def test_the_block_list_of_the_core_acts_on_every_gateway_within_a_second(server: Live) -> None:
    server.start()

    def blocked() -> float:
        server.micro("api", "removeFromBlockList", "--id=127.0.0.1")
        until(lambda: set(_statuses(server, 20)) == {200})
        server.micro("api", "addToBlockList", "--id=127.0.0.1")
        began = time.monotonic()
        until(lambda: set(_statuses(server, 20)) == {403})
        return time.monotonic() - began

    once_within(1, blocked)
    assert server.micro("api", "readBlockList").json == {"ids": ["127.0.0.1"]}
    # It is kept: by the store over the end of the core, by the gateways meanwhile.
    server.kill_child("core")
    assert set(_statuses(server, 20)) == {403}
    server.kill()
    server.start()
    until(lambda: set(_statuses(server, 20)) == {403})
    server.micro("api", "removeFromBlockList", "--id=127.0.0.1")
    until(lambda: set(_statuses(server, 20)) == {200})


def test_a_bad_file_is_refused_in_one_line(server: Live) -> None:
    _settings(server).write_text("[[limits]]\nrate = 'fast'\n")
    wrong = "gateway.toml: limits[0].rate: 'fast' is no rate like 100/s, 60/m, 1000/h or 10000/day"
    assert server.refused(64, "server").endswith(wrong)
    line = server.refused(64, "server", f"--api_config={server.work}/no.toml")
    assert line.endswith("no.toml: No such file or directory")


def test_the_file_may_be_another(server: Live) -> None:
    other = server.work / "other.toml"
    other.write_text("[block]\naddresses = ['127.0.0.1']\n")
    server.flags = (*server.flags, f"--api_config={other}")
    server.start()
    assert set(_statuses(server, 10)) == {403}
    other.unlink()
    until(lambda: "No such file" in _log(server, 1))
    assert set(_statuses(server, 10)) == {403}
