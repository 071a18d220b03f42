"""Requests that no worker can count are counted by whoever answers them, once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from microcosmos.base import errors
from microcosmos.functions import counting
from microcosmos.functions.counting import Unworked
from microcosmos.functions.failing import counted, kind_of
from microcosmos.functions.interface import Counts
from microcosmos.functions.lines import late, lost

Told = tuple[str, int, Mapping[str, Counts]]


class Core:
    """Takes what is counted, unless it is away."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.away = 0

    async def count(self, worker: str, sequence: int, counts: Mapping[str, Counts]) -> None:
        if self.away:
            self.away -= 1
            raise errors.Unavailable("rpc", "the core is away")
        self.told.append((worker, sequence, counts))


async def test_what_no_worker_has_said_is_counted() -> None:
    core = Core()
    unworked = Unworked(core.count, "gateway")
    quota = errors.TooManyRequests("functions.quota", "used up")
    unworked.failed("micro", "shop", 3, lost())
    unworked.failed("micro", "shop", 3, quota)
    unworked.failed("micro", "shop", 0, quota)
    # A worker counts what it has said, and what is given up: it is told of that.
    unworked.failed("micro", "shop", 3, counted(errors.Unavailable("functions.limit.cpu", "")))
    unworked.failed("micro", "shop", 3, late())
    unworked.failed("micro", "shop", 3, errors.Forbidden("auth", "not you"))
    await unworked.told()
    ((worker, sequence, counts),) = core.told
    assert worker.startswith("gateway-")
    assert sequence == 1
    assert counts == {
        "micro/shop/v3": Counts(requests=2, errors=2, failures={"lost": 1, "quota": 1}),
        "micro/shop": Counts(requests=1, errors=1, failures={"quota": 1}),
    }
    await unworked.told()
    assert len(core.told) == 1


async def test_it_is_told_until_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "PAUSE", 0.001)
    monkeypatch.setattr(counting, "SOON", 0.001)
    core = Core()
    core.away = 3
    async with counting.counting(core.count, "host") as unworked:
        unworked.failed("micro", "a", 1, lost())
        async with asyncio.timeout(5):
            while not core.told:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.001)
        unworked.failed("micro", "a", 1, lost())
    assert [sequence for _, sequence, _ in core.told] == [1, 2]
    assert len({worker for worker, _, _ in core.told}) == 1


def test_kinds_are_ids_without_what_all_begin_with() -> None:
    assert kind_of("functions.limit.cpu") == "limit.cpu"
    assert kind_of("auth") == "auth"
    assert len(kind_of("functions." + "x" * 100)) == 64
