"""Addresses, settings, the lock on a home and what a killed server leaves behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.home import Home, ServerInfo
from microcosmos.server import exposure
from microcosmos.server.lock import HomeLock
from microcosmos.server.ports import Address, listen, parse, reserve
from microcosmos.server.recovery import recover
from microcosmos.server.settings import Settings, load


def test_settings_are_flags_over_environment_over_defaults() -> None:
    environ = {"MICRO_API_ADDRESS": "127.0.0.1:1", "MICRO_GATEWAYS": "3", "MICRO_PROFILE": ""}
    settings = load(environ, api_address="127.0.0.1:2", proxy_address=None)
    assert settings.api_address == "127.0.0.1:2"
    assert settings.gateways == 3
    assert settings.proxy_address == Settings().proxy_address
    assert settings.profile == "local"


@pytest.mark.parametrize(
    ("name", "value"), [("gateways", "0"), ("gateways", "many"), ("durability", "none")]
)
def test_a_wrong_setting_names_its_flag_and_variable(name: str, value: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        load({f"MICRO_{name.upper()}": value})
    assert caught.value.detail.startswith(f"--{name} (MICRO_{name.upper()}): ")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:0", "127.0.0.1:0"),
        ("[::1]:80", "[::1]:80"),
        ("127.8.8.8:80", "127.8.8.8:80"),
    ],
)
def test_addresses_are_read(text: str, read: str) -> None:
    assert str(parse(text, "--api_address")) == read


@pytest.mark.parametrize(
    "text", ["", "8080", "127.0.0.1", "127.0.0.1:x", "a.example:80", "::1:99999"]
)
def test_bad_addresses_name_their_flag(text: str) -> None:
    with pytest.raises(errors.BadRequest, match=r"^server\.ports: --api_address: "):
        parse(text, "--api_address")


@pytest.mark.parametrize("text", ["0.0.0.0:80", ":80", "[::]:80", "10.1.2.3:80"])
@pytest.mark.parametrize("door", ["api", "proxy", "web", "nats"])
def test_other_machines_are_kept_out_while_everybody_knows_the_password(
    home: Home, text: str, door: str
) -> None:
    flag = f"--{door}_address"
    doors = [parse("127.0.0.1:0", "--other_address"), parse(text, flag)]
    with pytest.raises(errors.BadRequest, match=rf"^server.exposure: {flag}: .* set password"):
        exposure.check(home, doors, password_said=False)
    # Who starts it says the password, or a core has seen that it is another one.
    exposure.check(home, doors, password_said=True)
    exposure.keep(home, default_stands=False)
    exposure.check(home, doors, password_said=False)
    exposure.keep(home, default_stands=True)
    with pytest.raises(errors.BadRequest):
        exposure.check(home, doors, password_said=False)


def test_this_machine_is_let_in_with_any_password(home: Home) -> None:
    exposure.check(
        home,
        [parse(text, "--api_address") for text in ("127.0.0.1:80", "[::1]:80", "localhost:80")],
        password_said=False,
    )


def test_the_core_decides_once_more_by_the_store() -> None:
    told = exposure.environment([parse("127.0.0.1:1", "--a"), parse("0.0.0.0:2", "--b")])
    assert told == {exposure.EXPOSED: "--b: 0.0.0.0:2"}
    exposure.settle(False, told)
    with pytest.raises(errors.BadRequest, match=r"^server\.exposure: --b: 0\.0\.0\.0:2 is open"):
        exposure.settle(True, told)
    exposure.settle(True, exposure.environment([parse("127.0.0.1:1", "--a")]))


def test_a_port_in_use_names_its_holder_and_the_way_out() -> None:
    with listen(Address("127.0.0.1", 0, "--api_address")) as first:
        port = first.getsockname()[1]
        for take in (listen, reserve):
            with pytest.raises(errors.Conflict) as caught:
                take(Address("127.0.0.1", port, "--proxy_address"))
            said = caught.value.detail
            assert said.startswith(f"port {port} is in use by PID {os.getpid()} (")
            assert said.endswith("); use --proxy_address")


def test_a_port_of_everyone_is_in_use_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(errors.Conflict, match=f"port {port} is in use"):
            listen(Address("127.0.0.1", port, "--api_address"))


def test_a_holder_that_does_not_listen_is_another_process() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(errors.Conflict) as caught:
            listen(Address("127.0.0.1", port, "--api_address"))
    assert caught.value.detail == f"port {port} is in use by another process; use --api_address"


def test_a_port_that_is_not_ours_to_take_is_told() -> None:
    # An address of documents, which no machine has.
    with pytest.raises(errors.BadRequest, match=r"cannot listen on 192\.0\.2\.1:80: .*; use --api"):
        listen(Address("192.0.2.1", 80, "--api_address"))


def test_a_reserved_port_is_free_and_not_one_of_outgoing_connections() -> None:
    chosen = reserve(Address("127.0.0.1", 0, "--proxy_address"))
    assert 20_000 <= chosen.port < 32_000
    listen(chosen).close()


def test_a_lock_is_for_one(home: Home) -> None:
    with HomeLock(home):
        with pytest.raises(errors.Conflict) as caught, HomeLock(home):
            pass
        assert f"{home.path} (PID {os.getpid()})" in caught.value.detail
        assert "micro stop" in caught.value.detail
    with HomeLock(home):
        pass


@pytest.mark.parametrize("content", [b"", b"99999999\n", b"\xff\x00"])
def test_a_stale_or_damaged_lock_file_locks_nobody_out(home: Home, content: bytes) -> None:
    (home.server / "lock").write_bytes(content)
    with HomeLock(home):
        assert (home.server / "lock").read_text() == f"{os.getpid()}\n"


def test_children_do_not_hold_the_lock(home: Home) -> None:
    with HomeLock(home):
        inherited = [n for n in range(3, 256) if _inheritable(n)]
    assert not [n for n in inherited if os.path.realpath(f"/dev/fd/{n}").endswith("/lock")]


def _inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


async def test_stale_sockets_go_and_living_ones_stay(home: Home) -> None:
    stale, living = home.lanes / "stale.sock", home.lanes / "living.sock"
    for path in (stale, living):
        one = socket.socket(socket.AF_UNIX)
        one.bind(str(path))
        if path == stale:
            one.close()
        else:
            one.listen()
            keep = one
    with keep:
        await recover(home)
        assert not stale.exists()
        assert living.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"pids": {"core": -1}}'])
async def test_a_damaged_server_json_is_removed(home: Home, content: bytes) -> None:
    path = home.server / "server.json"
    path.write_bytes(content)
    await recover(home)
    assert not path.exists()


async def test_impossible_pids_are_not_waited_for(home: Home) -> None:
    pids = {"core": -1, "nats": 0, "gateway-1": 2**40, "server": os.getpid()}
    home.write_server_info(ServerInfo("0", 0.0, pids, {}))
    await recover(home)
    assert home.server_info() is None


def test_a_lock_that_cannot_be_made_is_no_traceback(tmp_path: Path, kit: Any) -> None:
    home = Home(tmp_path / "nowhere")
    with pytest.raises(OSError), HomeLock(home):
        pass
