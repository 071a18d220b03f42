"""`micro doctor`: in every state that a home, a machine and a server can be in."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from microcosmos.base.home import Home, ServerInfo
from microcosmos.cli.doctor import command, finding, machine, state, walls
from microcosmos.cli.doctor.finding import Finding, Report, Subject, examine
from microcosmos.cli.environments import Environments
from microcosmos.cli.settings import UserSettings

from .conftest import Micro

MICRO = [sys.executable, "-m", "microcosmos.cli"]
DOORS = ("API", "PROXY", "WEB")


class Told:
    """What the doctor said, by check."""

    def __init__(self, code: int, out: str, err: str = "") -> None:
        assert err == ""
        self.code = code
        self.findings = msgspec.json.decode(out, type=list[Finding])

    def of(self, check: str, status: str) -> list[str]:
        return [one.what for one in self.findings if (one.check, one.status) == (check, status)]

    @property
    def failed(self) -> set[str]:
        return {one.check for one in self.findings if one.status == "fail"}


Doctor = Callable[..., Told]


@pytest.fixture
def doctor(micro: Micro, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Ask the doctor, in this process."""
    for door in DOORS:
        monkeypatch.setenv(f"MICRO_{door}_ADDRESS", "127.0.0.1:0")

    def ask(*words: str) -> Told:
        result = micro(*words, "doctor", "--output=json")
        return Told(result.code, result.out, result.err)

    return ask


def subject(home: Home, **environ: str) -> Subject:
    environments = Environments(home, UserSettings(home.path / "config.json"))
    return Subject(home, environments, "", environ)


def said(check: finding.Check, of: Subject) -> list[tuple[str, str]]:
    report = Report("it")
    check(of, report)
    return [(one.status, one.what) for one in report.findings]


# The whole.


def test_without_a_server_nothing_fails(doctor: Doctor, home: Home) -> None:
    told = doctor()
    assert (told.code, told.failed) == (0, set())
    assert told.of("server", "warn") == ["no server is running for this MICRO_HOME"]
    assert told.of("python", "ok")[0].startswith(f"Python {sys.version_info[0]}.")
    assert told.of("engine", "ok")[0].startswith("nats-server: v2.")
    assert list(home.path.iterdir()) == []


def test_a_line_is_a_status_what_was_found_and_what_to_do(micro: Micro) -> None:
    lines = micro("doctor").out.splitlines()
    assert all(line.startswith(("ok    ", "warn  ", "fail  ")) for line in lines)
    said = "warn  no server is running for this MICRO_HOME"
    assert f"{said}  \N{EM DASH} start one with `micro server --detach`" in lines


def test_the_checks_are_told_in_their_order_and_by_these_names(doctor: Doctor) -> None:
    names = [name for name, _ in command.CHECKS]
    told = list(dict.fromkeys(one.check for one in doctor().findings))
    assert told == [name for name in names if name in told]
    # Programs read them: a name stays.
    assert {"python", "packages", "limits", "clock", "tools", "variables"} <= set(names)
    assert {"home", "disk", "privacy", "sockets", "server", "leftovers", "ports"} <= set(names)
    assert {"api", "proxy", "engine", "core", "environment", "walls"} <= set(names)


def test_a_check_that_hangs_or_raises_keeps_nobody(home: Home) -> None:
    forever = threading.Event()

    def hangs(_: Subject, report: Report) -> None:
        forever.wait()

    def raises(_: Subject, report: Report) -> None:
        report.ok("so far")
        raise RuntimeError("a\nb")

    def works(_: Subject, report: Report) -> None:
        report.ok("fine")

    before = set(threading.enumerate())
    began = time.monotonic()
    checks = (("hangs", hangs), ("raises", raises), ("works", works))
    try:
        found = examine(checks, subject(home), limit=0.1)
        assert time.monotonic() - began < 60
        # Python does not wait for them when it ends.
        begun = set(threading.enumerate()) - before
        assert begun
        assert all(one.daemon for one in begun)
    finally:
        forever.set()
    assert [(one.check, one.status) for one in found] == [
        ("hangs", "fail"),
        ("raises", "ok"),
        ("raises", "warn"),
        ("works", "ok"),
    ]
    assert found[2].readable().endswith("raises could not be checked: RuntimeError: a b")


