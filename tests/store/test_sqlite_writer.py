"""The writer's thread: what is asked for is done, or undone whole."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from microcosmos.store.sqlite_writer import Writer


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "numbers.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as opened:
        opened.execute("CREATE TABLE numbers (n)")
        yield opened


def add(number: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        return number

    return work


def break_off(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO numbers VALUES (666)")
    raise ValueError("in the middle")


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]


async def test_work_that_breaks_off_is_undone_alone(connection: sqlite3.Connection) -> None:
    writer = Writer(connection)
    outcomes = await asyncio.gather(
        writer.run(add(1)), writer.run(break_off), writer.run(add(2)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [int, ValueError, int]
    assert await writer.run(add(3)) == 3
    await writer.close()
    assert numbers(connection) == [1, 2, 3]


async def test_work_asked_for_in_the_last_turn_is_done(connection: sqlite3.Connection) -> None:
    writer = Writer(connection)
    asked = [asyncio.create_task(writer.run(add(n))) for n in range(3)]
    await asyncio.sleep(0)
    await writer.close()
    assert await asyncio.gather(*asked) == [0, 1, 2]
    assert numbers(connection) == [0, 1, 2]


async def test_more_work_than_one_commit_takes(connection: sqlite3.Connection) -> None:
    writer = Writer(connection)
    await asyncio.gather(*(writer.run(add(n)) for n in range(2500)))
    await writer.close()
    assert numbers(connection) == list(range(2500))
