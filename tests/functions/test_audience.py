"""The audience: a change waits for those who follow, and not for who does not hear."""

from __future__ import annotations

import asyncio

import pytest

from microcosmos.functions import audience as audience_module
from microcosmos.functions.audience import Audience


async def waiting(audience: Audience, sequence: int) -> asyncio.Task[None]:
    task = asyncio.create_task(audience.knows(sequence))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_all_who_follow_are_waited_for() -> None:
    audience = Audience()
    await audience.knows(5)
    with audience.seat() as first, audience.seat() as second, audience.seat():
        # The third has said nothing yet: nobody knows what it will begin with.
        first(4)
        second(5)
        task = await waiting(audience, 5)
        assert not task.done()
        first(6)
        await task
        await audience.knows(5)


async def test_who_leaves_is_not_waited_for() -> None:
    audience = Audience()
    with audience.seat() as first:
        first(1)
        task = await waiting(audience, 2)
        assert not task.done()
    await task


async def test_who_does_not_hear_is_not_waited_for_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audience_module, "PATIENCE", 0.01)
    audience = Audience()
    with audience.seat() as first:
        first(1)
        await audience.knows(2)
        first(2)
        monkeypatch.setattr(audience_module, "PATIENCE", 3600)
        await audience.knows(2)
