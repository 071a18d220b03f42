"""What is offered to complete a command line, as a shell's script is told it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from microcosmos.base.home import Home
from microcosmos.cli import candidates
from microcosmos.cli.commands import COMMANDS
from microcosmos.cli.completion import answer, split
from microcosmos.cli.main import micro as root

from .conftest import Micro, Platform

Complete = Callable[[str], dict[str, str]]


@pytest.fixture
def complete(
    home: Home, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Complete:
    """The candidates for a line, each with what is said of it; nothing else may be printed."""

    def run(line: str) -> dict[str, str]:
        monkeypatch.setenv("COMP_LINE", line)
        capfd.readouterr()
        assert answer(root) == 0
        said = capfd.readouterr()
        assert said.err == ""
        rows = [row.split("\t") for row in said.out.splitlines()]
        return {value if kind == "plain" else f"<{kind}>": about for kind, value, about in rows}

    return run


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("micro auth l", ["list"]),
        ("micro auth list ", ["accounts", "namespaces", "rules"]),
        ("micro auth delete rule ", ["default"]),
        ("micro auth delete account ", ["admin"]),
        ("micro auth delete namespace ", ["micro"]),
        ("micro auth update secret a", ["admin"]),
        ("micro auth why a", ["admin"]),
        ("micro auth why admin hello", ["helloworld"]),
        ("micro auth why admin helloworld ", ["Helloworld.Call"]),
        ("micro user namespace set ", ["micro"]),
        ("micro --namespace m", ["micro"]),
        ("micro auth create rule --access ", ["granted", "denied"]),
        ("micro auth create account --sc", ["--scopes"]),
        ("micro log", ["login", "logout", "logs"]),
    ],
)
def test_what_auth_knows_is_offered(complete: Complete, line: str, offered: list[str]) -> None:
    assert list(complete(line)) == offered


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("micro serv", ["server", "services"]),
        ("micro hel", ["help", "helloworld"]),
        ("micro user conf", ["config"]),
        ("micro user config ", ["delete", "get", "set"]),
        ("micro services --o", ["--output"]),
        ("micro services ", ["--output", "--help"]),
        ("micro server --nats-a", ["--nats-address"]),
        ("micro server --nats_a", ["--nats_address"]),
        ("micro services --output ", ["table", "json"]),
        ("micro services --output=j", ["--output=json"]),
        ("micro services -o j", ["json"]),
        ("micro --env ", ["local"]),
        ("micro --profile t", ["test"]),
        ("micro --env=local env s", ["set"]),
        ("micro call ", ["helloworld", "registry", "things"]),
        ("micro call things Ot", ["Other.Thing"]),
        ("micro call things Ec", ["Echo"]),
        ("micro call helloworld ", ["Helloworld.Call"]),
        ("micro call helloworld Helloworld.Call ", []),
        ("micro get service th", ["things"]),
        ("micro helloworld ", ["call"]),
        ("micro helloworld --", ["--name", "--help"]),
        ("micro helloworld call --n", ["--name"]),
        ("micro helloworld --name=x --", ["--help"]),
        ("micro things o", ["other"]),
        ("micro things other ", ["thing"]),
        ("micro things echo --address-", ["--address-street", "--address-zip-code"]),
        ("micro things echo --address_zip-", ["--address_zip-code"]),
        ("micro things echo --loud=", ["--loud=true", "--loud=false"]),
        ("micro things echo --loud t", ["true"]),
        ("micro things echo --text ", []),
        ("micro things echo --output ", ["json"]),
        ("micro kill ", ["broken", "helloworld"]),
        ("micro logs h", ["helloworld"]),
        ("micro logs -f h", ["helloworld"]),
        ("micro status b", ["broken"]),
        ("micro update b", ["broken", "<dir>"]),
        ("micro run hello", ["helloworld", "<dir>"]),
        ("micro --home ", ["<dir>"]),
        ("micro env set ", ["local"]),
        ("micro completion ", ["bash", "zsh", "fish"]),
        ("micro help user c", ["config"]),
        ("micro help things e", ["echo"]),
        ("A=1 B=2 micro serv", ["server", "services"]),
        ("micro 'serv", ["server", "services"]),
        ("micro nosuch ", []),
        ("micro helloworld nosuch --", ["--help"]),
        ("micro --nosuch serv", ["server", "services"]),
        ("micro --env nosuch helloworld --n", []),
        ("micro", []),
    ],
)
def test_what_can_follow_is_offered(complete: Complete, line: str, offered: list[str]) -> None:
    assert sorted(complete(line)) == sorted(offered)


@pytest.mark.usefixtures("platform")
def test_first_words_are_commands_programs_and_services(
    complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "micro-greet").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"/no/such/folder{os.pathsep}{tmp_path}")
    assert complete("micro ") == {
        **{word: entry.about for word, entry in COMMANDS.items()},
        **dict.fromkeys(("helloworld", "registry", "things"), "a service"),
        "greet": "a program on PATH",
    }
    assert list(complete("micro greet x")) == ["<file>"]


def test_settings_and_environments_are_known_without_a_server(
    complete: Complete, micro: Micro
) -> None:
    micro("user", "config", "set", "git.baseurl", "x")
    micro("env", "add", "far", "example.com")
    assert list(complete("micro user config get g")) == ["git.baseurl"]
    assert complete("micro env set f") == {"far": "example.com"}
    # Nobody is asked who is far away: that would take too long.
    assert complete("micro --env far call ") == {}


@pytest.mark.usefixtures("platform")
def test_what_a_service_says_of_itself_is_shown(complete: Complete) -> None:
    assert complete("micro helloworld c") == {"call": "Say hello."}


@pytest.mark.parametrize("line", ["micro helloworld --", "micro kill ", "micro call ", "micro hel"])
def test_without_a_server_only_what_is_here_is_offered(complete: Complete, line: str) -> None:
    assert set(complete(line)) <= {"help", "--help"}


def test_a_damaged_file_of_settings_offers_nothing(complete: Complete, home: Home) -> None:
    (home.path / "config.json").write_text("{")
    assert complete("micro env set ") == {}


def test_a_server_that_does_not_answer_is_not_waited_for(
    complete: Complete, platform: Platform
) -> None:
    # Nobody accepts on it: the kernel takes the call, and no answer comes.
    platform.home.core_lane.unlink()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(platform.home.core_lane))
        mute.listen()
        began = time.perf_counter()
        assert list(complete("micro hel")) == ["help"]
        assert time.perf_counter() - began < 60


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("micro", ["micro"]),
        ("micro ", ["micro", ""]),
        ("micro a  b", ["micro", "a", "b"]),
        ("micro 'a b", ["micro", "a b"]),
        ("micro 'a b ", ["micro", "a b "]),
        ('micro "a b" c\\ ', ["micro", "a b", "c "]),
        ("micro a#b", ["micro", "a#b"]),
    ],
)
def test_a_line_is_split_as_a_shell_does(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_every_source_belongs_to_a_parameter() -> None:
    for path, parameter in candidates._SOURCES:
        ctx = click.Context(root)
        command: click.Command = root
        for word in path.split():
            assert isinstance(command, click.Group)
            found = command.get_command(ctx, word)
            assert found is not None
            command = found
        assert parameter in {one.name for one in command.params}, path


@pytest.mark.slow
@pytest.mark.usefixtures("platform")
def test_a_completion_imports_nothing_heavy() -> None:
    variables = {**os.environ, "_MICRO_COMPLETE": "bash", "COMP_LINE": "micro hel"}
    argv = [sys.executable, "-Ximporttime", "-m", "microcosmos.cli"]
    ended = subprocess.run(argv, env=variables, capture_output=True, text=True, check=True)
    assert "helloworld" in ended.stdout
    told = ended.stderr
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert loaded.isdisjoint({"asyncio", "nats", "grpc", "importlib.metadata", "prompt_toolkit"})
