"""The folder of a platform."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microcosmos.base.home import Home, ServerInfo, indented, write_atomically


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    made.make()
    yield made
    # In a folder of its own, if the path of this test is too long for sockets.
    made.lanes.rmdir()


def _info(pid: int) -> ServerInfo:
    return ServerInfo("1.0", 123.5, {"server": pid}, {"api": "127.0.0.1:8080"})


def test_the_folder_is_said_by_argument_environment_or_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MICRO_HOME", raising=False)
    assert Home().path == tmp_path / ".micro"
    monkeypatch.setenv("MICRO_HOME", "~/other")
    assert Home().path == tmp_path / "other"
    assert Home(tmp_path / "third").path == tmp_path / "third"


def test_the_folders_are_closed_to_other_users(home: Home) -> None:
    for folder in (home.path, home.server, home.lanes, home.logs, home.server / "keys"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_making_the_folders_twice_changes_nothing(home: Home) -> None:
    (home.server / "kept").touch()
    home.make()
    assert (home.server / "kept").exists()


def test_lanes_of_a_short_path_are_in_the_home(tmp_path: Path) -> None:
    assert Home("/tmp/m").lanes == Path("/tmp/m/lanes")


def test_lanes_of_a_long_path_are_in_a_short_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    home, other = Home(long), Home(tmp_path / ("gnol" * 30))
    assert not home.lanes.is_relative_to(home.path)
    assert home.lanes != other.lanes
    assert Home(long).lanes == home.lanes
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert Home(long).lanes == home.lanes, "another session's TMPDIR must not lead elsewhere"


@pytest.mark.parametrize("length", [10, 60, 80, 90, 100, 200])
def test_a_socket_can_be_bound_in_the_lanes_of_any_path(tmp_path: Path, length: int) -> None:
    padding = max(1, length - len(str(tmp_path)))
    home = Home(tmp_path / ("x" * padding))
    home.make()
    try:
        for path in (home.core_lane, home.supervisor_lane, home.lanes / "0123abcd.sock"):
            with socket.socket(socket.AF_UNIX) as line:
                line.bind(str(path))
                assert path.is_socket()
            path.unlink()
    finally:
        home.lanes.rmdir()


def test_a_running_server_is_found(home: Home) -> None:
    assert home.server_info() is None
    home.write_server_info(_info(os.getpid()))
    assert home.server_info() == _info(os.getpid())
    home.forget_server_info()
    assert home.server_info() is None
    home.forget_server_info()


def test_a_server_that_has_died_is_not_found(home: Home) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    home.write_server_info(_info(child.pid))
    assert home.server_info() is None


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"version":"1"}', b"\0" * 100),
        b'{"version":"1","started":1,"pids":{"server":"x"},"addresses":{}}',
        b'{"version":"1","started":1,"pids":{},"addresses":{}}',
        b'{"version":"1","started":1,"pids":{"server":-1},"addresses":{}}',
        b'{"version":"1","started":1,"pids":{"server":99999999999999999999},"addresses":{}}',
        b'{"version":"1","more":' + b"[" * 100_000,
    ],
)
def test_a_damaged_file_means_no_server(home: Home, damage: bytes) -> None:
    (home.server / "server.json").write_bytes(damage)
    assert home.server_info() is None


def test_a_file_that_cannot_be_read_means_no_server(home: Home) -> None:
    (home.server / "server.json").mkdir()
    assert home.server_info() is None


def test_the_servers_file_can_be_read_by_people_and_only_by_its_owner(home: Home) -> None:
    home.write_server_info(_info(7))
    path = home.server / "server.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["addresses"] == {"api": "127.0.0.1:8080"}
    assert path.read_bytes() == indented(_info(7))
    assert path.read_text().startswith("{\n  ")


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new", mode=0o640)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").touch()
    with pytest.raises(OSError):
        write_atomically(folder, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert (folder / "inside").exists()
