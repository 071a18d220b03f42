"""Blobs do the same on every backend."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import Op, Scope, Store, open_store
from microcosmos.store.blobs import Blob, Blobs, blob, shelf, uploads
from microcosmos.store.blobs.shelf import KEEP
from microcosmos.store.blobs.sweeper import ABANDONED, SWEEP_EVERY
from microcosmos.store.blobs.uploads import FINISHED
from microcosmos.store.memory import MemoryStore

from .breaking import BreakingStore
from .conformance import Open
from .postgres import Postgres
from .test_index import until
from .test_service import Hall

CHUNK = 1000


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 1000 bytes, of which 4000 are appended at once."""
    for module in (blob, shelf, uploads):
        monkeypatch.setattr(module, "CHUNK", CHUNK)
    blobs = "microcosmos.store.blobs.blobs"
    monkeypatch.setattr(f"{blobs}.CHUNK", CHUNK)
    monkeypatch.setattr(f"{blobs}.MAX_APPEND", 4 * CHUNK)
    monkeypatch.setattr(uploads, "MAX_APPEND", 4 * CHUNK)


def some(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def read(blobs: Blobs, key: str, **part: Any) -> bytes:
    return b"".join([piece async for piece in blobs.read(key, **part)])


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def chunks(plain: Store) -> int:
    return await plain.part("blobs/chunks").count()


class BlobConformance:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def opened_blobs(self, opened: Open, clock: ManualClock) -> Any:
        @asynccontextmanager
        async def both() -> AsyncIterator[tuple[Store, Blobs]]:
            async with opened() as plain:
                yield plain, Blobs(plain, clock=clock, max_size=20 * CHUNK)

        return both

    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 9500])
    async def test_what_is_written_is_read(
        self, opened_blobs: Any, clock: ManualClock, size: int
    ) -> None:
        data = some(size)
        async with opened_blobs() as (_, blobs):
            made = await blobs.write("k", data, content_type="text/x", metadata={"a": "b"})
            wanted = Blob(
                key="k",
                size=size,
                sha256=sha256(data).hexdigest(),
                content_type="text/x",
                metadata={"a": "b"},
                created=clock.time(),
                version=made.version,
            )
            assert made == wanted == await blobs.info("k")
            assert made.version > 0
            assert await blobs.list() == [wanted]
            assert await read(blobs, "k") == data

    async def test_sources(self, opened_blobs: Any, tmp_path: Path) -> None:
        data = some(9500)
        (tmp_path / "file").write_bytes(data)
        async with opened_blobs() as (plain, blobs):
            with (tmp_path / "file").open("rb") as file:
                for source in (
                    data,
                    bytearray(data),
                    memoryview(data),
                    io.BytesIO(data),
                    file,
                    pieces(data, 1),
                    pieces(data, 3333),
                    pieces(data, 9500),
                ):
                    made = await blobs.write("k", source)
                    assert made.sha256 == sha256(data).hexdigest()
            assert await read(blobs, "k") == data
            for bad in ("text", None, 7, [b"a"], pieces("text", 1)):  # type: ignore[arg-type]
                with pytest.raises(errors.BadRequest):
                    await blobs.write("bad", bad)
            assert [each.key for each in await blobs.list()] == ["k"]
            assert await plain.part("blobs/uploads").list() == []

    async def test_parts(self, opened_blobs: Any) -> None:
        data = some(3500)
        async with opened_blobs() as (_, blobs):
            await blobs.write("k", data)
            for offset in (0, 1, 999, 1000, 1001, 2999, 3499, 3500):
                for length in (0, 1, 999, 1000, 1001, 3500, 9999, None):
                    end = None if length is None else offset + length
                    part = await read(blobs, "k", offset=offset, length=length)
                    assert part == data[offset:end]
            for bad in ({"offset": 3501}, {"offset": -1}, {"length": -1}, {"offset": "1"}):
                with pytest.raises(errors.BadRequest):
                    await read(blobs, "k", **bad)

    async def test_what_is_not_there(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (_, blobs):
            with pytest.raises(errors.NotFound, match="no blob 'k'"):
                await read(blobs, "k")
            with pytest.raises(errors.NotFound, match="no blob 'k'"):
                await blobs.info("k")
            await blobs.delete("k")
            assert await blobs.list() == []

    async def test_lists(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (plain, blobs):
            for key in ("a/1", "a/2", "a/3", "b"):
                await blobs.write(key, key.encode())
            assert [each.key for each in await blobs.list("a/", limit=2)] == ["a/1", "a/2"]
            assert [each.key for each in await blobs.list("a/", after="a/2")] == ["a/3"]
            assert await Blobs(plain.table("other")).list() == []

    async def test_bad_input(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (_, blobs):
            for key, more in (
                ("", {}),
                ("\ud800", {}),
                ("k", {"content_type": ""}),
                ("k", {"content_type": "a\nb"}),
                ("k", {"metadata": {"a": 1}}),
            ):
                with pytest.raises(errors.BadRequest):
                    await blobs.write(key, b"", **more)
            with pytest.raises(errors.TooLarge):
                await blobs.write("k" * 1025, b"")
            with pytest.raises(errors.TooLarge, match="metadata"):
                await blobs.write("k", b"", metadata={"a": "x" * 9000})

    async def test_too_large(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (plain, blobs):
            await blobs.write("k", some(20 * CHUNK))
            with pytest.raises(errors.TooLarge, match="'k' has more than 20000 bytes"):
                await blobs.write("k", some(20 * CHUNK + 1))
            assert (await blobs.info("k")).size == 20 * CHUNK
            await blobs.sweep()
            assert await chunks(plain) == 21

    async def test_compare_and_set(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (_, blobs):
            first = await blobs.write("k", b"1", version=0)
            with pytest.raises(errors.Conflict, match=f"'k' is at version {first.version}, not 0"):
                await blobs.write("k", b"2", version=0)
            with pytest.raises(errors.Conflict):
                await blobs.delete("k", version=first.version + 1)
            second = await blobs.write("k", b"3", version=first.version)
            assert (await read(blobs, "k"), second.version > first.version) == (b"3", True)
            await blobs.delete("k", version=second.version)

    async def test_a_source_that_fails_changes_nothing(self, opened_blobs: Any) -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield some(5000)
            raise OSError("gone")

        async with opened_blobs() as (plain, blobs):
            await blobs.write("k", b"old")
            with pytest.raises(OSError, match="gone"):
                await blobs.write("k", failing())
            assert await read(blobs, "k") == b"old"
            await blobs.sweep()
            assert await chunks(plain) == 1

    # Replacing

    async def test_a_reader_gets_what_was_there_when_it_began(
        self, opened_blobs: Any, clock: ManualClock
    ) -> None:
        old, new = some(3500, 1), some(3500, 2)
        async with opened_blobs() as (plain, blobs):
            await blobs.write("k", old)
            reading = blobs.read("k")
            got = await anext(reading)
            await blobs.write("k", new)
            assert await read(blobs, "k") == new
            # Each look lets it stay for as long again.
            for _ in range(3):
                await clock.advance(KEEP - 1)
                await blobs.sweep()
                got += await anext(reading)
            assert got == old
            await reading.aclose()
            await clock.advance(KEEP)
            assert await blobs.sweep() == 1
            assert await chunks(plain) == 5

    async def test_a_reader_that_was_too_slow_is_told(
        self, opened_blobs: Any, clock: ManualClock
    ) -> None:
        async with opened_blobs() as (_, blobs):
            await blobs.write("k", some(3500))
            reading = blobs.read("k")
            await anext(reading)
            await blobs.delete("k")
            await clock.advance(KEEP)
            assert await blobs.sweep() == 1
            with pytest.raises(errors.Conflict, match="'k' was replaced or deleted"):
                await anext(reading)

    async def test_readers_see_one_content_whole(self, opened_blobs: Any) -> None:
        contents = [some(2500, seed) for seed in range(4)]
        async with opened_blobs() as (_, blobs):
            await blobs.write("k", contents[0])

            async def write(data: bytes) -> None:
                await blobs.write("k", pieces(data, 700))

            async def look() -> None:
                for _ in range(5):
                    assert await read(blobs, "k") in contents

            await asyncio.gather(*map(write, contents), look(), look())
            assert await read(blobs, "k") in contents

    # Uploads

    async def test_an_upload_goes_on_where_it_was(self, opened_blobs: Any, opened: Open) -> None:
        data = some(9500)
        async with opened_blobs() as (plain, blobs):
            upload = await blobs.begin("k", content_type="text/x")
            assert (upload.key, upload.size) == ("k", 0)
            await blobs.append(upload.id, 0, data[:2700])
            with pytest.raises(errors.NotFound):
                await blobs.info("k")
            # Another process goes on, which has not seen the beginning.
            other = Blobs(plain)
            at = (await other.upload(upload.id)).size
            assert at == 2700
            while at < len(data):
                at = (await other.append(upload.id, at, data[at : at + 1300])).size
            made = await other.finish(upload.id, sha256=sha256(data).hexdigest())
            assert (made.size, made.content_type) == (9500, "text/x")
            assert await read(blobs, "k") == data
            assert await chunks(plain) == 11

    async def test_a_piece_may_come_twice(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (_, blobs):
            upload = await blobs.begin("k")
            await blobs.append(upload.id, 0, b"one")
            assert (await blobs.append(upload.id, 0, b"one")).size == 3
            for offset, data in ((0, b"two"), (2, b"e"), (4, b"x"), (0, b"on")):
                with pytest.raises(
                    errors.Conflict, match=f"has 3 bytes; go on there, not at {offset}"
                ):
                    await blobs.append(upload.id, offset, data)
            many = [blobs.append(upload.id, 3, b"two") for _ in range(5)]
            assert {each.size for each in await asyncio.gather(*many)} == {6}
            assert (await blobs.append(upload.id, 6, b"")).size == 6
            first, again = [await blobs.finish(upload.id) for _ in range(2)]
            assert first == again == await blobs.info("k")
            assert await read(blobs, "k") == b"onetwo"

    async def test_the_end_of_an_upload_is_remembered_for_a_while(
        self, opened_blobs: Any, clock: ManualClock
    ) -> None:
        async with opened_blobs() as (_, blobs):
            upload = await blobs.begin("k")
            await blobs.finish(upload.id)
            await clock.advance(FINISHED)
            for ask in (blobs.finish(upload.id), blobs.append(upload.id, 0, b"")):
                with pytest.raises(errors.NotFound, match="begin it again"):
                    await ask

    async def test_bad_uploads(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (_, blobs):
            upload = await blobs.begin("k")
            for args in ((0, "text"), (-1, b""), ("0", b""), (None, b"")):
                with pytest.raises(errors.BadRequest):
                    await blobs.append(upload.id, *args)
            with pytest.raises(errors.TooLarge):
                await blobs.append(upload.id, 0, bytes(4 * CHUNK + 1))
            for id in ("", "x", "../a", "0" * 32, None):
                with pytest.raises(errors.NotFound):
                    await blobs.append(id, 0, b"a")
                with pytest.raises(errors.NotFound):
                    await blobs.upload(id)
                await blobs.discard(id)

    async def test_something_else_came(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (plain, blobs):
            upload = await blobs.begin("k")
            await blobs.append(upload.id, 0, b"abc")
            with pytest.raises(errors.BadRequest, match="SHA-256"):
                await blobs.finish(upload.id, sha256="0" * 64)
            with pytest.raises(errors.NotFound):
                await blobs.upload(upload.id)
            await blobs.sweep()
            assert await chunks(plain) == 0

    async def test_uploads_have_a_number(
        self, opened_blobs: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(uploads, "MAX_OPEN", 2)
        async with opened_blobs() as (_, blobs):
            first = await blobs.begin("k")
            await blobs.begin("k")
            with pytest.raises(errors.TooManyRequests, match="2 uploads are open"):
                await blobs.begin("k")
            await blobs.finish(first.id)
            await blobs.discard((await blobs.begin("k")).id)
            await blobs.begin("k")

    async def test_an_abandoned_upload_is_removed(
        self, opened_blobs: Any, clock: ManualClock
    ) -> None:
        async with opened_blobs() as (plain, blobs):
            left, used = await blobs.begin("left"), await blobs.begin("used")
            await blobs.append(left.id, 0, some(2500))
            await clock.advance(ABANDONED - 1)
            await blobs.append(used.id, 0, some(500))
            assert await blobs.sweep() == 0
            await clock.advance(1)
            assert await blobs.sweep() == 1
            assert await chunks(plain) == 1
            with pytest.raises(errors.NotFound):
                await blobs.append(left.id, 2500, b"x")
            await blobs.finish(used.id)

    async def test_sweeping_goes_on_while_it_is_entered(
        self, opened_blobs: Any, clock: ManualClock
    ) -> None:
        async with opened_blobs() as (plain, blobs):
            await blobs.write("k", some(2500))
            await blobs.delete("k")
            async with blobs:
                while await chunks(plain):
                    await clock.advance(SWEEP_EVERY)
            await until(lambda: _none(asyncio.all_tasks()))

    # Damage

    @pytest.mark.parametrize("number", [0, 2])
    async def test_a_damaged_chunk_is_named(self, opened_blobs: Any, number: int) -> None:
        async with opened_blobs() as (plain, blobs):
            await blobs.write("k", some(3500))
            table = plain.part("blobs/chunks")
            keys = [key for key in await table.list() if f"/{number:05d}/" in key]
            await table.write(keys[0], b"something else")
            with pytest.raises(errors.Error, match=f"chunk {number} of the blob 'k' is damaged"):
                await read(blobs, "k")
            assert await read(blobs, "k", offset=1000, length=1000) == some(3500)[1000:2000]
            await table.delete(keys[0])
            with pytest.raises(errors.Error, match=f"chunk {number} of the blob 'k' is missing"):
                await read(blobs, "k")

    async def test_a_damaged_list_of_chunks_is_named(self, opened_blobs: Any) -> None:
        async with opened_blobs() as (plain, blobs):
            await blobs.write("k", some(3500))
            table = plain.part("blobs/chunks")
            [listed] = [key for key in await table.list() if "/" not in key]
            hashes = (await table.read(listed)).value
            await table.write(listed, hashes[32:64] + hashes[:32] + hashes[64:])
            with pytest.raises(errors.Error, match="list of chunks of the blob 'k' is damaged"):
                await read(blobs, "k")


async def _none(tasks: Any) -> bool:
    return not [task for task in tasks if task.get_name().startswith("blobs of")]


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("writes", range(9))
async def test_a_crash_leaves_a_blob_whole_and_nothing_behind(writes: int, told: bool) -> None:
    old, new = some(5500, 1), some(9500, 2)
    clock = ManualClock()
    store = BreakingStore(clock=clock)
    async with store as plain:
        await Blobs(plain, clock=clock).write("k", old)
        store.left, store.told = writes, told
        dying = Blobs(plain, clock=clock)
        for step in (dying.write("k", new), dying.delete("k")):
            try:
                await step
            except errors.Unavailable:
                store.left = min(store.left, 0)
        store.left = 1_000_000
        blobs = Blobs(plain, clock=clock)
        there = {each.key: each.size for each in await blobs.list()}
        assert there in ({"k": 5500}, {"k": 9500}, {})
        if there:
            assert await read(blobs, "k") in (old, new)
        await clock.advance(ABANDONED)
        # A sweep that is ended anywhere goes on as well.
        store.left = 1
        with suppress(errors.Unavailable):
            await blobs.sweep()
        store.left = 1_000_000
        await blobs.sweep()
        assert await chunks(plain) == {5500: 7, 9500: 11}.get(there.get("k", 0), 0)
        assert await plain.part("blobs/uploads").list() == []
        assert await plain.part("blobs/trash").list() == []


class LingeringStore(MemoryStore):
    """A store in memory whose answer to one write comes only when it is let go."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.lingers_at = 0
        self.done, self.let_go = asyncio.Event(), asyncio.Event()

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        version = await super().apply(scope, ops)
        self.lingers_at -= 1
        if self.lingers_at == 0:
            self.done.set()
            await self.let_go.wait()
        return version


@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_write_that_is_cancelled_during_a_step_leaves_nothing(at: int) -> None:
    store = LingeringStore()
    async with store as plain:
        blobs = Blobs(plain)
        await blobs.write("k", b"old")
        # It is begun, gets two pieces, is finished.
        store.lingers_at = at
        writing = asyncio.ensure_future(blobs.write("k", bytes(5000)))
        await store.done.wait()
        writing.cancel()
        store.let_go.set()
        await asyncio.wait([writing])
        assert writing.cancelled()
        assert await plain.part("blobs/uploads").list() == []
        assert await read(blobs, "k") == (bytes(5000) if at == 4 else b"old")


class TestMemory(BlobConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock) -> Open:
        return lambda: open_store("memory://", clock=clock)


class TestSQLite(BlobConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock, tmp_path: Path) -> Open:
        return lambda: open_store(f"sqlite://{tmp_path}/store.db", clock=clock)


class TestPostgres(BlobConformance):
    @pytest.fixture
    def opened(self, clock: ManualClock, postgres: Postgres) -> Open:
        url = postgres.empty()
        return lambda: open_store(url, clock=clock)


class TestOverRpc(BlobConformance):
    """A service's own table, by its account."""

    @pytest.fixture
    def opened(self, clock: ManualClock) -> Open:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Store]:
            async with open_store("memory://", clock=clock) as store:
                yield Hall(store, verified=True).of("shop")

        return opened
