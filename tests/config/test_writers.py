"""Many writers at once, here and in other processes: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.config.config import open_config
from microcosmos.config.keys import FILE, Keys
from microcosmos.store import open_store


async def test_writers_on_different_keys_all_win() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await asyncio.gather(
            *(config.set("micro", f"m{number % 3}.k{number}", number) for number in range(60))
        )
        document = await config.get("micro")
        found = {key: value for inner in document.values() for key, value in inner.items()}
        assert found == {f"k{number}": number for number in range(60)}
        revisions = [one.revision async for one in config.revisions("micro")]
        assert revisions == list(range(60, 0, -1))


async def test_two_cores_on_one_store_lose_nothing(tmp_path: Path) -> None:
    keys = Keys("", tmp_path / FILE)
    keys.make()
    url = f"sqlite://{tmp_path}/store.db"
    async with (
        open_store(url) as store,
        open_config(store, keys) as one,
        open_config(store, Keys("", tmp_path / FILE)) as other,
    ):
        configs = (one, other)
        await asyncio.gather(
            *(
                configs[number % 2].set("micro", f"k{number}", number, secret=number % 5 == 0)
                for number in range(40)
            )
        )
        wanted = {f"k{number}": number for number in range(40)}
        for config in configs:
            assert await config.get("micro", secret=True) == wanted
        # On one key there is one order: each value stands in the history once, after another.
        await asyncio.gather(
            *(configs[number % 2].set("micro", "same", number) for number in range(20))
        )
        changes = [
            change
            async for revision in one.revisions("micro")
            for change in revision.changes
            if change.path == ("same",)
        ]
        assert len(changes) == 20
        assert await other.get("micro", "same") == changes[0].new.value
        for newer, older in itertools.pairwise(changes):
            assert newer.old == older.new
        assert len({change.new.value for change in changes}) == 20


async def test_a_delete_and_a_set_below_have_one_order() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        for _ in range(20):
            await config.set("micro", "a", {"b": 1, "c": 1})

            async def delete() -> None:
                try:
                    await config.delete("micro", "a")
                except errors.NotFound:
                    raise AssertionError("it was there before and after") from None

            await asyncio.gather(delete(), config.set("micro", "a.b", 2))
            document = (await config.document("micro")).tree
            left = sorted(document["a"]) if "a" in document else []
            assert left in ([], ["b"])


async def test_who_follows_one_core_is_told_of_what_another_changes(tmp_path: Path) -> None:
    async with (
        open_store(f"sqlite://{tmp_path}/store.db") as store,
        open_config(store) as one,
        open_config(store) as other,
        contextlib.aclosing(other.follow("micro")) as documents,
    ):
        assert (await anext(documents)).revision == 0
        for number in range(1, 5):
            await one.set("micro", "a", number)
            assert (await anext(documents)).revision == number
        waiting = asyncio.ensure_future(anext(documents))
        await one.set("acme", "a", 1)
        other.close()
        with pytest.raises(errors.Unavailable):
            await waiting
