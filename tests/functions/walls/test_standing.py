"""Workers within their walls, seen from outside; and what Landlock leaves them to run."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from seccompy.syscalls import syscall_nr

from microcosmos.functions.walls import profiles
from microcosmos.functions.zygote.messages import Exit, Worker

from ..zygotes import descriptors, until
from .conftest import asked, attackers, by_itself, connected, name_of

WORKERS = ("quickjs", "wasm", "looker", "monty", "deno")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("kind", WORKERS)
async def test_a_worker_has_nothing_that_it_could_use(kind: str) -> None:
    async with attackers() as (zygote, _):
        await zygote.start("quickjs", "micro/bob")
        worker = await zygote.start(kind, "micro/mallory", heap=128 << 20)
        control = await zygote.start("executed" if kind == "deno" else "forked", "micro/carol")
        for one in (worker, control):
            # What it answers with comes after the walls.
            await asyncio.to_thread(calls, one, [[syscall_nr("getpid")]])
        told, free = status(worker.pid), status(control.pid)
        assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
        assert {told[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert (free["NoNewPrivs"], free["Seccomp"]) == ("0", "0")
        found = limits(worker.pid)
        assert found["Max core file size"] == "0"
        assert found["Max open files"] == str(profiles.DESCRIPTORS)
        assert found["Max file size"] == "0" or kind == "wasm"
        environment = Path(f"/proc/{worker.pid}/environ").read_bytes().strip(b"\0")
        names = {line.partition(b"=")[0] for line in environment.split(b"\0") if line}
        wanted = {b"DENO_DIR", b"DENO_NO_PROMPT", b"DENO_NO_UPDATE_CHECK", b"NO_COLOR"}
        assert names == (wanted if kind == "deno" else set())


def limits(pid: int) -> dict[str, str]:
    """The hard ones."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[47:68].strip() for line in lines}


@pytest.mark.parametrize("kind", WORKERS)
async def test_a_worker_has_no_open_files_but_its_own(kind: str) -> None:
    async with attackers() as (zygote, _):
        for other in ("quickjs", "monty"):
            await zygote.start(other, "micro/bob")
        worker = await zygote.start(kind, "micro/mallory", heap=128 << 20)
        with connected(worker.socket) as (reader, writer):
            asked(reader, writer, [[syscall_nr("getpid")]])
            found = [name.partition(":")[0] for name in descriptors(worker.pid)]
        if kind == "deno":
            # It has made some for itself; none leads to a file.
            assert set(found) <= {"socket", "/dev/null", "/dev/urandom", "pipe", "anon_inode"}
            return
        # It listens, has one connection, and a line to the one that looks at memory.
        sockets = ["socket"] * (3 if kind == "monty" else 2)
        assert sorted(found) == ["/dev/null", "/dev/null", "pipe", *sockets]


def running(program: str) -> list[list[Any]]:
    text = {"text": program}
    return [[syscall_nr("execve"), text, 0, 0]]


@pytest.mark.parametrize("kind", ["monty", "deno"])
async def test_no_other_program_is_run(kind: str) -> None:
    async with attackers() as (zygote, _):
        exits: list[Exit] = []
        zygote.listen(exits.append, lambda: None)
        worker = await zygote.start(kind, "micro/mallory", heap=128 << 20)
        for program in ("/bin/true", os.path.realpath("/bin/sh"), sys.executable):
            ((_, failed),) = await asyncio.to_thread(calls, worker, running(program))
            assert name_of(failed) == "EACCES", program
        free = await zygote.start("executed" if kind == "deno" else "forked", "micro/bob")
        with pytest.raises(ConnectionError):
            await asyncio.to_thread(calls, free, running("/bin/true"))
        await until(lambda: any(one.pid == free.pid for one in exits))
        assert next(one.code for one in exits if one.pid == free.pid) == 0


def test_no_other_program_is_run_by_what_makes_bundles() -> None:
    with by_itself("bundler") as (reader, writer, _):
        ((_, failed),) = asked(reader, writer, running("/bin/true"))
        assert failed == errno.EACCES
    with by_itself("piped") as (reader, writer, _), pytest.raises(ConnectionError):
        asked(reader, writer, running("/bin/true"))


def calls(worker: Worker, made: list[list[Any]]) -> list[tuple[int, int]]:
    with connected(worker.socket) as (reader, writer):
        return asked(reader, writer, made)


async def test_workers_die_with_the_zygote_whatever_they_try() -> None:
    async with attackers() as (zygote, _):
        lost = asyncio.Event()
        zygote.listen(lambda _: None, lost.set)
        worker = await zygote.start("quickjs", "micro/mallory")
        outlive = [[syscall_nr("prctl"), 1, 0, 0, 0, 0], [syscall_nr("setsid")]]
        found = await asyncio.to_thread(calls, worker, outlive)
        assert [name_of(failed) for _, failed in found] == ["EPERM", "EPERM"]


async def test_the_memory_of_a_worker_counts() -> None:
    """Half as much again as it may have is refused to native code, too."""
    async with attackers() as (zygote, _):
        worker = await zygote.start("quickjs", "micro/mallory")
        much = [[syscall_nr("mmap"), 0, profiles.ADDRESS_SPACE, 3, 0x4022, -1, 0]]
        ((_, failed),) = await asyncio.to_thread(calls, worker, much)
        assert failed == errno.ENOMEM
        free = await zygote.start("forked", "micro/bob")
        ((_, failed),) = await asyncio.to_thread(calls, free, much)
        assert failed == 0


def test_the_egress_finds_names_and_keeps_its_log_short(tmp_path: Path) -> None:
    program = f"""
import encodings.idna, os, socket
from microcosmos.functions.egress import decisions
from microcosmos.functions.walls import enter
decisions.MAX_FILE = 10_000
log = decisions.Decisions({str(tmp_path / "log")!r})
enter("egress")
print(socket.getaddrinfo("localhost", 80)[0][4][1])
for number in range(2000):
    log._write(b"%d is a line of the log\\n" % number)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("80\n", "")
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[-1] == "1999 is a line of the log"
    assert 100 < len(lines) < 1000
