"""Processes that are started, awaited and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM
from microcosmos.runtime.children import Children, ending, parse_name, process_name
from microcosmos.runtime.interface import Exit, ProcessSpec

from .platform import until
from .spawner import LocalSpawner


def spec(folder: Path, code: str, name: str = "p") -> ProcessSpec:
    argv = [sys.executable, "-c", code]
    return ProcessSpec(name=name, argv=argv, env={}, cwd=str(folder), log=str(folder / "log"))


@contextlib.asynccontextmanager
async def children() -> AsyncIterator[tuple[Children, LocalSpawner]]:
    async with LocalSpawner() as spawner, Children(spawner, SYSTEM) as room:
        yield room, spawner


async def test_a_command_is_run_to_its_end(tmp_path: Path) -> None:
    async with children() as (room, _):
        assert (await room.run(spec(tmp_path, "raise SystemExit(3)"), 10)).code == 3
        bad = ProcessSpec(name="p", argv=["/none"], env={}, cwd="/", log=str(tmp_path / "l"))
        with pytest.raises(errors.BadRequest):
            await room.run(bad, 10)


async def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    async with children() as (room, spawner):
        with pytest.raises(errors.DeadlineExceeded, match=r"took longer than 0\.2 s"):
            await room.run(spec(tmp_path, "import time; time.sleep(60)"), 0.2)
        await until(lambda: not spawner.living(), "the end")


@pytest.mark.parametrize("early", [True, False])
async def test_who_gives_up_waiting_leaves_no_process(tmp_path: Path, early: bool) -> None:
    async with children() as (room, spawner):
        running = asyncio.create_task(room.run(spec(tmp_path, "import time; time.sleep(60)"), 60))
        if early:
            # While the process is being made.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        else:
            await until(lambda: spawner.started, "the start")
        running.cancel()
        await asyncio.wait([running])
        await until(lambda: not spawner.living(), "the end")


async def test_stopping_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    async with children() as (room, _):
        await room.stop("nobody", 1)


class Forgetful(LocalSpawner):
    """A spawner that lost its notices, as one does whose core was away for too long."""

    async def exits(self, after: int) -> list[Exit]:
        await asyncio.sleep(0.01)
        return []


async def test_an_end_without_a_notice_is_noticed(tmp_path: Path) -> None:
    async with Forgetful() as spawner, Children(spawner, SYSTEM) as room:
        ended = await room.start(spec(tmp_path, "pass"))
        assert (await asyncio.wait_for(ended, 60)).code == -signal.SIGKILL


async def test_an_end_that_was_read_of_before_anybody_waited_is_known(tmp_path: Path) -> None:
    """As by a core that takes over while what it takes over dies."""
    async with children() as (room, spawner):
        await spawner.spawn(spec(tmp_path, "raise SystemExit(3)", "taken-over"))
        await room.run(spec(tmp_path, "pass"), 10)
        await until(lambda: not spawner.living(), "the end")
        await room.run(spec(tmp_path, "pass"), 10)
        for _ in range(2):
            assert (await asyncio.wait_for(room.watch("taken-over"), 60)).code == 3


class Unreachable(LocalSpawner):
    """A spawner that cannot be asked for a moment."""

    tries = 0

    async def exits(self, after: int) -> list[Exit]:
        self.tries += 1
        if self.tries == 1:
            raise errors.ConnectionLost("supervisor", "away")
        return await super().exits(after)


async def test_a_spawner_that_was_away_is_asked_again(tmp_path: Path) -> None:
    async with Unreachable() as spawner, Children(spawner, SYSTEM) as room:
        ended = await room.start(spec(tmp_path, "pass"))
        assert (await asyncio.wait_for(ended, 60)).code == 0


def test_names_tell_whose_a_process_is() -> None:
    name = process_name("v1.foo-bar", "0123abcd", "12", "abcdef")
    assert parse_name(name) == ("v1.foo-bar", "0123abcd", "12")
    for other in ["core", "gateway-0", "nats-server", "a-0123abcd-x-abcdef", "a-0123-0-abcdef"]:
        assert parse_name(other) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with status 0"),
        (-9, "killed by SIGKILL"),
        (-200, "killed by signal 200"),
    ],
)
def test_an_ending_in_words(code: int, words: str) -> None:
    assert ending(Exit(name="p", pid=1, code=code, time=0, sequence=1)) == words
