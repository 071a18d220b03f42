"""The history of a document, and the way back."""

from __future__ import annotations

import pytest

from microcosmos.base import errors
from microcosmos.config import config as config_module
from microcosmos.config import history
from microcosmos.config.config import open_config
from microcosmos.store import open_store


async def listed(config, before=0):
    return [one async for one in config.revisions("micro", before)]


async def test_each_change_is_remembered_with_who_and_when(clock) -> None:
    async with open_store("memory://") as store, open_config(store, clock=clock) as config:
        await config.set("micro", "a.b", 1, account="jane")
        await clock.advance(60)
        await config.set("micro", "a", {"b": 2, "c": {"d": 3}}, account="orders")
        await config.delete("micro", "a.c", account="jane")
        newest = await listed(config)
        assert [(one.revision, one.account, one.action, one.path) for one in newest] == [
            (3, "jane", "delete", "a.c"),
            (2, "orders", "set", "a"),
            (1, "jane", "set", "a.b"),
        ]
        assert newest[1].time - newest[2].time == 60
        assert [change.path for change in newest[1].changes] == [("a", "b"), ("a", "c")]
        assert [one.revision for one in await listed(config, before=3)] == [2, 1]
        assert [one.revision async for one in config.revisions("other")] == []


async def test_rollback_is_a_revision_itself() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "a", 1)
        await config.set("micro", "b.c", "x", secret=True)
        await config.set("micro", "b", 5)
        assert await config.rollback("micro", 2) == 4
        assert await config.get("micro", secret=True) == {"a": 1, "b": {"c": "x"}}
        assert await config.rollback("micro", 3) == 5
        assert await config.get("micro") == {"a": 1, "b": 5}
        assert await config.rollback("micro", 5) == 5
        assert await config.rollback("micro", 0) == 6
        with pytest.raises(errors.NotFound):
            await config.get("micro")
        assert await config.rollback("micro", 4) == 7
        assert await config.get("micro", secret=True) == {"a": 1, "b": {"c": "x"}}
        for revision in (-1, 8, 10**9):
            with pytest.raises(errors.NotFound, match="the last one is 7"):
                await config.rollback("micro", revision)
        with pytest.raises(errors.NotFound, match="the last one is 0"):
            await config.rollback("other", 1)


async def test_the_oldest_are_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(history, "MAX_REVISIONS", 60)
    monkeypatch.setattr(config_module, "MAX_REVISIONS", 60)
    async with open_store("memory://") as store, open_config(store) as config:
        for number in range(100):
            await config.set("micro", "a", number)
        await config.set("another", "a", 1)
        assert [one.revision for one in await listed(config)] == list(range(100, 40, -1))
        assert await config.rollback("micro", 41) == 101
        assert await config.get("micro", "a") == 40
        with pytest.raises(errors.NotFound, match="the oldest that can be is 41"):
            await config.rollback("micro", 40)
