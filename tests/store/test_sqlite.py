"""What SQLite adds: durability, shared commits, one process, and clear words when it breaks."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import Store, Write, open_store

WRITER = """
import asyncio, os, sys
from microcosmos.store import open_store

async def write(store, name):
    for number in range(10**9):
        key = f"{name}-{number}"
        await store.write(key, key.encode() * 20)
        os.write(1, f"{key}\\n".encode())

async def main():
    async with open_store(sys.argv[1]) as store:
        await asyncio.gather(*(write(store, name) for name in "abcdefgh"))

asyncio.run(main())
"""

HOLDER = """
import asyncio, sys
from microcosmos.store import open_store

async def main():
    async with open_store(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite://{path}"


@contextmanager
def program(source: str, url: str) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", source, url]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def commits(path: Path) -> int:
    """How many commits the log holds: https://www.sqlite.org/fileformat2.html#the_wal_file."""
    log = path.with_name(path.name + "-wal").read_bytes()
    page_size, salt = struct.unpack(">I", log[8:12])[0], log[16:24]
    frames = range(32, len(log), 24 + page_size)
    # A frame that ends a commit says the size of the database; others say 0.
    return sum(log[at + 8 : at + 16] == salt and log[at + 4 : at + 8] != bytes(4) for at in frames)


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The disk is full for whoever writes beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Durability


async def test_records_and_versions_outlive_the_process(url: str, path: Path) -> None:
    async with open_store(url) as store:
        old = await store.write("a", b"1", metadata={"x": "y"})
        await store.delete("a")
        new = await store.write("a", b"2", metadata={"x": "y"})
    assert not path.with_name("store.db-wal").exists()
    async with open_store(url) as store:
        record = await store.read("a")
        assert (record.value, record.metadata, record.version) == (b"2", {"x": "y"}, new)
        assert await store.write("b", b"") > new > old


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 300, 2000])
async def test_no_acknowledged_write_is_lost_by_a_kill(url: str, after: int) -> None:
    with program(WRITER, url) as process:
        assert process.stdout
        acknowledged = [process.stdout.readline() for _ in range(after)]
        process.kill()
        acknowledged += process.stdout.readlines()
    told = {line.decode().strip() for line in acknowledged if line.endswith(b"\n")}
    async with open_store(url) as store:
        kept = {record.key: record.value for record in await store.read()}
    assert len(told) >= after
    assert told - kept.keys() == set()
    # Each of the 8 may have one more, written but not yet told; none is torn or invented.
    assert len(kept) <= len(told) + 8
    assert all(value == key.encode() * 20 for key, value in kept.items())


async def test_what_was_asked_for_is_written_before_it_closes(url: str) -> None:
    async with open_store(url) as store:
        asked = [asyncio.create_task(store.write(str(n), b"")) for n in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*asked)
    async with open_store(url) as store:
        assert await store.count() == 20


async def test_a_write_after_the_end_is_unavailable(url: str) -> None:
    async with open_store(url) as store:
        pass
    with pytest.raises(errors.Unavailable, match="closed"):
        await store.write("a", b"")
    with pytest.raises(errors.Unavailable, match="closed"):
        await store.read("a")


async def test_a_cancelled_write_disturbs_nobody(url: str) -> None:
    async with open_store(url) as store:
        first, second = (asyncio.create_task(store.write(key, b"")) for key in "ab")
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert await store.has("b")


# Commits


async def test_writes_of_one_turn_share_a_commit(url: str, path: Path) -> None:
    async with open_store(url) as store:
        before = commits(path)
        await asyncio.gather(*(store.write(str(n), b"") for n in range(200)))
        assert commits(path) == before + 1
        await store.write("a", b"")
        await store.write("b", b"")
        assert commits(path) == before + 3


async def test_a_refused_write_does_not_spoil_its_commit(url: str, path: Path) -> None:
    async with open_store(url) as store:
        before = commits(path)
        tries = [store.write(str(n), b"", version=9 if n == 5 else None) for n in range(10)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert isinstance(outcomes[5], errors.Conflict)
        assert await store.count() == 9
        assert commits(path) == before + 1


async def test_a_write_that_fails_on_the_disk_spoils_no_other(url: str) -> None:
    async with open_store(url) as store:
        await store.write("before", b"")
        with files_of_at_most(4 << 20):
            tries = [store.write(str(n), bytes(8 << 20 if n == 5 else 10)) for n in range(10)]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, int)] == [5]
        assert isinstance(outcomes[5], errors.Unavailable)
        assert await store.list() == [*"012346789", "before"]


async def test_a_full_disk_is_unavailable_and_recovers(url: str, path: Path) -> None:
    async with open_store(url) as store:
        await store.write("a", b"1")
        with files_of_at_most(path.with_name("store.db-wal").stat().st_size):
            with pytest.raises(errors.Unavailable, match=r"store\.db: .*(full|I/O)"):
                await store.batch([Write("a", b"2"), Write("b", b"2")])
            assert [record.value for record in await store.read()] == [b"1"]
        await store.write("b", b"3")
    async with open_store(url) as store:
        assert [record.value for record in await store.read()] == [b"1", b"3"]


async def test_expired_records_leave_the_file(url: str, path: Path) -> None:
    clock = ManualClock()
    async with open_store(url, clock=clock) as store:
        await store.batch([Write(str(n), b"", expiry=5) for n in range(2500)])
        await store.write("stays", b"", expiry=500)
        await clock.advance(60)
        while rows(path) > 1:  # three steps of a purge that runs beside us
            await store.write("other", b"")
            await store.delete("other")
        assert await store.list() == ["stays"]


