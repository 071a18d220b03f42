"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio

from microcosmos.base.clock import SYSTEM, ManualClock


async def test_the_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(start=100.0)
    assert (clock.time(), clock.monotonic()) == (100.0, 100.0)
    await clock.advance(5)
    assert (clock.time(), clock.monotonic()) == (105.0, 105.0)


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []
    begun = clock.monotonic()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic() - begun))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("middle", 2.0), ("also", 1.0)):
            group.create_task(sleeper(name, seconds))
        await clock.advance(2.5)
        assert woken == [("early", 1.0), ("also", 1.0), ("middle", 2.0)]
        await clock.advance(10)
    assert woken[-1] == ("late", 3.0)


async def test_a_woken_sleeper_may_sleep_again_within_one_advance() -> None:
    clock = ManualClock()
    ticks = 0

    async def ticking() -> None:
        nonlocal ticks
        while True:
            await clock.sleep(1)
            ticks += 1

    task = asyncio.create_task(ticking())
    await clock.advance(10)
    task.cancel()
    assert ticks == 10


async def test_a_cancelled_sleeper_is_passed_over() -> None:
    clock = ManualClock()
    first = asyncio.create_task(clock.sleep(1))
    second = asyncio.create_task(clock.sleep(2))
    await asyncio.sleep(0)
    first.cancel()
    await clock.advance(3)
    assert first.cancelled()
    assert second.done()


async def test_no_time_is_no_wait() -> None:
    clock = ManualClock()
    await clock.sleep(0)
    await clock.sleep(-1)
    assert clock.monotonic() == ManualClock().monotonic()


async def test_the_systems_clock_goes_on() -> None:
    wall, steady = SYSTEM.time(), SYSTEM.monotonic()
    await SYSTEM.sleep(0.001)
    assert SYSTEM.monotonic() > steady
    assert abs(SYSTEM.time() - wall) < 60
