"""`micro cli`: at a real terminal, and as the reader of a script."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pexpect
import pytest

from microcosmos.base.home import Home
from microcosmos.cli.history import LINES, FileHistory, holds_secret
from microcosmos.cli.prompt import Lines

from .conftest import HELLOWORLD, Platform
from .terminal import spawn

MICRO = [sys.executable, "-m", "microcosmos.cli"]
# The prompt as it is drawn, until the cursor is shown behind it.
READY = r"micro>[^\n]*?\x1b\[\?12l\x1b\[\?25h"

at_a_terminal = pytest.mark.filterwarnings("ignore:.*forkpty:DeprecationWarning")


class Prompt:
    def __init__(self, *words: str) -> None:
        self.child = spawn([*MICRO, *words, "cli"])
        self.child.expect(READY)

    def __call__(self, line: str) -> str:
        self.child.send(f"{line}\r")
        # The editor goes to the begin of the next line, and the command's output follows.
        self.child.expect_exact("\x1b[?2004l")
        self.child.expect(READY)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.child.before or "").replace("\r", "")

    def leave(self, keys: str) -> int:
        self.child.send(keys)
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus or 0)


@pytest.fixture
def prompt(home: Home) -> Iterator[Prompt]:
    opened = Prompt()
    yield opened
    opened.child.close(force=True)


@at_a_terminal
@pytest.mark.slow
@pytest.mark.usefixtures("platform")
def test_commands_are_run_one_after_the_other(prompt: Prompt, home: Home) -> None:
    assert prompt("services") == "helloworld\nregistry\nthings\n"
    assert prompt('helloworld --name "Ann  B"') == '{\n  "msg": "Hello Ann  B"\n}\n'
    assert prompt("micro helloworld --name=x") == '{\n  "msg": "Hello x"\n}\n'
    assert prompt("nosuch").endswith("\n(exit code 4)\n")
    assert prompt("call 'x").startswith("micro: no closing quotation")
    assert prompt("   ") == ""
    assert "List the services" in prompt("help")
    assert prompt("help user config").startswith("NAME:\n    micro user config - ")
    assert "this is the prompt already" in prompt("cli")
    assert prompt.leave("exit\r") == 64


@at_a_terminal
@pytest.mark.slow
@pytest.mark.usefixtures("platform")
def test_keys_complete_recall_cancel_and_leave(prompt: Prompt, home: Home) -> None:
    for keys, added in (("hellow\t", "orld"), (" --na\t", "me")):
        prompt.child.send(keys)
        prompt.child.expect_exact(added)
    assert "Hello tab" in prompt("=tab")
    assert "Hello tab" in prompt("\x1b[A")
    prompt.child.send("something\x03")
    # The line that is given up is drawn once more before the editor leaves it.
    prompt.child.expect_exact("\x1b[?2004l")
    prompt.child.expect(READY)
    # The cursor moves within a line, and words are deleted.
    assert "Hello quick" in prompt("nosuch\x17helloworld --name=qck\x1b[D\x1b[Dui\x05")
    assert prompt.leave("\x04") == 0
    kept = (home.path / "cli_history").read_text().splitlines()
    assert kept == ["helloworld --name=tab", "helloworld --name=quick"]


@at_a_terminal
@pytest.mark.slow
def test_ctrl_c_ends_a_command_and_not_the_prompt(
    prompt: Prompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt.leave("\x04")
    # A program on PATH has the terminal to itself: it is not this process that it replaces.
    program = tmp_path / "micro-wait"
    program.write_text("#!/bin/sh\ntrap 'echo stopped; exit 7' INT\necho waits\nread -r line\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    again = Prompt()
    again.child.send("wait\r")
    again.child.expect_exact("waits")
    again.child.send("\x03")
    again.child.expect_exact("stopped")
    again.child.expect_exact("(exit code 7)")
    again.child.expect(READY)
    assert again.leave("\x04") == 7


@at_a_terminal
@pytest.mark.slow
@pytest.mark.usefixtures("platform")
def test_nothing_of_a_line_is_left_for_the_next(home: Home) -> None:
    prompt = Prompt("--namespace=other")
    assert prompt("--namespace=micro services") == "helloworld\nregistry\nthings\n"
    assert prompt("services") == ""
    assert "x y" in prompt("env add far 'x y'")
    assert prompt("--env=nosuch services").startswith("micro: there is no environment 'nosuch'")
    assert prompt("env") == "* local 127.0.0.1:18081\n"
    assert prompt.leave("\x04") == 0


@at_a_terminal
@pytest.mark.slow
def test_ctrl_c_ends_a_call_that_is_under_way(prompt: Prompt, platform: Platform) -> None:
    lane = platform.home.lanes / "mute.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(lane))
        mute.listen()
        mute.settimeout(20)
        platform.register(msgspec.structs.replace(platform.record(HELLOWORLD, lane), name="mute"))
        prompt.child.send("call mute Helloworld.Call --request_timeout=1h\r")
        line, _ = mute.accept()
        with line:
            assert line.recv(60)
            prompt.child.send("\x03")
            prompt.child.expect_exact("(exit code 130)")
            prompt.child.expect(READY)
    assert prompt("services") == "helloworld\nmute\nregistry\nthings\n"


def script(text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MICRO, *words, "cli"], input=text, capture_output=True, text=True)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("text", "code", "out"),
    [
        ("services\n", 0, "helloworld\nregistry\nthings\n"),
        ("nosuch\nenv get\n", 0, "local\n"),
        ("env get\nnosuch", 4, "local\n"),
        ("env get # a comment\n# another\n\n", 0, "local\n"),
        ("exit 7\nenv get\n", 7, ""),
        ("nosuch\nquit\n", 4, ""),
        ("exit x\n", 64, ""),
        ("call '\n", 64, ""),
        ("", 0, ""),
    ],
)
def test_a_script_ends_with_its_last_code(text: str, code: int, out: str) -> None:
    ended = script(text)
    assert (ended.returncode, ended.stdout) == (code, out)
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == ended.stderr.count("micro: ")


@pytest.mark.slow
@pytest.mark.usefixtures("platform")
def test_a_command_takes_no_new_process(capfd: pytest.CaptureFixture[str]) -> None:
    lines = Lines()

    def once() -> float:
        began = time.perf_counter()
        assert lines.run("services")
        return time.perf_counter() - began

    once()
    assert min(once() for _ in range(5)) < 0.03
    assert lines.code == 0


def test_a_command_that_exits_or_changes_variables_changes_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def leaves(*_: object) -> int:
        os.environ["MICRO_ENV"] = "far"
        sys.exit(3)

    monkeypatch.setattr("microcosmos.cli.main.run", leaves)
    lines = Lines()
    assert lines.run("services")
    assert lines.code == 3
    assert "MICRO_ENV" not in os.environ


# The history.


@pytest.mark.parametrize(
    "line",
    [
        "login --username ann --password hunter2",
        "auth create account --secret=x jane",
        "auth update secret --old-secret a --new_secret b",
        "run . --env_vars API_KEY=x",
        "run https://ann:pw@example.com/a",
        'call auth Auth.Token \'{"token": "x"}\'',
        "config set -s key value",
    ],
)
def test_a_line_with_a_secret_is_not_kept(line: str, tmp_path: Path) -> None:
    assert holds_secret(line)
    history = FileHistory(tmp_path / "history")
    history.append_string(line)
    history.append_string("services")
    assert (tmp_path / "history").read_text() == "services\n"
    # The prompt itself still has it, until it ends.
    assert list(history.get_strings()) == [line, "services"]


@pytest.mark.parametrize("line", ["services", "run github.com/ann/greeter@main", "config set a b"])
def test_other_lines_are(line: str) -> None:
    assert not holds_secret(line)


def test_the_history_is_private_and_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "home" / "history"
    FileHistory(path).append_string("one\ntwo")
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("".join(f"line {number}\n" for number in range(LINES + 5)))
    path.chmod(0o644)
    history = FileHistory(path)
    assert next(iter(history.load_history_strings())) == f"line {LINES + 4}"
    history.append_string("last")
    kept = path.read_text().splitlines()
    assert (kept[0], kept[-1], len(kept)) == ("line 5", "last", LINES + 1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_home_that_cannot_be_written_keeps_no_history() -> None:
    history = FileHistory(Path("/dev/null/history"))
    history.append_string("services")
    assert list(FileHistory(Path("/dev/null/history")).load_history_strings()) == []
