"""Walls that a machine lacks: nothing is run without them, unless that is allowed by name."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.lines import Lines
from microcosmos.functions.walls import Measured, Wall, allowed, report
from microcosmos.functions.walls.names import GROUPS, VARIABLE, WALLS, WEAK
from microcosmos.functions.zygote.client import open_zygote

from ..zygotes import home

WITHOUT = str(Path(__file__).with_name("without.py"))
ZYGOTE = ("-m", "microcosmos.functions.zygote")
LINE = (
    "functions are not run here, as the walls landlock.files, landlock.tcp, landlock.scopes (this"
    " kernel has no Landlock: Function not implemented) are missing; use a system that has them, or"
    " allow it by name: --allow_missing_walls landlock (MICRO_ALLOW_MISSING_WALLS)"
)


def test_all_of_them_are_here() -> None:
    measured = measured_by()
    assert [wall.name for wall in measured.walls] == list(WALLS)
    assert (measured.missing, measured.level, measured.refusal) == ([], "full", "")
    assert measured.told == "full: " + ", ".join(WALLS)


def test_nobody_in_particular_has_them_too() -> None:
    """Whoever is not root."""
    if os.geteuid():
        pytest.skip("it is tried as nobody in particular anyway")
    program = (
        "import os; from microcosmos.functions import walls; from microcosmos.functions.walls"
        " import process, seccomp, profiles; seccomp.program(profiles.quickjs().calls);"
        " os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        # As a process is that somebody has started, and not become another.
        " process.prctl(4, 1);"
        " print(walls.measure().told)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"full: {', '.join(WALLS)}\n", done.stderr


def measured_by(*command: str, names: str = "") -> Measured:
    """What a process of its own measures, which has one thread."""
    argv = [sys.executable, *command, "-m", "microcosmos.functions.walls", "--json"]
    if command:
        argv.insert(argv.index("-m"), sys.executable)
    env = {**os.environ, VARIABLE: names}
    done = subprocess.run(argv, capture_output=True, env=env, check=True)
    told = json.loads(done.stdout)
    return Measured([Wall(**one) for one in told["walls"]], told["allowed"])


@pytest.mark.parametrize(
    ("lacking", "names"),
    [("landlock", set(GROUPS["landlock"])), ("seccomp", {"seccomp"})],
)
def test_what_is_not_there_is_seen(lacking: str, names: set[str]) -> None:
    measured = measured_by(WITHOUT, lacking)
    assert {wall.name for wall in measured.missing} == names
    assert measured.level == "partial"
    assert measured.told.endswith("; functions do not run")
    assert lacking in measured.refusal
    told = measured_by(WITHOUT, lacking, names=lacking)
    assert (told.refusal, set(told.allowed)) == ("", names)
    assert told.told.endswith(", which is allowed by name")


async def test_workers_are_not_made_without_a_wall() -> None:
    with home() as place:
        argv = (sys.executable, WITHOUT, "landlock", sys.executable, *ZYGOTE)
        async with open_zygote(place, *argv) as zygote:
            for kind in ("quickjs", "deno", "monty"):
                with pytest.raises(errors.Unavailable) as caught:
                    await zygote.start(kind, "micro/alice")
                assert (caught.value.id, caught.value.detail) == ("functions.walls", LINE)
            measured = report.left(place)
            assert measured
            assert measured.refusal == LINE


async def test_workers_are_made_without_a_wall_that_may_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "landlock")
    with home() as place:
        argv = (sys.executable, WITHOUT, "landlock", sys.executable, *ZYGOTE)
        async with open_zygote(place, *argv) as zygote, Lines() as lines:
            for kind in ("quickjs", "monty", "deno"):
                worker = await zygote.start(kind, "micro/alice", heap=128 << 20)
                line = await lines.line(worker.socket, worker.pid)
                assert await line.ask(wire.HOST, b"null", 10) == b"[]"
                # The others stand.
                told = Path(f"/proc/{worker.pid}/status").read_text()
                assert "Seccomp:\t2" in told
            measured = report.left(place)
            assert measured
            assert measured.told.startswith(
                "partial: missing are landlock.files, landlock.tcp, landlock.scopes ("
            )


def test_doctor_says_what_is_missing_and_what_to_do() -> None:
    with home() as place:
        env = {**os.environ, "MICRO_HOME": str(place.path)}
        micro = [sys.executable, "-m", "microcosmos.cli", "doctor"]
        argv = [sys.executable, WITHOUT, "landlock", *micro]
        done = subprocess.run(argv, capture_output=True, text=True, env=env)
        (line,) = (one for one in done.stdout.splitlines() if "walls of functions" in one)
        assert line.startswith("fail  walls of functions: partial: missing are landlock.files, ")
        assert "--allow_missing_walls landlock" in line
        env[VARIABLE] = "landlock"
        done = subprocess.run(argv, capture_output=True, text=True, env=env)
        (line,) = (one for one in done.stdout.splitlines() if "walls of functions" in one)
        assert line.startswith("warn  ")
        assert ", which is allowed by name" in line


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", set()),
        ("seccomp", {"seccomp"}),
        (" landlock , limits,", {"limits", *GROUPS["landlock"]}),
        ("landlock.tcp", {"landlock.tcp"}),
        ("weak", set(WALLS) - WEAK),
    ],
)
def test_walls_are_allowed_by_name(text: str, names: set[str]) -> None:
    assert allowed(text) == names


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(errors.BadRequest, match=r"'moat' is no wall; there are landlock, weak, "):
        allowed("landlock,moat")


def test_a_system_with_the_least_is_weak() -> None:
    """As macOS measures it."""
    walls = [Wall(name, name in WEAK, "" if name in WEAK else "not here") for name in WALLS]
    weak = Measured(walls)
    assert weak.level == "weak"
    assert "--allow_missing_walls weak " in weak.refusal
    assert not Measured(walls, sorted(allowed("weak"))).refusal
    assert Measured(walls, sorted(allowed("landlock"))).refusal


def test_the_table_is_for_people() -> None:
    argv = [sys.executable, "-m", "microcosmos.functions.walls"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "level full"
    assert len(done.stdout.splitlines()) == len(WALLS) + 1
    lacking = [sys.executable, WITHOUT, "seccomp", *argv]
    done = subprocess.run(lacking, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--allow_missing_walls seccomp" in done.stderr
    done = subprocess.run([*argv, "--what"], capture_output=True, text=True)
    assert (done.returncode, done.stderr[:7]) == (64, "usage: ")


def test_measuring_takes_no_time() -> None:
    """Once it has been imported."""
    program = (
        "import time; from microcosmos.functions.walls import measure; measure();"
        " began = time.perf_counter(); measure(); print(time.perf_counter() - began)"
    )
    took = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True).stdout)
        for _ in range(3)
    ]
    # Alone it takes 20 ms; here others want the processors too.
    assert min(took) < 0.3


async def test_walls_are_entered_by_one_thread_alone() -> None:
    program = (
        "import threading; from microcosmos.functions.walls import enter;"
        " threading.Thread(target=threading.Event().wait, daemon=True).start(); enter('quickjs')"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.stderr.strip().endswith("walls are entered by one thread, and there are 2")


def test_who_enters_is_told_all_that_is_missing() -> None:
    program = "from microcosmos.functions.walls import enter; enter('egress')"
    argv = [sys.executable, WITHOUT, "landlock", sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stderr.strip().endswith(LINE)