# The file


async def test_one_process_at_a_time(url: str) -> None:
    with program(HOLDER, url) as process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(errors.Conflict, match=f"in process {process.pid}$"):
            await open_and_list(url)
    assert await open_and_list(url) == []


async def test_not_even_this_process_opens_it_twice(url: str) -> None:
    async with open_store(url):
        with pytest.raises(errors.Conflict, match=f"in process {os.getpid()}$"):
            await open_and_list(url)


async def test_others_cannot_read_the_file(url: str, path: Path) -> None:
    async with open_store(url) as store:
        await store.write("a", b"")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("damage", ["overwritten", "truncated", "header"])
async def test_a_damaged_file_is_named_with_the_way_out(url: str, path: Path, damage: str) -> None:
    async with open_store(url) as store:
        await fill(store)
    good = path.read_bytes()
    path.write_bytes(
        {
            "overwritten": b"garbage " * (len(good) // 8),
            "truncated": good[: len(good) // 2],
            "header": bytes(100) + good[100:],
        }[damage]
    )
    with pytest.raises(errors.Error) as caught:
        await open_and_list(url)
    told = str(caught.value)
    assert f"{path} is damaged" in told
    assert "move it away" in told
    assert "\n" not in told
    path.unlink()
    assert await open_and_list(url) == []


async def test_damage_inside_is_told_by_whoever_meets_it(url: str, path: Path) -> None:
    async with open_store(url) as store:
        await fill(store)
    good = path.read_bytes()
    path.write_bytes(good[: 5 * 4096] + os.urandom(len(good) - 5 * 4096))
    with pytest.raises(errors.Error, match="is damaged"):
        await open_and_list(url)


async def test_a_database_of_another_program_is_left_alone(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(errors.Error, match="some other program"):
        await open_and_list(url)
    assert path.read_bytes() == before


async def test_a_newer_format_is_refused(url: str, path: Path) -> None:
    await open_and_list(url)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(errors.Error, match="newer version"):
        await open_and_list(url)


FORMAT_1 = """
CREATE TABLE records (database TEXT NOT NULL, tbl TEXT NOT NULL, key BLOB NOT NULL,
    value BLOB NOT NULL, metadata TEXT, expires REAL, version INTEGER NOT NULL,
    PRIMARY KEY (database, tbl, key)) WITHOUT ROWID;
CREATE INDEX records_expires ON records (expires) WHERE expires IS NOT NULL;
CREATE TABLE revision (last INTEGER NOT NULL);
INSERT INTO revision VALUES (7);
INSERT INTO records VALUES ('micro', 'micro', x'61', x'31', '{"x":"y"}', NULL, 3);
INSERT INTO records VALUES ('micro', 'micro', x'62', x'32', NULL, NULL, 7);
PRAGMA application_id = 0x4D435354;
PRAGMA user_version = 1;
"""


async def test_a_file_of_format_1_is_brought_to_this_one(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FORMAT_1)
    async with open_store(url) as store:
        record = await store.read("a")
        assert (record.value, record.metadata, record.version) == (b"1", {"x": "y"}, 3)
        with pytest.raises(errors.Conflict, match="read anew"):
            # What was deleted by then, nobody knows.
            async with store.watch(since=3):
                pass
        assert await store.write("c", b"") == 8
        await store.delete("a")
    async with open_store(url) as store, store.watch(since=7) as changes:
        seen = [await anext(changes) for _ in range(2)]
        assert [(change.key, change.version) for change in seen] == [("c", 8), ("a", 9)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


async def test_a_file_of_format_1_stays_so_when_the_disk_is_full(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FORMAT_1)
        connection.executemany(
            "INSERT INTO records VALUES ('micro', ?, ?, x'', NULL, NULL, 7)",
            [("t" * 90, f"{number:0100}".encode()) for number in range(2000)],
        )
        connection.commit()
    with files_of_at_most(100_000), pytest.raises(errors.Unavailable):
        await open_and_list(url)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert await open_and_list(url) == ["a", "b"]


async def test_deletes_are_remembered_up_to_a_number(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microcosmos.store.sqlite.MAX_REMEMBERED", 1500)
    clock = ManualClock()
    async with open_store(url, clock=clock) as store:
        since = await store.version()
        keys = [f"k{number:04}" for number in range(4000)]
        await store.batch([Write(key, b"") for key in keys])
        await asyncio.gather(*(store.delete(key) for key in keys))
        looking = True
        while looking:
            await clock.advance(60)
            await store.delete("nothing")
            with closing(sqlite3.connect(path)) as connection:
                [(left,)] = connection.execute("SELECT count(*) FROM deletes")
            looking = left > 1500
        assert left == 1500
        with pytest.raises(errors.Conflict, match="read anew"):
            async with store.watch(since=since):
                pass
        async with store.watch(since=await store.version() - 1000) as changes:
            assert (await anext(changes)).record is None


async def test_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match=r"cannot open .*No such file"):
        await open_and_list(f"sqlite://{tmp_path}/nowhere/store.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(errors.Unavailable, match="folder"):
        await open_and_list(f"sqlite://{tmp_path}/folder")


async def fill(store: Store) -> None:
    await store.batch([Write(f"key {n}", bytes(500)) for n in range(500)])


async def open_and_list(url: str) -> list[str]:
    async with open_store(url) as store:
        return await store.list()
