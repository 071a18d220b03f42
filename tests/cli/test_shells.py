"""Completion in the real shells: keys are typed at a terminal, and the line is looked at."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from microcosmos.base.home import Home

from .terminal import spawn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*forkpty:DeprecationWarning"),
]

START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--interactive"],
}
# Prints its arguments, and that these were all.
SHOW = """show() { printf '<%s>' "$@"; echo .; }"""
SETUP = {
    "bash": f"{SHOW}; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'",
    "zsh": f"{SHOW}; unsetopt promptsp beep; autoload -U compinit; compinit -D -u",
    "fish": (
        "function show; printf '<%s>' $argv; echo .; end; "
        "set -g fish_autosuggestion_enabled 0; set -g fish_greeting"
    ),
}

Typed = Callable[[str], str]


def script(shell: str) -> str:
    argv = [sys.executable, "-m", "microcosmos.cli", "completion", shell]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.fixture(params=START)
def typed(request: pytest.FixtureRequest, home: Home, tmp_path: Path) -> Iterator[Typed]:
    """The words that a line has, once it was typed; `\t` completes it."""
    shell: str = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "afolder").mkdir()
    (tmp_path / "afile").touch()
    (tmp_path / "script").write_text(script(shell))
    child = spawn(START[shell], HOME=str(tmp_path), SHELL="/bin/sh")
    child.sendline(f"{SETUP[shell]}; cd '{tmp_path}'; . ./script; printf '%s%s\\n' sta rted")
    child.expect_exact("started")

    def run(keys: str) -> str:
        # Ctrl-A goes to the begin of the line: it becomes the arguments of another command.
        child.send(f"{keys}\x01show \r")
        child.expect(r"((<[^<>]+>)+)\.")
        assert "micro:" not in child.before
        assert "rror" not in child.before
        found: str = child.match[1]
        return found

    yield run
    child.close(force=True)


@pytest.mark.usefixtures("platform")
def test_words_flags_values_services_and_folders_are_completed(typed: Typed) -> None:
    assert typed("micro hellow\t") == "<micro><helloworld>"
    assert typed("micro thi\tec\t--address-z\t") == "<micro><things><echo><--address-zip-code>"
    assert typed("micro services --output=js\t") == "<micro><services><--output=json>"
    assert typed("micro logs -f hel\t") == "<micro><logs><-f><helloworld>"
    assert typed("micro --env loc\tuser conf\tge\t") == "<micro><--env><local><user><config><get>"
    # zsh takes the slash back when a blank follows.
    assert typed("micro run afo\t").replace("/>", ">") == "<micro><run><afolder>"


def test_without_a_server_nothing_is_said(typed: Typed) -> None:
    assert typed("micro hellow\t") == "<micro><hellow>"
    assert typed("micro kill x\t") == "<micro><kill><x>"
    assert typed("micro servi\t") == "<micro><services>"


@pytest.mark.parametrize("shell", START)
def test_the_scripts_are_valid(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script(shell))
    subprocess.run([shell, "-n", tmp_path / "script"], check=True)


@pytest.mark.usefixtures("platform")
def test_bash_leaves_what_it_has_split_off(home: Home, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script("bash"))
    child: pexpect.spawn[str] = spawn(START["bash"], HOME=str(tmp_path))
    child.sendline(f"{SETUP['bash']}; . '{tmp_path}/script'; printf '%s%s\\n' sta rted")
    child.expect_exact("started")
    child.send("true && A=1 micro things echo --loud=t\t\x01printf '<%s>' x \r")
    child.expect_exact("<x><true>")
    child.close(force=True)
