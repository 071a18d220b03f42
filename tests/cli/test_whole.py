"""The commands of a whole platform: a real server, started and stopped by the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FREE = ("--api_address=127.0.0.1:0", "--proxy_address=127.0.0.1:0", "--web_address=127.0.0.1:0")


class Shell:
    """Types commands for one MICRO_HOME."""

    def __init__(self, home: Path) -> None:
        self.home = home
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MICRO_")}
        self.environment = {**clean, "MICRO_HOME": str(home)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "microcosmos.cli", *words],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, code: int = 0) -> str:
        """What a command prints, on stderr when it is meant to fail."""
        child = self.start(*words)
        out, err = child.communicate(timeout=120)
        assert child.returncode == code, out + err
        return err if code else out

    def addresses(self) -> dict[str, str]:
        text = (self.home / "server" / "server.json").read_text()
        found: dict[str, str] = json.loads(text)["addresses"]
        return found


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """A shell with a server that runs."""
    home = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
    typed = Shell(home)
    said = typed("server", "--detach", *FREE)
    assert re.search(r"^api +http://127\.0\.0\.1:\d+$", said, re.MULTILINE)
    yield typed
    typed("stop")
    assert not (home / "server" / "server.json").exists()
    typed("reset", "--yes")
    assert not (home / "server").exists()
    shutil.rmtree(home)


@pytest.fixture
def folder(shell: Shell) -> Iterator[Path]:
    """A new service, where the shell is."""
    shell("new", "service", "greeter")
    yield shell.home / "greeter"
    shutil.rmtree(shell.home / "greeter")
    shell("kill", "greeter", code=4)


def test_helloworld_as_the_reference_runs_it(shell: Shell) -> None:
    api = shell.addresses()["api"]
    assert shell("run", "helloworld").splitlines() == [
        f"helloworld is running at http://{api}/helloworld",
        f"curl 'http://{api}/helloworld/call?name=John'",
        "micro helloworld --name=John",
    ]
    heading, row = shell("status").splitlines()
    assert heading.split() == [
        "NAME",
        "VERSION",
        "SOURCE",
        "STATUS",
        "BUILD",
        "UPDATED",
        "METADATA",
    ]
    pattern = (
        r"helloworld +latest +examples/helloworld +running +n/a +\d+s ago +owner=admin, group=micro"
    )
    assert re.fullmatch(pattern, row)
    assert "helloworld" in shell("services").splitlines()
    assert shell("helloworld", "--name=John") == '{\n  "msg": "Hello John"\n}\n'
    with urllib.request.urlopen(f"http://{api}/helloworld/call?name=Joe") as answer:
        assert answer.read() == b'{"msg":"Hello Joe"}'
    assert "helloworld answers" in shell("logs", "helloworld")
    taken = shell("run", "helloworld", code=127)
    assert "update it with micro update, replace it with --force" in taken
    assert shell("kill", "helloworld") == ""
    assert shell("status") == ""
    assert "micro status lists what is" in shell("kill", "helloworld", code=4)


def test_a_new_service_runs_and_is_updated_from_its_folder(shell: Shell, folder: Path) -> None:
    shell("run", "./greeter", "-i", "2", "--metadata", "team=a", "--env_vars", "A=1,B=2")
    assert json.loads(shell("greeter", "--name=x")) == {"msg": "Hello x"}
    (status,) = json.loads(shell("status", "greeter", "-o", "json"))
    assert status["metadata"] == {"team": "a", "owner": "admin", "group": "micro"}
    main = folder / "main.py"
    main.write_text(main.read_text().replace("Hello", "Good morning"))
    shell("update", "./greeter")
    assert json.loads(shell("greeter")) == {"msg": "Good morning World"}
    shell("kill", "./greeter")


def test_a_service_that_does_not_start_ends_with_its_last_lines(shell: Shell, folder: Path) -> None:
    (folder / "main.py").write_text("import nosuchmodule\n")
    said = shell("run", "./greeter", code=127).splitlines()
    assert said[-2] == "ModuleNotFoundError: No module named 'nosuchmodule'"
    assert said[-1].startswith("micro: ModuleNotFoundError: No module named 'nosuchmodule' (trace ")
    assert "error=ModuleNotFoundError" in shell("status", "greeter")
    shell("kill", "greeter")


def test_a_folder_without_an_entry_is_refused_before_it_is_uploaded(shell: Shell) -> None:
    empty = shell.home / "empty"
    empty.mkdir()
    said = shell("run", "./empty", code=127)
    assert said.startswith("micro: no entry: found nothing; add a main.py")
    assert said.endswith("or say what to start with --command\n")


def test_a_folder_larger_than_a_call_arrives_whole(shell: Shell, folder: Path) -> None:
    (folder / "data").write_bytes(os.urandom(9 * 1024 * 1024))
    main = folder / "main.py"
    reads = "f\"{len(open('data', 'rb').read())}\""
    main.write_text(main.read_text().replace('f"Hello {name}"', reads))
    shell("run", "./greeter")
    assert json.loads(shell("greeter")) == {"msg": "9437184"}
    shell("kill", "greeter")


def test_logs_are_followed_until_ctrl_c(shell: Shell, folder: Path) -> None:
    shell("run", "./greeter")
    following = shell.start("logs", "-f", "greeter")
    assert following.stdout is not None
    assert "greeter answers" in following.stdout.readline()
    shell("update", "./greeter")
    assert "greeter answers" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=60)
    assert (following.returncode, err) == (130, ""), out
    shell("kill", "greeter")


def test_a_watched_folder_is_deployed_when_it_changes(shell: Shell, folder: Path) -> None:
    watching = shell.start("run", "--watch", "./greeter", "-o", "json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["status"] == "running"
    main = folder / "main.py"
    text = main.read_text()
    told: list[str] = []
    # The watch may begin a moment after the first line: each try is another change.
    reader = threading.Thread(target=lambda: told.append(watching.stdout.readline()))  # type: ignore[union-attr]
    reader.start()
    for number in range(100):
        main.write_text(text.replace("Hello", f"Hi {number}"))
        reader.join(0.3)
        if not reader.is_alive():
            break
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (130, "")
    assert json.loads(told[0])["status"] == "running"
    assert shell("greeter").startswith('{\n  "msg": "Hi ')
    shell("kill", "greeter")


def test_another_environment_is_reached_through_its_proxy(shell: Shell) -> None:
    shell("env", "add", "far", f"http://{shell.addresses()['proxy']}")
    shell("--env=far", "login", "--username=admin", "--password=micro")
    shell("--env=far", "run", "helloworld")
    assert json.loads(shell("--env=far", "helloworld", "--name=far")) == {"msg": "Hello far"}
    assert "helloworld" in shell("-e", "far", "services")
    assert "has no endpoint" in shell("-e", "far", "helloworld", "nope", code=5)
    shell("-e", "far", "kill", "helloworld")
    shell("env", "add", "dead", "127.0.0.1:1")
    assert "cannot be reached" in shell("-e", "dead", "services", code=4)


def test_nats_tells_how_to_connect(shell: Shell) -> None:
    told = json.loads(shell("nats", "-o", "json"))
    assert told["url"] == f"nats://{shell.addresses()['nats']}"
    assert Path(told["credentials"]).is_file()
    assert shell("nats").splitlines()[-1] == (
        f"nats context add micro --server {told['url']} --creds {told['credentials']} --select"
    )


@pytest.mark.parametrize("words", [["server"], ["server", "--detach"]])
def test_a_second_server_on_the_home_is_refused(shell: Shell, words: list[str]) -> None:
    said = shell(*words, *FREE, code=127)
    assert said.startswith("micro: a server is running already on ")
    assert said.count("\n") == 1


def test_the_state_of_a_running_server_is_not_removed(shell: Shell) -> None:
    assert "stop it with `micro stop`" in shell("reset", "--yes", code=127)
    assert (shell.home / "server").is_dir()
