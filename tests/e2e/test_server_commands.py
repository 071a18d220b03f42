"""`micro server --detach`, `stop`, `reset`, environments, profiles, and programs run by hand."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from .live import Live, alive, program, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FREE = ("--api_address=127.0.0.1:0", "--proxy_address=127.0.0.1:0", "--gateways=1")


def test_a_detached_server_lives_until_it_is_stopped_and_comes_back(
    another: Callable[..., Live],
) -> None:
    site = another()
    lines = site.micro("server", "--detach", *FREE).lines
    assert re.fullmatch(r"microcosmos \S+, PID \d+, home \S+, ready in \d+\.\d\d s", lines[0])
    assert [line.split()[0] for line in lines[1:]] == ["api", "proxy", "nats", "warn"]
    pid = site.pid("server")
    # It is the supervisor itself.
    assert f"PID {pid}," in lines[0]
    site.micro("run", "helloworld")
    assert site.micro("stop").out == ""
    # It lets go of its home a moment before it ends.
    until(lambda: not alive(pid))
    assert "no server is running" in site.refused(4, "stop")
    assert "no server is running" in site.refused(4, "services")
    assert "no server is running" in site.refused(4, "nats")
    site.micro("server", "--detach", *FREE)
    until(lambda: site.type("helloworld").code == 0)
    # It may answer a moment before the runtime has noticed.
    until(lambda: site.status("helloworld")["status"] == "running")
    assert "stop it with `micro stop`" in site.refused(127, "reset", "--yes")
    site.micro("stop")
    site.micro("user", "config", "set", "my.key", "kept")
    site.micro("reset", "--yes")
    assert sorted(path.name for path in site.home.path.iterdir() if path.name[0] != ".") == [
        "config.json"
    ]
    assert site.micro("user", "config", "get", "my.key").out == "kept\n"
    site.micro("server", "--detach", *FREE)
    assert site.micro("status").out == ""
    site.micro("stop")


SLOW = """
import sys, time

class Slow:
    def write(self, text):
        if text.startswith("microcosmos "):
            time.sleep(0.5)
        return sys.__stdout__.write(text)

    def __getattr__(self, name):
        return getattr(sys.__stdout__, name)

