"""A store is opened by its URL, a third party's by its entry point."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.store import MAX_VALUE, Write, open_store
from microcosmos.store.backend import PURGE_EVERY
from microcosmos.store.memory import MemoryStore
from microcosmos.store.watch import REMEMBERED_FOR

PLUGIN = """
from microcosmos.store import open_store

def open_acme(url, *, clock):
    assert url == "acme://somewhere"
    return open_store("memory://", clock=clock)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third party's package, as pip would lay it out."""
    (tmp_path / "acme_store.py").write_text(PLUGIN)
    info = tmp_path / "acme_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-store\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[microcosmos.store]\nacme = acme_store:open_acme\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("slashes", ["//", "///"])
async def test_the_path_is_taken_as_written(tmp_path: Path, slashes: str) -> None:
    path = tmp_path / "a%20b ?#é.db"
    async with open_store(f"sqlite:{slashes}{path}") as store:
        await store.write("a", b"")
    assert path.exists()


@pytest.mark.usefixtures("installed")
async def test_a_third_party_store_is_found() -> None:
    async with open_store("acme://somewhere") as store:
        await store.set("a", 1)
        assert await store.get("a") == 1


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "url",
    ["", "redis://x", "sqlite://relative.db", "sqlite:///", "memory://x", "/a.db", "postgres://"],
)
def test_a_bad_url_lists_what_is_known(url: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        open_store(url)
    for known in ("memory://", "postgres://user:", "sqlite:///absolute/path.db", "acme://"):
        assert known in str(caught.value)


async def test_expired_records_leave_the_memory() -> None:
    clock = ManualClock()
    backend = MemoryStore(clock=clock)
    async with backend as store:
        await store.write("stays", b"")
        await store.batch([Write("goes", bytes(MAX_VALUE), expiry=5), Write("x", b"", table="t")])
        await store.table("t").delete("x")
        await clock.advance(60)
        assert [*backend._shelves["micro", "micro"].entries] == [b"stays"]
        await clock.advance(REMEMBERED_FOR + PURGE_EVERY)
        [shelf] = backend._shelves.values()
        assert (len(shelf.gone), len(shelf._order), len(backend._deletes)) == (0, 1, 0)
