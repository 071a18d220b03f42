"""What PostgreSQL adds: many processes on one database, which may go away and come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import Delete, Store, Write, open_store
from microcosmos.store.watch import REMEMBERED_FOR

from .conformance import has_happened, purged, take
from .postgres import Postgres

WITHOUT_ASYNCPG = """
import sys
sys.modules["asyncpg"] = None
from microcosmos.base import errors
from microcosmos.store import open_store
try:
    open_store("postgres://localhost/x")
except errors.BadRequest as exc:
    print(exc)
"""


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.empty()


@pytest.fixture
def stopped(postgres: Postgres) -> Iterator[Postgres]:
    """A server that may be found stopped, and is started for the next test."""
    yield postgres
    with contextlib.suppress(subprocess.CalledProcessError):
        postgres.start()


# Many processes


async def test_two_stores_share_a_database(url: str) -> None:
    async with open_store(url) as ours, open_store(url) as theirs:
        first = await ours.write("a", b"1")
        assert (await theirs.read("a")).version == first
        with pytest.raises(errors.Conflict):
            await theirs.write("a", b"2", version=0)
        second = await theirs.write("a", b"2", version=first)
        assert second > first
        with pytest.raises(errors.Conflict):
            await ours.delete("a", version=first)


async def test_opened_by_many_at_once(url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opening = [stack.enter_async_context(open_store(url)) for _ in range(5)]
        for number, store in enumerate(await asyncio.gather(*opening)):
            await store.write(str(number), b"")
        assert await store.count() == 5


async def test_no_change_by_many_is_lost(url: str) -> None:
    async with open_store(url) as ours, open_store(url) as theirs:

        async def grow(store: Store) -> None:
            for _ in range(20):
                await store.modify("n", lambda n: (n or 0) + 1)

        await asyncio.gather(*(grow(store) for store in (ours, theirs) for _ in range(2)))
        assert await ours.get("n") == 80


async def test_a_watcher_skips_no_version_of_others(url: str) -> None:
    """Versions are visible in their order, though many transactions run at once."""
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store(url)) for _ in range(4)]
        changes = await stack.enter_async_context(stores[0].watch())

        async def write(name: int) -> list[int]:
            return [await stores[name].write(f"{name}-{n}", b"") for n in range(50)]

        written = sorted(chain(*await asyncio.gather(*map(write, range(4)))))
        seen = await take(changes, 200)
        assert [change.version for change in seen] == written
        assert len({*written}) == 200


async def test_a_notice_of_many_tables(url: str) -> None:
    names = ["t" * 90 + str(number) for number in range(300)]
    async with (
        open_store(url) as ours,
        open_store(url) as theirs,
        ours.table(names[250]).watch() as changes,
    ):
        await theirs.batch([Write("a", b"", table=name) for name in names])
        assert [change.key for change in await take(changes, 1)] == ["a"]


async def test_one_statement_too_large_to_send(url: str) -> None:
    async with open_store(url) as store:
        await store.batch([Write(f"k{n}", bytes(9 << 20)) for n in range(5)])
        assert [len(record.value) for record in await store.read()] == [9 << 20] * 5


async def test_what_is_purged_leaves_the_tables(url: str, postgres: Postgres) -> None:
    clock = ManualClock()
    async with open_store(url, clock=clock) as store:
        await store.batch([Write(f"k{n}", b"", expiry=5) for n in range(1200)])
        await store.write("stays", b"")
        await clock.advance(REMEMBERED_FOR)
        left: list[object] = [0, 0]

        async def look() -> None:
            while left != [1, 0]:
                for place, table in enumerate(["records", "deletes"]):
                    rows = await postgres.ask(f"SELECT count(*) FROM microcosmos.{table}")
                    left[place] = rows[0][0]

        looking = asyncio.ensure_future(look())
        await clock.advance(REMEMBERED_FOR)
        await purged(store, clock, looking.done)
        assert await store.list() == ["stays"]


# A database that goes away


async def test_no_acknowledged_write_is_lost_by_a_crash(url: str, stopped: Postgres) -> None:
    acknowledged: dict[str, int] = {}
    refused: set[str] = set()
    done = False

    async def write(store: Store, name: str) -> None:
        number = 0
        while not done:
            key = f"{name}-{number}"
            try:
                acknowledged[key] = await store.write(key, key.encode(), version=0)
                number += 1
            except errors.Unavailable as exc:
                if "not known" not in exc.detail:
                    refused.add(key)
                number += 1
                await asyncio.sleep(0)

    async def count(more: int) -> None:
        wanted = len(acknowledged) + more
        async with store.watch(prefix="0-") as changes:
            while len(acknowledged) < wanted:
                await take(changes, 1)

    async with open_store(url) as store, open_store(url) as other:
        writing = [asyncio.create_task(write(s, f"{n}")) for n in range(8) for s in (store,)]
        writing += [asyncio.create_task(write(other, f"other{n}")) for n in range(8)]
        for how in ("immediate", "fast", "immediate"):
            async with asyncio.timeout(60):
                await count(200)
            await asyncio.to_thread(stopped.stop, how)
            await asyncio.to_thread(stopped.start)
        async with asyncio.timeout(60):
            await count(200)
        done = True
        await asyncio.gather(*writing)
        kept = {record.key: record for record in await store.read()}
    assert acknowledged.keys() - kept.keys() == set()
    assert all(kept[key].version == version for key, version in acknowledged.items())
    assert all(record.value == key.encode() for key, record in kept.items())
    assert refused
    assert refused & kept.keys() == set()


async def test_away_is_unavailable_and_heals(url: str, stopped: Postgres) -> None:
    async with open_store(url) as store, store.watch() as changes:
        await store.write("a", b"")
        await take(changes, 1)
        await asyncio.to_thread(stopped.stop)
        for ask in (store.read("a"), store.write("b", b""), store.list(), store.version()):
            with pytest.raises(errors.Unavailable, match=r"postgres://postgres:\[secret\]@"):
                await ask
        with pytest.raises(errors.Unavailable):
            async with store.watch():
                pass
        with pytest.raises(errors.Unavailable):
            async with store.frozen():
                pass
        with pytest.raises(errors.Unavailable, match=r"\[secret\]@"):
            async with open_store(stopped.url(password="hunter2")):
                pass
        await asyncio.to_thread(stopped.start)
        assert await store.list() == ["a"]
        await store.write("b", b"")
        assert [change.key for change in await take(changes, 1)] == ["b"]
        async with store.watch() as more:
            await store.write("c", b"")
            assert [change.key for change in await take(more, 1)] == ["c"]


async def test_a_missed_notice_heals(url: str, postgres: Postgres) -> None:
    async with open_store(url) as store, store.watch() as changes:
        await store.write("a", b"")
        await take(changes, 1)
        # With a time it returns once they are gone: a write in flight would have no known outcome.
        await postgres.ask(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%'"
            " OR (application_name = 'microcosmos' AND pid <> pg_backend_pid())"
        )
        await store.batch([Write("b", b""), Delete("a")])
        assert [change.key for change in await take(changes, 2)] == ["a", "b"]


async def test_closing_while_the_database_is_away(url: str, stopped: Postgres) -> None:
    async with asyncio.timeout(60):
        async with open_store(url) as store, store.watch():
            await store.write("a", b"")
            await asyncio.to_thread(stopped.stop)
        with pytest.raises(errors.Unavailable):
            await store.read("a")
        with pytest.raises(errors.Unavailable, match="closed"):
            await store.write("a", b"")


class Wire:
    """A door to the server that is shut at the word COMMIT, before it goes on or after.

    Args:
        folder: where the server's socket is.
        when: ``before`` or ``after``.
    """

    def __init__(self, folder: Path, when: str) -> None:
        self._folder = folder
        self._when = when
        self.cut = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/.s.PGSQL.5432"
            server = await asyncio.start_unix_server(self._serve, path)
            try:
                yield f"postgres://postgres:hunter2@/postgres?host={folder}"
            finally:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_unix_connection(f"{self._folder}/.s.PGSQL.5432")
        back = asyncio.create_task(_pass(theirs, writer))
        while data := await reader.read(1 << 16):
            if self.cut and b"COMMIT\x00" in data:
                self.cut = False
                back.cancel()
                await asyncio.wait([back])
                if self._when == "after":
                    to_them.write(data)
                    await theirs.read(1)  # the answer, which goes no further
                break
            to_them.write(data)
        back.cancel()
        for end in (writer, to_them):
            end.close()
            await end.wait_closed()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def test_a_commit_without_an_answer_is_looked_up(url: str, postgres: Postgres) -> None:
    wire = Wire(postgres.folder, "after")
    async with wire.open() as broken, open_store(broken) as store:
        wire.cut = True
        version = await store.write("a", b"1", version=0)
        assert (await store.read("a")).version == version
        assert not wire.cut


async def test_a_commit_that_never_arrived_is_told(url: str, postgres: Postgres) -> None:
    wire = Wire(postgres.folder, "before")
    async with wire.open() as broken, open_store(broken) as store:
        wire.cut = True
        with pytest.raises(errors.Unavailable, match="nothing was changed") as caught:
            await store.write("a", b"1", version=0)
        assert "hunter2" not in str(caught.value)
        assert await store.list() == []
        assert not wire.cut
        await store.write("a", b"1", version=0)


# What is refused


async def test_a_newer_format_is_refused(url: str, postgres: Postgres) -> None:
    async with open_store(url):
        pass
    await postgres.ask("UPDATE microcosmos.revision SET format = 99")
    with pytest.raises(errors.Error, match="newer version"):
        async with open_store(url):
            pass


async def test_a_schema_of_another_program_is_left_alone(url: str, postgres: Postgres) -> None:
    await postgres.ask("CREATE SCHEMA microcosmos")
    with pytest.raises(errors.Error, match="some other program; name another database"):
        async with open_store(url):
            pass


async def test_a_user_without_rights(url: str, postgres: Postgres) -> None:
    await postgres.ask("DROP ROLE IF EXISTS guest")
    await postgres.ask("CREATE ROLE guest LOGIN")
    with pytest.raises(errors.Unavailable, match=r"permission denied.*grant its user"):
        async with open_store(postgres.url(user="guest")):
            pass


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("postgres://u:hunter2@/nope?host={folder}", "nope"),
        ("postgres://u:hunter2@/postgres?host={folder}/nowhere", "No such file"),
        ("postgres://u:hunter2@127.0.0.1:1/x", "refused|Connect call failed"),
        ("postgres://u:hunter2@127.0.0.1:port/x", "is no URL like"),
        ("postgresql://u:hunter2@h:1,h:2,h:3x/x", "is no URL like"),
        ("postgres://u:hunter2@localhost/x?sslmode=hunter2", "is no URL like"),
    ],
)
async def test_what_cannot_be_opened_tells_no_password(
    postgres: Postgres, url: str, match: str
) -> None:
    with pytest.raises(errors.Error, match=match) as caught:
        async with open_store(url.format(folder=postgres.folder)):
            pass
    told = str(caught.value)
    assert "hunter2" not in told.replace("sslmode=hunter2", "")
    assert "\n" not in told
    assert caught.value.__cause__ is None


def test_without_asyncpg_the_way_out_is_told() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", WITHOUT_ASYNCPG]
    told = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
    assert told == "store: PostgreSQL needs asyncpg: pip install 'microcosmos[postgres]'\n"


async def test_no_password_where_people_look(url: str) -> None:
    async with open_store(url.replace(":@", ":hunter2@")) as store:
        assert "hunter2" not in repr(store)
        await has_happened_at_all(store)


async def has_happened_at_all(store: Store) -> None:
    async with store.watch() as changes:
        await store.write("a", b"")
        await has_happened(changes, "a")
