"""What services leave behind in the store is removed without them."""

from __future__ import annotations

from typing import Any

from microcosmos.base.clock import ManualClock
from microcosmos.server.tidying import tidy
from microcosmos.store import PLATFORM, open_store
from microcosmos.store.blobs import Blobs
from microcosmos.store.index import Indexed

MONTH = 30 * 24 * 3600.0


def size(value: Any) -> int:
    return len(value)


async def test_indexes_blobs_and_uploads_of_services_that_are_gone() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        table = store.table("shop", database="foo")
        async with Indexed(table, clock=clock) as indexed:
            index = indexed.index("size", size)
            await indexed.set("a", "xyz")
            assert [row.key for row in await index.get(3)] == ["a"]
        blobs = Blobs(table, clock=clock)
        await blobs.write("kept", b"kept")
        await blobs.write("gone", b"gone")
        await blobs.delete("gone")
        await blobs.begin("abandoned")
        await store.table("own", database=PLATFORM).set("a", 1)
        before = await store.table(database="foo").tables()
        assert any("$index" in name for name in before)
        assert "shop$blobs/trash" in before
        await tidy(store, clock)
        assert await store.table(database="foo").tables() == before
        await clock.advance(MONTH)
        await tidy(store, clock)
        after = await store.table(database="foo").tables()
        assert not any("$index" in name for name in after)
        assert "shop$blobs/trash" not in after
        assert "shop$blobs/uploads" not in after
        assert b"".join([chunk async for chunk in blobs.read("kept")]) == b"kept"
        assert await table.list() == ["a"]
