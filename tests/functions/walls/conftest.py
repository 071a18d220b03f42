"""What attackers of each kind got, within their walls and without: each tries everything once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from microcosmos.functions.walls import run
from microcosmos.functions.zygote.client import ZygoteClient, open_zygote

from ..zygotes import home
from .attempts import ATTEMPTS, Attempt

HERE = Path(__file__).parent
FORKED = ("quickjs", "wasm", "looker", "monty", "forked")

Got = dict[str, int]
"""By the name of an attempt, the errno of its first call that failed; 0 is success."""


@pytest.fixture(scope="module")
def got(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Got]:
    """What a kind got; tried when it is first asked for."""
    found: dict[str, Got] = {}

    def of(kind: str) -> Got:
        if kind not in found:
            found[kind] = _tried(kind)
        return found[kind]

    return of


def _tried(kind: str) -> Got:
    if kind in ("bundler", "egress", "piped"):
        with (
            surroundings() as values,
            by_itself(kind) as (reader, writer, pid),
            a_sibling(values, pid),
        ):
            return {one.name: outcome(reader, writer, one, values) for one in ATTEMPTS}
    return asyncio.run(_of_a_worker(kind))


async def _of_a_worker(kind: str) -> Got:
    async with attackers() as (zygote, values):
        worker = await zygote.start(kind, "micro/mallory", heap=128 << 20)
        other = await zygote.start("quickjs", "micro/alice")
        values.update(
            parent=_parent(worker.pid), sibling=other.pid, other=other.socket, pid=worker.pid
        )
        return await asyncio.to_thread(_all, worker.socket, values)


def _all(path: str, values: dict[str, Any]) -> Got:
    with connected(path) as (reader, writer):
        return {one.name: outcome(reader, writer, one, values) for one in ATTEMPTS}


@contextlib.contextmanager
def connected(path: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(path)
        with line.makefile("rb") as reader, line.makefile("wb") as writer:
            yield reader, writer


def asked(reader: BinaryIO, writer: BinaryIO, calls: list[list[Any]]) -> list[tuple[int, int]]:
    """The results of calls; ConnectionError if the attacker does not live to tell."""
    writer.write(json.dumps(calls).encode() + b"\n")
    writer.flush()
    if not (line := reader.readline()):
        raise ConnectionError
    return [(result, failed) for result, failed in json.loads(line)]


def outcome(reader: BinaryIO, writer: BinaryIO, one: Attempt, values: dict[str, Any]) -> int:
    results = asked(reader, writer, one.numbers(values))
    return next((failed for _, failed in results if failed), 0)


@contextlib.asynccontextmanager
async def attackers() -> AsyncIterator[tuple[ZygoteClient, dict[str, Any]]]:
    """A zygote of attackers, and what is around them."""
    with home() as place, surroundings() as values:
        (place.path / "secret").write_text("secret")
        values.update(lanes=place.lanes, secret=place.path / "secret")
        async with open_zygote(place, sys.executable, str(HERE / "zygote.py")) as zygote:
            yield zygote, values


@contextlib.contextmanager
def surroundings() -> Iterator[dict[str, Any]]:
    """What is around an attacker: files, and services that answer."""
    name = f"micro-tests-{os.urandom(6).hex()}"
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.create_server(("127.0.0.1", 0)) as service,
    ):
        abstract.bind(f"\0{name}")
        abstract.listen()
        (Path(folder) / "lanes").mkdir()
        for file in ("removed", "renamed", "cut", "kept", "secret"):
            (Path(folder) / file).write_text("x")
        yield {
            "folder": folder,
            "secret": f"{folder}/secret",
            "lanes": f"{folder}/lanes",
            "abstract": name,
            "abstract_size": 3 + len(name),
            "port": service.getsockname()[1],
        }


@contextlib.contextmanager
def by_itself(kind: str) -> Iterator[tuple[BinaryIO, BinaryIO, int]]:
    """An attacker that is no worker, on pipes."""
    argv = [sys.executable, str(HERE / "attacker.py")]
    if kind == "egress":
        argv.append("egress")
    if kind == "bundler":
        python = {sys.prefix, sys.base_prefix, str(HERE)}
        argv = run.command(argv, read=sorted(python), ports=(443,))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout, process.stdin, process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def a_sibling(values: dict[str, Any], pid: int) -> Iterator[None]:
    """Another process of the same user, and what it listens on."""
    with (
        subprocess.Popen(["sleep", "60"]) as sibling,
        socket.socket(socket.AF_UNIX) as one,
        socket.socket(socket.AF_UNIX) as other,
    ):
        try:
            for listener, name in ((one, "zygote.sock"), (other, "other.sock")):
                listener.bind(f"{values['lanes']}/{name}")
                listener.listen()
            values.update(
                parent=os.getpid(), sibling=sibling.pid, other=f"{values['lanes']}/other.sock"
            )
            values["pid"] = pid
            yield
        finally:
            sibling.kill()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def name_of(number: int) -> str:
    return errno.errorcode.get(number, "success")
