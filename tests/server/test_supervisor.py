"""The supervisor's contract with the runtime, on real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from microcosmos.base import errors
from microcosmos.rpc import Client
from microcosmos.rpc.lane import LaneTransport
from microcosmos.rpc.one_socket import OneSocket
from microcosmos.server import supervisor as supervisors
from microcosmos.server.control import SERVICE, SupervisorClient, serve
from microcosmos.server.drain import Drain
from microcosmos.server.processes import Processes
from microcosmos.server.supervisor import Supervisor

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

FOREVER = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER
PARENT = """
import subprocess, sys, signal
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("child", child.pid, flush=True)
signal.pause()
"""


def child_in(log: str) -> int:
    return int(log.split()[1])


async def test_an_exit_is_told_with_its_status(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        pid = await supervisor.spawn(kit.spec("short", "import sys; sys.exit(3)"))
        (one,) = await supervisor.exits(0)
        assert (one.name, one.pid, one.code, one.sequence) == ("short", pid, 3, 1)
        assert await supervisor.running() == {}


async def test_a_signal_ends_a_process_and_shows_in_its_exit(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        pid = await supervisor.spawn(kit.spec("long", FOREVER))
        assert await supervisor.running() == {"long": pid}
        await supervisor.signal("long", signal.SIGKILL)
        (one,) = await supervisor.exits(0)
        assert one.code == -signal.SIGKILL


async def test_waiting_for_exits_returns_with_the_next_one(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        for name in ("a", "b"):
            await supervisor.spawn(kit.spec(name, FOREVER))
        await supervisor.signal("a", signal.SIGKILL)
        (first,) = await supervisor.exits(0)
        waiting = asyncio.create_task(supervisor.exits(first.sequence))
        await supervisor.signal("b", signal.SIGTERM)
        assert [one.name for one in await waiting] == ["b"]
        assert [one.name for one in await supervisor.exits(0)] == ["a", "b"]


async def test_waiting_in_vain_ends_empty(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisors, "POLL", 0.01)
    async with kit.supervisor() as supervisor:
        assert await supervisor.exits(0) == []
        assert await supervisor.exits(99) == []


async def test_many_that_end_at_once_are_all_told(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        for number in range(20):
            await supervisor.spawn(kit.spec(f"p{number}", "pass"))
        seen = 0
        while seen < 20:
            seen = (await supervisor.exits(seen))[-1].sequence
        names = {one.name for one in await supervisor.exits(0)}
        assert names == {f"p{number}" for number in range(20)}


async def test_a_name_is_one_process(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        await supervisor.spawn(kit.spec("one", FOREVER))
        with pytest.raises(errors.Conflict, match="one is alive"):
            await supervisor.spawn(kit.spec("one", FOREVER))
        await supervisor.signal("one", signal.SIGKILL)
        await supervisor.exits(0)
        assert await supervisor.spawn(kit.spec("one", FOREVER))


async def test_what_cannot_be_started_says_why(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        good = kit.spec("x", FOREVER)
        bad = {
            "No such file or directory: /no/program": {"argv": ["/no/program"]},
            "No such file or directory: /no/folder": {"cwd": "/no/folder"},
            f"Permission denied: {kit.folder}": {"argv": [str(kit.folder)]},
            "embedded null byte": {"argv": [sys.executable, "\0"]},
        }
        for cause, change in bad.items():
            with pytest.raises(errors.BadRequest) as caught:
                await supervisor.spawn(msgspec.structs.replace(good, **change))
            assert caught.value.detail == f"x cannot be started: {cause}"
        assert await supervisor.running() == {}


async def test_a_signal_to_nobody_is_no_error_but_a_strange_one_is(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        await supervisor.signal("nobody", signal.SIGTERM)
        with pytest.raises(errors.BadRequest, match="no signal 4711"):
            await supervisor.signal("nobody", 4711)


async def test_a_signal_reaches_the_children_too(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        await supervisor.spawn(kit.spec("family", PARENT))
        await kit.eventually(lambda: "child" in kit.log("family"))
        child = child_in(kit.log("family"))
        await supervisor.signal("family", signal.SIGTERM)
        await supervisor.exits(0)
        await kit.eventually(lambda: not kit.alive(child))


async def test_what_a_process_leaves_behind_is_killed(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        pid = await supervisor.spawn(kit.spec("family", PARENT))
        await kit.eventually(lambda: "child" in kit.log("family"))
        child = child_in(kit.log("family"))
        os.kill(pid, signal.SIGKILL)
        await supervisor.exits(0)
        await kit.eventually(lambda: not kit.alive(child))


async def test_environment_and_descriptors_are_only_those_given(kit: Any) -> None:
    code = (
        "import os; print(sorted(os.environ)); "
        "print([n for n in range(256) if os.path.exists(f'/dev/fd/{n}')][:-1])"
    )
    spec = kit.spec("bare", code, ONLY="this", LC_CTYPE="C.UTF-8")
    leaked = os.open(kit.folder, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        async with kit.supervisor() as supervisor:
            await supervisor.spawn(spec)
            await supervisor.exits(0)
    finally:
        os.close(leaked)
    environment, descriptors = kit.log("bare").splitlines()
    assert "ONLY" in environment
    assert "HOME" not in environment
    assert set(msgspec.json.decode(descriptors)) <= {0, 1, 2}


async def test_logs_are_appended(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        code = "import sys; print('out'); sys.stdout.flush(); sys.stderr.write('err\\n')"
        for turn in (1, 2):
            await supervisor.spawn(kit.spec("talker", code))
            await supervisor.exits(turn - 1)
    assert kit.log("talker") == "out\nerr\n" * 2
    assert (kit.folder / "talker.log").stat().st_mode & 0o777 == 0o600


async def test_leaving_ends_gently_first(kit: Any) -> None:
    code = (
        "import signal, sys\n"
        "def stop(*_): print('drained', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop); print('up', flush=True)\n"
        "while True: signal.pause()"
    )
    async with kit.supervisor() as supervisor:
        await supervisor.spawn(kit.spec("gentle", code))
        await kit.eventually(lambda: "up" in kit.log("gentle"))
    assert kit.log("gentle") == "up\ndrained\n"


async def test_leaving_kills_what_does_not_listen(kit: Any) -> None:
    async with kit.supervisor(patience=0.2) as supervisor:
        pid = await supervisor.spawn(kit.spec("deaf", STUBBORN))
        await kit.eventually(lambda: "up" in kit.log("deaf"))
    assert not kit.alive(pid)


async def test_a_hurry_ends_the_patience(kit: Any) -> None:
    drain = Drain(patience=60)
    loop = asyncio.get_running_loop()
    async with Processes() as processes, Supervisor(processes, drain) as supervisor:
        pid = await supervisor.spawn(kit.spec("deaf", STUBBORN))
        await kit.eventually(lambda: "up" in kit.log("deaf"))
        loop.call_soon(drain.hurry)
    assert not kit.alive(pid)


async def test_nothing_is_started_while_it_stops(kit: Any) -> None:
    async with kit.supervisor() as supervisor:
        pass
    with pytest.raises(errors.Unavailable, match="the server is stopping"):
        await supervisor.spawn(kit.spec("late", FOREVER))


async def test_a_stopped_process_is_ended_too(kit: Any) -> None:
    async with kit.supervisor(patience=60) as supervisor:
        pid = await supervisor.spawn(kit.spec("asleep", FOREVER))
        await kit.eventually(lambda: "up" in kit.log("asleep"))
        os.kill(pid, signal.SIGSTOP)
    assert not kit.alive(pid)


async def test_the_guard_is_replaced_and_knows_everyone(kit: Any) -> None:
    def is_guard(one: psutil.Process) -> bool:
        try:
            return kit.alive(one.pid) and "guard.py" in " ".join(one.cmdline())
        except psutil.Error:
            return False  # it ended between the two looks

    def guards() -> list[int]:
        return [one.pid for one in psutil.Process().children() if is_guard(one)]

    async with kit.supervisor() as supervisor:
        # Between the fork and the program it does not look like one.
        await kit.eventually(guards)
        (guard,) = guards()
        os.kill(guard, signal.SIGKILL)
        await kit.eventually(lambda: [one for one in guards() if one != guard])
        pid = await supervisor.spawn(kit.spec("one", FOREVER))
        assert await supervisor.running() == {"one": pid}
    await kit.eventually(lambda: guards() == [])


async def test_the_core_asks_over_a_socket(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with kit.supervisor() as supervisor, serve(supervisor, path):
        assert path.stat().st_mode & 0o777 == 0o600
        transport = LaneTransport(OneSocket(SERVICE, path))
        async with contextlib.AsyncExitStack() as closing:
            closing.push_async_callback(transport.close)
            remote = SupervisorClient(Client([transport]))
            pid = await remote.spawn(kit.spec("far", FOREVER))
            assert await remote.running() == {"far": pid}
            with pytest.raises(errors.Conflict, match="far is alive"):
                await remote.spawn(kit.spec("far", FOREVER))
            waiting = asyncio.create_task(remote.exits(0))
            await remote.signal("far", signal.SIGKILL)
            (one,) = await waiting
            assert (one.pid, one.code) == (pid, -signal.SIGKILL)