# The home.


def test_a_home_that_cannot_be_made_fails(doctor: Doctor) -> None:
    told = doctor("--home=/dev/null/home")
    assert told.code == 1
    assert told.of("home", "fail") == ["/dev/null/home cannot be made in /dev/null"]


def mounted(script: str, folder: Path) -> list[Told]:
    """What the doctor says after each of the lines of a script, in a mount namespace of its own."""
    ask = f'{sys.executable} -m microcosmos.cli doctor -o json; echo "code $?"'
    lines = "; ".join(f"{line} && {ask}" for line in script.splitlines())
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", lines]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MICRO_")}
    doors = {f"MICRO_{door}_ADDRESS": "127.0.0.1:0" for door in DOORS}
    variables = {**clean, **doors, "MICRO_HOME": str(folder)}
    ended = subprocess.run(unshare, env=variables, capture_output=True, text=True, check=False)
    if "unshare failed" in ended.stderr or "Operation not permitted" in ended.stderr:
        pytest.skip("this machine lets nobody mount")
    *answers, _ = ended.stdout.split("code 1\n")
    return [Told(1, answer, ended.stderr) for answer in answers]


@pytest.mark.slow
def test_a_full_disk_and_a_read_only_one_fail(tmp_path: Path) -> None:
    small, full, read_only = mounted(
        f"mount -t tmpfs -o size=1m,mode=700 tmpfs {tmp_path}\n"
        f"! head -c 2000000 /dev/zero > {tmp_path}/x 2>&-\n"
        f"mount -o remount,ro {tmp_path}",
        tmp_path,
    )
    assert small.of("home", "ok")
    assert "is on tmpfs: it is lost" in small.of("disk", "warn")[0]
    assert small.of("disk", "fail")[0].startswith("1 MiB are free")
    assert full.of("home", "fail")[0].endswith("cannot be written: No space left on device")
    assert read_only.of("home", "fail")[0].endswith("cannot be written: Read-only file system")


def test_keys_that_others_can_read_fail(doctor: Doctor, home: Home) -> None:
    home.make()
    key = home.server / "keys" / "operator.nk"
    key.touch(mode=0o600)
    (home.path / "config.json").touch(mode=0o600)
    assert doctor().of("privacy", "ok") == ["keys and settings are private (4 files)"]
    key.chmod(0o640)
    told = doctor()
    assert told.of("privacy", "fail") == [f"{key} is open to other users"]
    assert told.code == 1


def test_a_path_too_long_for_sockets_is_told(home: Home) -> None:
    deep = Home(home.path / ("x" * 100))
    ((status, what),) = said(state.sockets, subject(deep))
    assert status == "ok"
    assert what.startswith(f"sockets are in {deep.lanes}: the path of MICRO_HOME is too long")


def test_the_file_system_of_a_path_is_known() -> None:
    assert state.file_system(Path("/proc/self")) == "proc"
    assert state.file_system(Path("/")) not in ("", "proc")


# The machine.


