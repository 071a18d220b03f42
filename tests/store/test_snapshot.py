"""Copies to files and between stores: whole or not at all, and refused when they are damaged."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import PLATFORM, Delete, Store, Write, open_store
from microcosmos.store.snapshot import Copied, restore, snapshot, sync

from .postgres import Postgres


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.snapshot"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def urls(tmp_path: Path, postgres: Postgres) -> dict[str, str]:
    return {
        "memory": "memory://",
        "sqlite": f"sqlite://{tmp_path}/store.db",
        "postgres": postgres.empty(),
    }


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def fill(store: Store) -> None:
    await store.batch([Write(f"k{n:04}", os.urandom(3000)) for n in range(1200)])
    await store.write("é\x00", b"\x00", metadata={"type": "x", "\x00": ""}, expiry=100)
    await store.write("soon", b"", expiry=5)
    await store.table("t", database="other").set("a", {"x": 1})
    await store.table("t", database=PLATFORM).set("a", "secret")


async def content(store: Store) -> dict[tuple[str, str], list[Any]]:
    """All there is, without versions."""
    found = {}
    for database in await store.databases():
        for name in await store.table(database=database).tables():
            records = await store.table(name, database=database).read()
            found[database, name] = [msgspec.structs.replace(r, version=0) for r in records]
    return found


@pytest.mark.parametrize(
    ("old", "new"), [("memory", "sqlite"), ("sqlite", "postgres"), ("postgres", "memory")]
)
async def test_there_and_back(
    urls: dict[str, str], old: str, new: str, file: Path, clock: ManualClock
) -> None:
    async with open_store(urls[old], clock=clock) as store:
        await fill(store)
        told = await snapshot(store, f"file://{file}", clock=clock)
        assert told == Copied(2, 1203, 1203, 0, await store.version(), consistent=True)
        await clock.advance(10)
        before = await content(store)
    async with open_store(urls[new], clock=clock) as store:
        await store.write("k0001", b"another")
        await store.write("stays", b"")
        told = await restore(store, f"file://{file}", clock=clock)
        assert (told.tables, told.records, told.written, told.deleted) == (2, 1202, 1202, 0)
        assert await store.has("stays")
        await store.delete("stays")
        if old != "memory":  # whose records went with it
            assert await store.databases() == ["micro", "other"]
        del before[PLATFORM, "t"]
        assert await content(store) == before
        version = await store.version()
        assert (await restore(store, f"file://{file}", clock=clock)).written == 0
        assert await store.version() == version


async def test_exactly_what_was_there(file: Path, tmp_path: Path) -> None:
    async with open_store("memory://") as store:
        await store.batch([Write(f"k{n:04}", b"1") for n in range(0, 2000, 2)])
        await store.table("t", database="other").write("a", b"")
        await store.table("own", database=PLATFORM).write("a", b"")
        await store.table("t", database="third").write("a", b"")
        await snapshot(store, f"file://{file}", database="micro")
        before = await content(store)
        await store.batch([Write(f"k{n:04}", b"2") for n in range(1, 2000)])
        await store.batch([Write("a", b""), Write("z", b""), Delete("k0000")])
        await store.table("more").batch([Write(str(n), b"") for n in range(1001)])
        told = await restore(store, f"file://{file}", exact=True)
        assert (told.written, told.deleted) == (1000, 1000 + 2 + 1001)
        assert await content(store) == before


async def test_sync(tmp_path: Path) -> None:
    async with (
        open_store(f"sqlite://{tmp_path}/a.db") as old,
        open_store("memory://") as new,
    ):
        await fill(old)
        assert (await sync(old, new)).written == 1203
        assert await new.databases() == ["micro", "other"]
        await old.batch([Delete("k0003"), Write("k0004", b"new"), Write("zz", b"new")])
        told = await sync(old, new)
        assert (told.records, told.written, told.deleted) == (1203, 2, 0)
        assert (await sync(old, new, platform=True, exact=True)).deleted == 1
        assert await new.list() == await old.list()
        assert await new.table("t", database=PLATFORM).get("a") == "secret"
        assert (await sync(old, new, database="other")).tables == 1


async def test_platform_records_only_when_asked_for(file: Path) -> None:
    async with open_store("memory://") as store:
        await fill(store)
        await snapshot(store, f"file://{file}", platform=True)
    async with open_store("memory://") as store:
        with pytest.raises(errors.BadRequest, match="platform's own records"):
            await restore(store, f"file://{file}")
        assert await store.databases() == []
        await restore(store, f"file://{file}", database="other")
        assert await store.databases() == ["other"]
        await restore(store, f"file://{file}", platform=True)
        assert await store.databases() == [PLATFORM, "micro", "other"]
        with pytest.raises(errors.NotFound, match="'nope'"):
            await restore(store, f"file://{file}", database="nope")


async def test_a_snapshot_is_of_one_moment(file: Path, tmp_path: Path) -> None:
    async with open_store(f"sqlite://{tmp_path}/a.db") as store:
        await store.batch([Write(f"k{n:04}", b"1") for n in range(2000)])

        async with store.watch() as changes:

            async def disturb() -> None:
                for n in range(1999, 0, -100):
                    await store.batch([Write(f"k{n:04}", b"2"), Delete(f"k{n - 1:04}")])

            copied, _ = await asyncio.gather(snapshot(store, f"file://{file}"), disturb())
            assert copied.consistent
            assert (await anext(changes)).record is None
    async with open_store("memory://") as store:
        await restore(store, f"file://{file}")
        records = await store.read()
        ones = {record.key for record in records if record.value == b"1"}
        twos = {record.key for record in records if record.value == b"2"}
        # Each batch is there as a whole, and from some moment on none.
        assert len(ones) == 2000 - 2 * len(twos)


async def test_the_file_is_ones_own_and_appears_whole(file: Path) -> None:
    async with open_store("memory://") as store:
        await fill(store)
        file.write_bytes(b"old")
        with files_of_at_most(2 << 20), pytest.raises(errors.Unavailable, match="cannot write"):
            await snapshot(store, f"file://{file}")
        assert [path.name for path in file.parent.iterdir()] == [file.name]
        assert file.read_bytes() == b"old"
        await snapshot(store, f"file://{file}")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [path.name for path in file.parent.iterdir()] == [file.name]


def resealed(data: bytes) -> bytes:
    return data + hashlib.sha256(data).digest()


DAMAGE = {
    "empty": lambda data: b"",
    "a line": lambda data: data.splitlines()[0],
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "one byte more": lambda data: data + b"x",
    "one bit": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "no tail": lambda data: resealed(data[:-32][:-7]),
    "a length": lambda data: resealed(data[:-32] + b"\xff\xff\xff\xff"),
    "no frame": lambda data: resealed(data[:-32] + b"\x00\x00\x00\x01\x00"),
    "another": lambda data: b"SQLite format 3\x00" + data,
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_file_changes_nothing(file: Path, damage: str) -> None:
    async with open_store("memory://") as store:
        await store.batch([Write(f"k{n}", bytes(100)) for n in range(100)])
        await snapshot(store, f"file://{file}")
        await store.write("k1", b"new")
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
        with pytest.raises(errors.BadRequest, match=r"store\.snapshot is (damaged|no snapshot)"):
            await restore(store, f"file://{file}", exact=True)
        assert (await store.read("k1")).value == b"new"


async def test_a_newer_snapshot_is_refused(file: Path) -> None:
    file.write_bytes(resealed(b"microcosmos store snapshot 2\nwhatever"))
    async with open_store("memory://") as store:
        with pytest.raises(errors.BadRequest, match="newer version"):
            await restore(store, f"file://{file}")


@pytest.mark.parametrize("url", ["", "/tmp/x", "file://x", "file:///x/", "http:///x", "file:/x"])
async def test_bad_urls(url: str) -> None:
    async with open_store("memory://") as store:
        for copy in (snapshot, restore):
            with pytest.raises(errors.BadRequest, match="no file like"):
                await copy(store, url)


async def test_places_that_are_none(tmp_path: Path) -> None:
    async with open_store("memory://") as store:
        with pytest.raises(errors.Unavailable, match="No such file or directory"):
            await snapshot(store, f"file://{tmp_path}/nowhere/x")
        with pytest.raises(errors.NotFound, match="there is no file"):
            await restore(store, f"file://{tmp_path}/x")
        with pytest.raises(errors.Unavailable, match="Is a directory"):
            await restore(store, f"file://{tmp_path}")