sys.stdout = Slow()
"""


def test_a_detached_server_is_waited_for_until_it_has_said_where_it_is(
    another: Callable[..., Live], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    site = another()
    lines = site.micro("server", "--detach", *FREE, PYTHONPATH=str(tmp_path)).lines
    assert [line.split()[0] for line in lines] == ["microcosmos", "api", "proxy", "nats", "warn"]
    site.micro("stop")


def test_another_server_is_an_environment(live: Live, another: Callable[..., Live]) -> None:
    far = another().start()
    address = far.info.addresses["proxy"]
    here = another()
    here.micro("env", "add", "far", f"http://{address}")
    assert here.micro("env").lines == ["* local 127.0.0.1:8081", f"  far   http://{address}"]
    here.micro("env", "set", "far")
    assert here.micro("env", "get").out == "far\n"
    here.micro("login", "--username=admin", "--password=micro")
    folder = here.folder("roams", program("roams"))
    here.micro("run", str(folder))
    assert here.call("roams", "--name=Ann")["name"] == "Ann"
    assert far.web.get("/roams").status_code == 200
    assert here.status("roams")["status"] == "running"
    assert "roams answers" in here.micro("logs", "roams").out
    assert "roams" in here.micro("services").lines
    (folder / "main.py").write_text(program("roams", "two"))
    here.micro("update", str(folder))
    assert here.call("roams")["says"] == "two"
    assert "has no endpoint" in here.refused(5, "roams", "nope")
    assert "--name string" in here.micro("roams", "call", "--help").out
    here.micro("kill", "roams")
    assert "roams" not in far.micro("services").lines
    assert far.stop() == 0
    assert "cannot be reached" in here.refused(4, "services")
    here.micro("env", "set", "local")
    here.micro("env", "del", "far")


def test_the_profile_test_keeps_nothing(another: Callable[..., Live]) -> None:
    site = another(env={"MICRO_PROFILE": "test"}).start()
    site.micro("run", str(site.folder("brief", program("brief"))))
    assert site.call("brief")["says"] == "one"
    kept = {
        str(path.relative_to(site.home.path))
        for path in site.home.path.rglob("*")
        if path.is_file()
    }
    unexpected = [
        name
        for name in sorted(kept)
        if not re.match(
            r"server/(logs/|sources/|keys/|lock$|server\.json$|walls\.json$)|tokens$|\.tokens", name
        )
    ]
    assert unexpected == []
    assert site.stop() == 0
    site.start()
    assert site.micro("status").out == ""


class ByHand:
    """A program that somebody starts with Python."""

    def __init__(self, code: str, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", code],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def wait(self, text: str) -> None:
        until(lambda: text in self.said)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def by_hand() -> Iterator[Callable[[str, dict[str, str]], ByHand]]:
    started: list[ByHand] = []

    def start(code: str, env: dict[str, str]) -> ByHand:
        started.append(ByHand(code, env))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.end()


def test_a_program_run_by_hand_joins_the_server(
    live: Live, by_hand: Callable[[str, dict[str, str]], ByHand]
) -> None:
    one = by_hand(program("guest"), live.env)
    one.wait("guest answers")
    until(lambda: live.web.get("/guest").status_code == 200)
    assert live.call("guest")["pid"] == str(one.process.pid)
    assert "guest" in live.micro("services").lines
    # It is nobody's deployment.
    live.refused(4, "status", "guest")
    assert one.end() == 0
    until(lambda: live.web.get("/guest").status_code == 404)
    assert "Traceback" not in one.said


def test_a_program_run_by_hand_without_a_server_is_alone(
    another: Callable[..., Live], by_hand: Callable[[str, dict[str, str]], ByHand]
) -> None:
    site = another()
    one = by_hand(program("hermit"), {**site.env, "MICRO_API_ADDRESS": "127.0.0.1:0"})
    one.wait("http://")
    url = re.search(r"http://[\d.:]+\d", one.said)
    assert url is not None, one.said
    assert httpx.get(f"{url[0]}/hermit?name=x", trust_env=False, timeout=60).json()["name"] == "x"
    assert one.end() == 0
    assert "Traceback" not in one.said


def test_a_program_run_by_hand_outlives_the_server_and_joins_the_next(
    another: Callable[..., Live], by_hand: Callable[[str, dict[str, str]], ByHand]
) -> None:
    site = another().start()
    one = by_hand(program("patient"), site.env)
    one.wait("patient answers")
    until(lambda: site.web.get("/patient").status_code == 200)
    site.kill()
    assert one.process.poll() is None
    site.start()
    until(lambda: site.web.get("/patient").status_code == 200)
    assert site.call("patient")["pid"] == str(one.process.pid)
    assert one.end() == 0
    assert "Traceback" not in one.said


def test_the_readmes_own_service(live: Live) -> None:
    said = live.micro("new", "service", "greeter")
    assert "greeter" in said.out
    live.micro("run", "./greeter")
    assert live.call("greeter", "--name=John") == {"msg": "Hello John"}
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-pno:cacheprovider",
            "-pno:schemathesis",
            "greeter",
        ],
        cwd=live.work,
        env=live.env,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    live.micro("kill", "greeter")


def test_the_wheel_has_the_command_and_the_examples(live: Live, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "installed"
    from uv import find_uv_bin

    install = [find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    assert (place / "bin" / "micro").exists()
    env = {**live.env, "PYTHONPATH": str(place), "MICRO_HOME": str(tmp_path / "h")}
    where = "import microcosmos.runtime.source as s; print(s.examples_folder())"
    ran = subprocess.run(
        [sys.executable, "-c", where], env=env, capture_output=True, text=True, check=True
    )
    examples = Path(ran.stdout.strip())
    assert examples == place / "microcosmos" / "examples"
    assert (examples / "helloworld" / "main.py").exists()
    assert (examples / "shop" / "orders" / "main.py").exists()
