"""Programs ``micro-<word>`` on PATH."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from microcosmos.base.home import Home


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "micro-greet"
    path.write_text('#!/bin/sh\necho "greet:$#:$*"\nexit 7\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "microcosmos.cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("program", "home")
def test_a_program_takes_the_word_with_its_arguments_and_exit_code() -> None:
    ended = run("greet", "a b", "--flag=x", "-h")
    assert (ended.returncode, ended.stdout) == (7, "greet:3:a b --flag=x -h\n")


@pytest.mark.usefixtures("platform")
def test_a_program_goes_before_a_service(program: Path) -> None:
    program.rename(program.with_name("micro-helloworld"))
    assert run("helloworld").stdout == "greet:0:\n"


def test_a_built_in_command_goes_before_a_program(program: Path, home: Home) -> None:
    program.rename(program.with_name("micro-env"))
    assert run("env").stdout == "* local 127.0.0.1:8081\n"


def test_a_word_cannot_lead_out_of_path(program: Path, home: Home, tmp_path: Path) -> None:
    (tmp_path / "micro-x").mkdir()
    assert run("x/../micro-greet").returncode == 4
