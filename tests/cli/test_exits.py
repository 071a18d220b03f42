"""Exit codes and the one line on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from microcosmos.base.home import Home
from microcosmos.cli import exits
from microcosmos.cli.commands import COMMANDS

from .conftest import Micro, Platform

NO_SERVER = "micro: no server is running for this MICRO_HOME; start one with `micro server`\n"


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (400, 127),
        (401, 2),
        (403, 2),
        (404, 4),
        (405, 3),
        (408, 1),
        (409, 127),
        (413, 127),
        (418, 127),
        (429, 127),
        (500, 127),
        (503, 4),
        (504, 1),
    ],
)
def test_each_code_of_a_service_has_its_exit_code(micro: Micro, code: int, exit_code: int) -> None:
    result = micro("things", "fail", f"--code={code}")
    assert result.code == exit_code
    assert result.out == ""
    assert result.err.count("\n") == 1


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    "code",
    [
        400,
        404,
        500,
        503,
        504,
    ],
)
def test_the_detail_of_a_service_is_told(micro: Micro, code: int) -> None:
    result = micro("things", "fail", f"--code={code}", "--detail=no such luck")
    assert result.err.startswith("micro: no such luck (trace ")


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["services"], 0),
        (["call", "helloworld", "a.b.c"], 3),
        (["helloworld", "a", "b", "c"], 3),
        (["helloworld", "%"], 3),
        (["call", "nosuch", "call"], 4),
        (["get", "service", "nosuch"], 4),
        (["nosuch"], 4),
        (["call", "helloworld", "nope"], 5),
        (["helloworld", "nope"], 5),
        (["things"], 5),
        (["--nosuch"], 64),
        (["services", "--nosuch"], 64),
        (["services", "extra"], 64),
        (["call"], 64),
        (["call", "helloworld", "call", "{"], 64),
        (["services", "-o", "xml"], 64),
    ],
)
def test_exit_codes_of_the_contract(micro: Micro, words: list[str], exit_code: int) -> None:
    assert micro(*words).code == exit_code


@pytest.mark.parametrize(
    "words",
    [["services"], ["get", "service", "x"], ["call", "a", "b"], ["helloworld"], ["status"]],
)
def test_without_a_server_one_line_says_how_to_start_one(micro: Micro, words: list[str]) -> None:
    result = micro(*words)
    assert (result.code, result.out, result.err) == (4, "", NO_SERVER)


def test_without_a_server_a_mistyped_command_is_still_recognised(micro: Micro) -> None:
    result = micro("servics")
    assert result.code == 4
    assert "did you mean services" in result.err


@pytest.mark.usefixtures("platform")
def test_a_call_that_is_late_exits_1(micro: Micro, platform: Platform, tmp_path: Path) -> None:
    # Nobody accepts on it: the kernel takes the call, and no answer comes.
    import socket

    from .conftest import HELLOWORLD

    lane = platform.home.lanes / "mute.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(lane))
        mute.listen()
        record = platform.record(HELLOWORLD, lane)
        import msgspec

        platform.register(msgspec.structs.replace(record, name="mute"))
        words = ("call", "mute", "Helloworld.Call", "--request_timeout=50ms")
        result = micro(*words)
    assert result.code == 1
    assert "did not answer within 0.05 s" in result.err


def test_an_unexpected_exception_is_one_line(
    micro: Micro, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "env", COMMANDS["env"]._replace(place="no.such.module:x"))
    result = micro("env")
    assert result.code == 128
    assert result.err.startswith("micro: ModuleNotFoundError: No module named 'no'; MICRO_DEBUG=1")
    assert result.err.count("\n") == 1


def test_the_traceback_is_shown_to_who_asks(micro: Micro, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "env", COMMANDS["env"]._replace(place="no.such.module:x"))
    monkeypatch.setenv("MICRO_DEBUG", "1")
    assert "Traceback" in micro("env").err


def test_a_foreign_detail_cannot_break_the_line_or_steer_the_terminal() -> None:
    from microcosmos.base import errors

    line = exits.line_of(errors.BadRequest("x", "a\nb\x1b[31m\rc"))
    assert line == "micro: a b[31m c"


@pytest.mark.usefixtures("platform")
def test_a_reader_that_goes_away_is_no_error_to_speak_of(home: Home) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "microcosmos.cli", "services"]
    ended = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")
