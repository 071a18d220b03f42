"""`micro env`."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

import pytest

from microcosmos.base.home import Home

from .conftest import Micro, Platform


def test_local_is_there_and_selected(micro: Micro) -> None:
    assert micro("env").out == "* local 127.0.0.1:8081\n"


@pytest.mark.usefixtures("platform")
def test_local_follows_the_running_server(micro: Micro) -> None:
    assert micro("env").out == "* local 127.0.0.1:18081\n"


def test_environments_are_added_and_selected_as_in_the_reference(micro: Micro) -> None:
    assert micro("env", "add", "foobar", "example.com").out == ""
    assert micro("env").out == "* local  127.0.0.1:8081\n  foobar example.com\n"
    assert micro("env", "set", "foobar").out == ""
    assert micro("env").out == "  local  127.0.0.1:8081\n* foobar example.com\n"
    assert micro("env", "get").out == "foobar\n"


def test_environments_as_json(micro: Micro) -> None:
    (local,) = json.loads(micro("env", "--output=json").out)
    files = {"ca": "", "cert": "", "key": ""}
    assert local == {"name": "local", "address": "127.0.0.1:8081", "selected": True, **files}


def test_an_added_environment_can_be_deleted(micro: Micro) -> None:
    micro("env", "add", "foobar", "example.com:9000")
    assert micro("env", "del", "foobar").code == 0
    assert micro("env").out == "* local 127.0.0.1:8081\n"


def test_the_selected_environment_cannot_be_deleted(micro: Micro) -> None:
    micro("env", "add", "foobar")
    micro("env", "set", "foobar")
    result = micro("env", "del", "foobar")
    assert result.code == 64
    assert "foobar is selected" in result.err
    assert micro("env", "del", "local").code == 64


@pytest.mark.parametrize("words", [["set", "nosuch"], ["del", "nosuch"]])
def test_an_unknown_environment_is_told_with_those_there_are(
    micro: Micro, words: list[str]
) -> None:
    result = micro("env", *words)
    assert result.code == 64
    assert result.err == "micro: there is no environment 'nosuch'; there are: local\n"


@pytest.mark.parametrize(
    "address",
    ["", "a b", "example.com:0", "example.com:x", "example.com:99999", "ftp://x", "a:1:2", "-x.y"],
)
def test_a_bad_address_is_refused(micro: Micro, address: str) -> None:
    result = micro("env", "add", "foobar", "--", address)
    assert result.code == 64
    assert "is no address" in result.err


@pytest.mark.parametrize("address", ["example.com", "10.0.0.1:1", "[::1]:8081", "https://x.y:444"])
def test_a_good_address_is_kept_as_it_was_typed(micro: Micro, address: str) -> None:
    assert micro("env", "add", "foobar", address).code == 0
    assert f"  foobar {address}\n" in micro("env").out


@pytest.mark.parametrize("name", ["", "a/b", "a b", "local", "x" * 200, "\x1b[31m"])
def test_a_bad_name_is_refused(micro: Micro, name: str) -> None:
    assert micro("env", "add", name, "example.com").code == 64


def test_the_file_is_the_users_alone_and_looks_like_micros(micro: Micro, home: Home) -> None:
    micro("env", "add", "foobar", "example.com")
    file = home.path / "config.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {
        "envs": {"foobar": {"name": "foobar", "proxy_address": "example.com"}}
    }


def test_what_others_keep_in_the_file_stays(micro: Micro, home: Home) -> None:
    (home.path / "config.json").write_text('{"namespaces": {"a": "b"}}')
    micro("env", "add", "foobar", "example.com")
    assert json.loads((home.path / "config.json").read_text())["namespaces"] == {"a": "b"}


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff", '{"env": ' + "[" * 5000])
@pytest.mark.parametrize("words", [["env"], ["services"], ["env", "set", "local"]])
def test_a_damaged_file_is_named(micro: Micro, home: Home, text: str, words: list[str]) -> None:
    file = home.path / "config.json"
    file.write_text(text, errors="surrogateescape")
    result = micro(*words)
    assert result.code == 128
    assert result.err.startswith(f"micro: {file} is damaged (")
    assert file.read_text(errors="surrogateescape") == text


@pytest.mark.parametrize(
    "text", ['{"envs": 1}', '{"envs": {"a": 1}}', '{"env": null}', '{"envs": {"local": {}}}']
)
def test_what_is_no_environment_is_left_out(micro: Micro, home: Home, text: str) -> None:
    (home.path / "config.json").write_text(text)
    assert micro("env").out == "* local 127.0.0.1:8081\n"
    assert micro("env", "add", "foobar", "example.com").code == 0


def test_a_selected_environment_that_is_gone_is_told(micro: Micro, home: Home) -> None:
    (home.path / "config.json").write_text('{"env": "lost"}')
    result = micro("services")
    assert result.code == 64
    assert "there is no environment 'lost'" in result.err


def test_the_flag_and_the_variable_choose(
    micro: Micro, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    micro("env", "add", "foobar", "127.0.0.1:1")
    micro("env", "set", "foobar")
    assert micro("--env=local", "services").code == 0
    monkeypatch.setenv("MICRO_ENV", "local")
    assert micro("services").code == 0
    assert micro("-e", "nosuch", "services").code == 64


@pytest.mark.slow
def test_changes_made_at_once_are_all_kept(micro: Micro, home: Home) -> None:
    names = [f"env{number}" for number in range(6)]
    argv = [sys.executable, "-m", "microcosmos.cli", "env", "add"]
    children = [subprocess.Popen([*argv, name, "example.com"]) for name in names]
    assert [child.wait(60) for child in children] == [0] * len(names)
    kept = json.loads((home.path / "config.json").read_text())["envs"]
    assert sorted(kept) == names