def test_a_variable_that_nothing_reads_is_a_warning(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICRO_API_ADRESS", "127.0.0.1:1")
    monkeypatch.setenv("MICRO_QQQQQQ", "x")
    told = doctor()
    warned = [one for one in told.findings if (one.check, one.status) == ("variables", "warn")]
    assert [one.advice for one in warned] == [
        "did you mean MICRO_API_ADDRESS?",
        "nothing reads it; unset it",
    ]
    assert told.code == 0


def test_a_variable_with_a_wrong_value_fails(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICRO_GATEWAYS", "many")
    assert doctor().failed >= {"variables"}


def test_every_variable_of_the_code_is_known() -> None:
    import re

    import microcosmos

    named: set[str] = set()
    for path in Path(microcosmos.__file__).parent.rglob("*.py"):
        # As a whole text, or as it stands in a help text: [MICRO_ENV].
        named |= set(re.findall(r"[\"\[](MICRO_[A-Z0-9_]*[A-Z0-9])[\"\]]", path.read_text()))
    assert named - machine.known_variables() == set()


def test_a_missing_or_old_package_fails(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    required = ["click>=99", "nosuch-package>=1", "msgspec>=0.1", "httpx>=99; extra == 'dev'"]
    monkeypatch.setattr(machine.metadata, "requires", lambda _: required)
    (old, missing) = said(machine.packages, subject(home))
    assert old[0] == missing[0] == "fail"
    assert old[1].endswith("is older than 99")
    assert missing[1] == "the package nosuch-package is missing"


def test_a_low_limit_is_a_warning(home: Home) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, hard))
    try:
        first = said(machine.limits, subject(home))[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert first == ("warn", "open files: at most 500")


def test_a_clock_that_is_behind_fails(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.setattr(machine.time, "time", lambda: 0.0)
    ((status, what),) = said(machine.clock, subject(home))
    assert (status, what) == (
        "fail",
        "the clock says 1970-01-01 00:00:00 UTC, before this was installed",
    )


def test_programs_that_are_missing_are_warnings(
    monkeypatch: pytest.MonkeyPatch, home: Home, tmp_path: Path
) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\nexit 1\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {what.split()[0]: status for status, what in said(machine.tools, subject(home))}
    assert found == {"uv": "ok", "git": "warn", "node": "warn", "npm": "warn"}


def test_missing_walls_are_named(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.setattr(walls, "_text", lambda _: "")
    warned = [what for status, what in said(walls.more, subject(home)) if status == "warn"]
    assert "cgroup v2 (CPU and memory)" in warned[0]


def test_walls_of_functions_are_measured(home: Home) -> None:
    ((status, what),) = said(walls.walls, subject(home))
    assert (status, what[:25]) == ("ok", "walls of functions: full:")


# The server.


def test_ports_that_somebody_has_fail(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("MICRO_API_ADDRESS", f"127.0.0.1:{port}")
        told = doctor()
    (failed,) = [one for one in told.findings if one.check == "ports" and one.status == "fail"]
    assert failed.what.startswith(f"port {port} is in use by PID {os.getpid()} (")
    assert failed.advice == "use --api_address"


def test_what_a_killed_server_left_is_told(doctor: Doctor, home: Home) -> None:
    home.make()
    ended = subprocess.Popen(["true"])
    ended.wait()
    home.write_server_info(ServerInfo("0.1.0", time.time(), {"server": ended.pid}, {}))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.lanes / "core.sock"))
    stray = subprocess.Popen(
        ["sleep", "60"], env={**os.environ, "MICRO_HOME": str(home.path), "MICRO_REPLICA": "x-1"}
    )
    try:
        told = doctor()
    finally:
        stray.kill()
        stray.wait()
    assert told.code == 0
    assert "old server.json" in told.of("server", "warn")[0]
    assert told.of("leftovers", "ok") == ["1 old sockets, which the next server removes"]
    assert told.of("leftovers", "warn") == [f"PID {stray.pid} is left of an old server: sleep 60"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"pids": {"server": -1}}'])
def test_a_damaged_server_json_is_no_trouble(doctor: Doctor, home: Home, text: str) -> None:
    home.make()
    (home.server / "server.json").write_text(text)
    assert doctor().code == 0


def test_an_environment_that_does_not_answer_fails(doctor: Doctor, micro: Micro) -> None:
    micro("env", "add", "far", "127.0.0.1:1")
    told = doctor("--env=far").of("environment", "fail")[0]
    assert told.startswith("the environment far: 127.0.0.1:1 cannot be reached")
    assert "there is no environment" in doctor("--env=nosuch").of("environment", "fail")[0]


def test_an_engine_of_somebody_else_is_asked(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICRO_NATS_URL", "nats://127.0.0.1:1")
    assert "no NATS server answers" in doctor().of("engine", "fail")[0]


class Running:
    """A real server."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MICRO_")}
        doors = {f"MICRO_{door}_ADDRESS": "127.0.0.1:0" for door in DOORS}
        self._environment = {**clean, **doors, "MICRO_HOME": str(folder), "MICRO_GATEWAYS": "1"}
        self("server", "--detach")

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [*MICRO, *words]
        return subprocess.run(argv, env=self._environment, capture_output=True, text=True)

    def doctor(self) -> Told:
        ended = self("doctor", "-o", "json")
        return Told(ended.returncode, ended.stdout, ended.stderr)

    def pid(self, name: str) -> int:
        info = self.home.server_info()
        assert info is not None
        return info.pids[name]


@pytest.fixture
def running(home: Home) -> Iterator[Running]:
    started = Running(home.path)
    yield started
    if (info := home.server_info()) is not None:
        os.kill(info.pids["server"], signal.SIGKILL)


@pytest.mark.e2e
@pytest.mark.slow
def test_a_server_that_runs_hangs_and_was_killed(running: Running) -> None:
    told = running.doctor()
    assert (told.code, told.failed) == (0, set())
    for check in ("server", "api", "proxy", "engine", "core", "environment"):
        assert told.of(check, "ok"), check
    assert told.of("ports", "ok") == []

    running("run", "helloworld", "--command", "sleep 60", "--detach")
    assert "the service helloworld is" in running.doctor().of("core", "warn")[0]

    core = running.pid("core")
    os.kill(core, signal.SIGSTOP)
    began = time.monotonic()
    told = running.doctor()
    assert time.monotonic() - began < 60
    assert told.failed == {"core", "proxy"}
    os.kill(core, signal.SIGCONT)

    info = running.home.server_info()
    assert info is not None
    changed = msgspec.structs.replace(info, version="0.0.1")
    running.home.write_server_info(changed)
    assert "the server is 0.0.1, this command line" in running.doctor().of("server", "warn")[0]

    os.kill(running.pid("server"), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while told.code and time.monotonic() < deadline:
        told = running.doctor()
    assert (told.code, told.of("leftovers", "warn")) == (0, [])
    assert "the last one was killed" in told.of("server", "warn")[0]
    shutil.rmtree(running.home.lanes)
    assert running.doctor().code == 0


# The login.


def test_nobody_is_logged_in(doctor: Doctor) -> None:
    assert doctor().of("login", "ok") == ["nobody is logged in to local"]


@pytest.mark.usefixtures("guarded")
def test_the_password_of_a_fresh_server_is_warned_about(doctor: Doctor) -> None:
    (said,) = doctor().of("login", "warn")
    assert said == "commands act as admin, whose password is the one that everybody knows"


@pytest.mark.usefixtures("guarded")
def test_who_is_logged_in_and_that_it_has_ended(doctor: Doctor, micro: Micro, home: Home) -> None:
    micro("auth", "create", "account", "ann", "--secret=ann's password")
    micro("login", "--username=ann", "--password=ann's password")
    assert doctor().of("login", "ok") == ["logged in to local as ann"]
    kept = (home.path / "tokens").read_text()
    micro("logout")
    (home.path / "tokens").write_text(kept)
    assert doctor().of("login", "fail") == ["the login of ann has ended"]


def test_a_damaged_file_of_logins_fails(doctor: Doctor, home: Home) -> None:
    (home.path / "tokens").write_text("{")
    (home.path / "tokens").chmod(0o600)
    (said,) = doctor().of("login", "fail")
    assert said.startswith(f"{home.path / 'tokens'} is damaged")
