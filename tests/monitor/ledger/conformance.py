"""What the ledger does on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from microcosmos.monitor.ledger import Added, Counts, keys
from microcosmos.store import Store

from .books import DAY, HOUR, Leaping, book, line, one, subject

Open = Callable[[], AbstractAsyncContextManager[Store]]


class LedgerConformance:
    async def test_what_is_sent_again_is_not_added_again(self, opened: Open) -> None:
        async with opened() as store:
            for _ in range(3):
                # Each time by a core that has just been started.
                await book(store).add("w", 1, {subject(): one(cpu_ns=5, heap=9)})
            await book(store).add("w", 2, {subject(): one(cpu_ns=7, heap=3)})
            await book(store).add("other", 1, {subject(): one()})
            used = await book(store).used(line("shop", "v1"))
            assert (used.requests, used.cpu_ns, used.heap) == (3, 12, 9)

    async def test_two_cores_on_one_store_lose_nothing(self, opened: Open) -> None:
        async with opened() as store:
            books = book(store), book(store)
            await asyncio.gather(
                *(books[n % 2].add(f"w{n}", 1, {subject(): one(cpu_ns=n)}) for n in range(30))
            )
            for each in books:
                used = await each.used(line("shop", "v1"))
                assert (used.requests, used.cpu_ns) == (30, sum(range(30)))

    async def test_sums_of_accounts_and_namespaces(self, opened: Open) -> None:
        async with opened() as store:
            ledger = book(store)
            counts = {
                subject("a"): one(),
                subject("a", "v2"): one(failures={"500": 1}, errors=1),
                subject("b", account="ben/a"): one(failures={"500": 2}, errors=2),
                subject("a", kind="app"): one(),
                subject("a", namespace="dev"): one(),
            }
            await ledger.add("w", 1, counts)
            assert (await ledger.used(line("a"))).requests == 2
            assert (await ledger.used(line(account="ann"))).requests == 2
            assert (await ledger.used(line(account="ben/a"))).failures == {"500": 2}
            assert (await ledger.used(line())).failures == {"500": 3}
            assert (await ledger.used(line(kind="app"))).requests == 1
            assert (await ledger.used(line(namespace="dev"))).requests == 1
            assert await ledger.used(line("none")) == Counts()

    async def test_hours_and_days(self, opened: Open, clock: Leaping) -> None:
        async with opened() as store:
            begin = clock.time()
            # At noon, at one, and at noon of the two days that follow.
            for sequence, wait in enumerate((0, HOUR, DAY - HOUR, DAY), 1):
                clock.leap(wait)
                # What an hour has is kept by a core that never saw it.
                await book(store, clock).add("w", sequence, {subject(): one(cpu_ns=sequence)})
            ledger = book(store, clock)
            reading, entries = ledger.reading, await ledger.reading.find(line("shop"))
            hours = await reading.hours(entries)
            assert {keys.begin_of(hour): sum.cpu_ns for hour, sum in hours.items()} == {
                "2026-11-01T12:00:00Z": 1,
                "2026-11-01T13:00:00Z": 2,
                "2026-11-02T12:00:00Z": 3,
                "2026-11-03T12:00:00Z": 4,
            }
            days = await reading.days(entries)
            assert [sum.cpu_ns for sum in days.values()] == [3, 3, 4]
            for since, expected in (
                (0.0, 10),
                (begin - 1, 10),
                (begin + 1, 10),
                (begin + HOUR, 9),
                (begin + 2 * HOUR, 7),
                (begin + DAY, 7),
                (begin + DAY + HOUR, 4),
                (begin + 2 * DAY + HOUR, 0),
            ):
                assert (await ledger.used(line("shop"), since)).cpu_ns == expected, since

    async def test_what_is_over_is_forgotten_in_time(self, opened: Open, clock: Leaping) -> None:
        async with opened() as store:
            ledger = book(store, clock)
            begin = clock.time()
            for sequence in (1, 2, 3):
                await ledger.add("w", sequence, {subject(): one()})
                clock.leap(30 * DAY)
            # The first is older than hours are kept: its day tells.
            await ledger.add("w", 4, {subject(): one()})
            entries = await ledger.reading.find(line("shop"))
            assert len(await ledger.reading.hours(entries)) == 2
            assert len(await ledger.reading.days(entries)) == 4
            assert (await ledger.used(line("shop"), begin + HOUR)).requests == 4
            assert (await ledger.used(line("shop"), begin + DAY)).requests == 3
            clock.leap(390 * DAY)
            await ledger.add("w2", 1, {subject(): one()})
            entries = await ledger.reading.find(line("shop"))
            assert len(await ledger.reading.hours(entries)) == 1
            assert len(await ledger.reading.days(entries)) == 2
            assert (await ledger.used(line("shop"))).requests == 5

    async def test_a_clock_that_is_put_back_loses_nothing(
        self, opened: Open, clock: Leaping
    ) -> None:
        async with opened() as store:
            await book(store, clock).add("w", 1, {subject(): one()})
            earlier = Leaping(clock.time() - 2 * HOUR)
            await book(store, earlier).add("w", 2, {subject(): one()})
            ledger = book(store, clock)
            hours = await ledger.reading.hours(await ledger.reading.find(line("shop")))
            assert [sum.requests for sum in hours.values()] == [2]

    async def test_who_listens_is_told_what_is_durable(self, opened: Open, clock: Leaping) -> None:
        async with opened() as store:
            ledger = book(store, clock)
            told: list[Added] = []
            ledger.listen(told.extend)
            await ledger.add("w", 1, {subject(): one(cpu_ns=5)})
            assert {added.line for added in told} == {
                line("shop", "v1"),
                line(account="ann"),
                line(),
            }
            clock.leap(HOUR)
            await ledger.add("w", 2, {subject(): one(cpu_ns=2)})
            await ledger.add("w", 2, {subject(): one(cpu_ns=2)})
            assert len(told) == 6
            last = next(one for one in told[3:] if one.line.name)
            sums = last.counts.cpu_ns, last.hour.cpu_ns, last.day.cpu_ns
            assert (last.account, sums, last.at) == ("ann", (2, 2, 7), clock.time())

    async def test_a_name_that_is_gone_leaves_nothing_to_the_next(
        self, opened: Open, clock: Leaping
    ) -> None:
        async with opened() as store:
            ledger = book(store, clock)
            for sequence in (1, 2):
                await ledger.add("w", sequence, {subject(): one(), subject("shop.cart"): one()})
                clock.leap(DAY)
            left = await ledger.leave("micro", "service", "shop")
            version = await store.batch(left)
            # The next one of the name is quicker than the sweep.
            await ledger.add("w", 3, {subject(): one(cpu_ns=7)})
            await ledger.sweep("micro", "service", "shop", version)
            assert (await ledger.used(line("shop"))) == one(cpu_ns=7)
            assert (await ledger.used(line("shop"), 1.0)) == one(cpu_ns=7)
            assert (await ledger.used(line("shop.cart"))).requests == 2
            assert (await ledger.used(line(account="ann"))).requests == 5
            await ledger.clear("micro")
            assert await ledger.used(line()) == Counts()
            assert await ledger.tables.days.count() == 0
