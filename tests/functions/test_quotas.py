"""Quotas: what is used up is refused until the period is over, or more is allowed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.functions import spending
from microcosmos.functions.client import RemoteFunctions
from microcosmos.functions.failing import kind_of
from microcosmos.functions.following import Known
from microcosmos.functions.interface import Live, Spent
from microcosmos.functions.quotas import (
    NAMES,
    REFUSED,
    Quota,
    begin_of,
    check,
    end_of,
    read,
    read_part,
)
from microcosmos.functions.requests import Allotted, QuotaRequest
from microcosmos.monitor.ledger import Counts, Subject

from .plane import Plane, draft, opened

NOW = 1_798_201_500.0
"""2026-12-25T12:25:00Z."""

HOUR = 1_798_203_600.0
"""13:00."""


async def until(good: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not good():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class World:
    """A plane whose quotas are watched, and somebody who follows it."""

    def __init__(self, plane: Plane, clock: ManualClock, known: Known) -> None:
        self.plane = plane
        self.clock = clock
        self.known = known
        self.published: list[tuple[str, str, dict[str, Any], str]] = []
        self._sequence = itertools.count(1)

    async def publish(self, namespace: str, topic: str, payload: bytes, id: str) -> None:
        self.published.append((namespace, topic, json.loads(payload), id))

    async def use(self, name: str = "hello", **counts: Any) -> None:
        """A function has used something."""
        subject = Subject(namespace="micro", kind="function", account="", name=name, version="v1")
        sequence = next(self._sequence)
        worker = f"tests {id(self)}"
        await self.plane.catalogue.ledger.add(worker, sequence, {subject: Counts(**counts)})

    def spent(self, name: str = "hello") -> Spent | None:
        live = self.known.get("micro", name)
        assert live is not None
        return live.spent

    async def refused(self, name: str = "hello") -> Spent:
        await until(lambda: self.spent(name))
        spent = self.spent(name)
        assert spent is not None
        return spent

    async def let_in(self, name: str = "hello") -> None:
        await until(lambda: self.spent(name) is None)


@contextlib.asynccontextmanager
async def watched(
    store: str = "memory://", clock: ManualClock | None = None
) -> AsyncIterator[World]:
    clock = clock or ManualClock(NOW)
    async with (
        opened(store, clock=clock) as plane,
        plane.catalogue.allotments,
        Known(plane.badge) as known,
    ):
        await known.settle(5)
        made = World(plane, clock, known)
        plane.catalogue.allotments.publishing(made.publish)
        yield made


def of(name: str = "hello", **said: Any) -> QuotaRequest:
    return QuotaRequest(**{"name": name, "measure": "requests", "period": "hour", **said})


async def _deployed(world: World, name: str = "hello") -> RemoteFunctions:
    functions = await world.plane.admin()
    await functions.deploy(draft(name))
    await until(lambda: world.known.get("micro", name))
    return functions


async def test_what_is_used_up_is_refused_until_the_hour_is_over() -> None:
    async with watched() as world:
        functions = await _deployed(world)
        made = await functions.set_quota(of(most=10))
        assert made == Allotted(
            name="hello",
            account="",
            measure="requests",
            most=10,
            period="hour",
            soft=[0.8],
            by="admin",
            used=0,
            until="2026-12-25T13:00:00.000000Z",
            spent=False,
        )
        await world.use(requests=9)
        assert (await functions.quotas())[0].used == 9
        assert world.spent() is None
        await world.use(requests=3)
        spent = await world.refused()
        assert spent.until == HOUR
        assert spent.detail == (
            "the quota of requests per hour of function hello is used up;"
            " it begins anew at 2026-12-25T13:00:00Z"
        )
        assert (await functions.quotas())[0].spent
        await world.clock.advance(HOUR - world.clock.time() - 1)
        assert world.spent() is not None
        await world.clock.advance(2)
        await world.let_in()
        functions = await world.plane.admin()
        assert (await functions.quotas())[0].used == 0
        await world.use(requests=10)
        assert (await world.refused()).until == HOUR + 3600


@pytest.mark.parametrize("way", ["raise", "delete"])
async def test_more_is_let_in_at_once(way: str) -> None:
    async with watched() as world:
        functions = await _deployed(world)
        await functions.set_quota(of(most=5))
        await world.use(requests=5)
        await world.refused()
        if way == "raise":
            raised = await functions.set_quota(of(most=6))
            assert (raised.used, raised.spent) == (5, False)
        else:
            await functions.delete_quota(of())
            assert await functions.quotas() == []
        await world.let_in()
        with pytest.raises(errors.NotFound, match="function hello has no quota of cpu per day"):
            await functions.delete_quota(of(measure="cpu", period="day"))


async def test_a_quota_counts_what_was_used_before_it_was_set() -> None:
    async with watched() as world:
        functions = await _deployed(world)
        await world.use(requests=7)
        await functions.set_quota(of(most=7))
        await world.refused()
        await functions.set_quota(of(most=7, period="month"))
        assert (await functions.quotas())[1].until == "2027-01-01T00:00:00.000000Z"
        assert (await world.refused()).until == begin_of("month", NOW + 10 * 86400)


async def test_what_was_refused_is_of_no_quota() -> None:
    assert kind_of(spending.QUOTA) == REFUSED
    async with watched() as world:
        functions = await _deployed(world)
        await functions.set_quota(of(most=5))
        await functions.set_quota(of(most=5, measure="errors"))
        await world.use(requests=104, errors=102, failures={"quota": 100, "exception": 2})
        assert [one.used for one in await functions.quotas()] == [2, 4]
        assert world.spent() is None


MEASURED = {
    "requests": Counts(requests=2),
    "errors": Counts(errors=2),
    "request_bytes": Counts(request_bytes=2),
    "response_bytes": Counts(response_bytes=2),
    "wall": Counts(execution_ns=2_000_000_000),
    "cpu": Counts(cpu_ns=2_000_000_000),
    "byte_ms": Counts(byte_ms=2),
    "fetches": Counts(fetches=2),
    "cold_starts": Counts(cold_starts=2),
}


def test_all_that_is_added_up_has_quotas() -> None:
    assert set(MEASURED) == set(NAMES)
    for measure, counts in MEASURED.items():
        quota = check(Quota(measure=measure, most=2, period="day"))
        assert quota.used(counts) == 2
        others = [one for name, one in MEASURED.items() if name != measure]
        assert [quota.used(one) for one in others] == [0] * len(others)


async def test_quotas_of_accounts_and_namespaces_hold_for_all_their_functions() -> None:
    async with watched() as world:
        admin = await _deployed(world, "everyones")
        jane = await world.plane.of("jane", "functions")
        for name in ("one", "two"):
            await jane.deploy(draft(name))
        await admin.set_quota(of("", account="jane", most=10))
        await admin.set_quota(of("", most=30))
        await world.use("one", requests=6)
        await world.use("two", requests=6)
        for name in ("one", "two"):
            assert "of its account" in (await world.refused(name)).detail
        assert world.spent("everyones") is None
        await world.use("everyones", requests=20)
        assert "of its namespace" in (await world.refused("everyones")).detail
        # What is deployed meanwhile is refused too.
        await admin.deploy(draft("late"))
        await until(lambda: world.known.get("micro", "late"))
        await world.refused("late")
        await admin.delete_quota(of(""))
        await world.let_in("everyones")
        await world.refused("one")


async def test_who_may_set_and_see_quotas() -> None:
    async with watched() as world:
        admin = await _deployed(world)
        jane, john = await world.plane.of("jane"), await world.plane.of("john")
        await jane.deploy(draft("own"))
        made = await jane.set_quota(of("own", most=50))
        assert made.by == "owner"
        for request in (of("hello", most=1), of("", most=1), of("", account="jane", most=1)):
            with pytest.raises(errors.Forbidden):
                await jane.set_quota(request)
            with pytest.raises(errors.Forbidden):
                await jane.delete_quota(request)
        with pytest.raises(errors.Forbidden):
            await john.quotas("own")
        with pytest.raises(errors.Forbidden):
            await john.quotas(account="jane")
        await admin.set_quota(of("own", most=20))
        with pytest.raises(errors.Forbidden, match=r"an admin allows .* requests=20/hour, no more"):
            await jane.set_quota(of("own", most=21))
        await jane.set_quota(of("own", most=20))
        await admin.set_quota(of("", account="jane", most=90))
        await admin.set_quota(of("", account="john", most=90))
        await admin.set_quota(of("", most=99, measure="cpu"))
        await admin.set_quota(of("hello", most=99))
        seen = [(one.name, one.account, one.by) for one in await jane.quotas()]
        whole, above = ("", "", "admin"), ("", "jane", "admin")
        both = [("own", "", "admin"), ("own", "", "owner")]
        assert seen == [whole, above, *both]
        assert [(one.name, one.account) for one in await jane.quotas("own")] == [
            *(("", ""), ("", "jane"), ("own", ""), ("own", "")),
        ]
        assert len(await admin.quotas()) == 6
        await jane.delete_quota(of("own"))
        with pytest.raises(errors.Forbidden, match="was set by an admin"):
            await jane.delete_quota(of("own"))
        await admin.delete_quota(of("own"))
        assert [one.name for one in await admin.quotas()] == ["", "", "", "hello"]


async def test_what_cannot_be_a_quota_is_refused() -> None:
    async with watched() as world:
        functions = await _deployed(world)
        bad = {
            "heap is not added up": of(measure="heap", most=5),
            "'speed' is no measure; one of requests,": of(measure="speed", most=5),
            "'week' is no period; one of hour, day, month": of(period="week", most=5),
            "requests=0 is no amount": of(most=0),
            "requests=-1 is no amount": of(most=-1),
            "requests=2.5 is no whole number": of(most=2.5),
            "cpu=1e\\+30 is no amount": of(measure="cpu", most=1e30),
            "soft: 1.5 is no part": of(most=5, soft=[1.5]),
            "soft: at most 10 parts": of(most=5, soft=[0.01 * part for part in range(1, 12)]),
            "not of both": of(most=5, account="admin"),
        }
        for detail, request in bad.items():
            with pytest.raises(errors.BadRequest, match=detail):
                await functions.set_quota(request)
        with pytest.raises(errors.NotFound, match="no function 'nobody'"):
            await functions.set_quota(of("nobody", most=1))
        with pytest.raises(errors.NotFound, match="no account 'nobody'"):
            await functions.set_quota(of("", account="nobody", most=1))
        assert await functions.quotas() == []


async def test_quotas_and_what_is_used_of_them_outlive_the_core(tmp_path: Path) -> None:
    store, clock = f"sqlite:///{tmp_path}/store.db", ManualClock(NOW)
    async with watched(store, clock) as world:
        functions = await _deployed(world)
        await functions.set_quota(of(most=5, soft=[0.5, 0.9]))
        await functions.set_quota(of("", account="admin", most=500, period="day"))
        await world.use(requests=3)
        await until(lambda: len(world.published) == 1)
    async with watched(store, clock) as world:
        known = await (await world.plane.admin()).quotas()
        assert [(one.account, one.used) for one in known] == [("admin", 3), ("", 3)]
        assert world.spent() is None
        await world.use(requests=2)
        await world.refused()
        # Half of it was told before.
        await until(lambda: world.published)
        assert [told[2]["soft"] for told in world.published] == [0.9]
    async with watched(store, clock) as world:
        assert (await world.refused()).until == HOUR
        assert world.published == []
        await clock.advance(3600)
        await world.let_in()


async def test_each_soft_part_is_told_once_in_a_period() -> None:
    async with watched() as world:
        functions = await _deployed(world)
        await functions.set_quota(of(measure="cpu", most=10, period="day", soft=[1, 0.5]))
        await functions.set_quota(of("", most=1000, measure="fetches"))
        for _ in range(7):
            await world.use(cpu_ns=2_000_000_000)
        await until(lambda: len(world.published) == 2)
        namespace, topic, payload, _ = world.published[0]
        assert (namespace, topic) == ("micro", "quota")
        assert payload["used"] >= 5
        del payload["used"]
        assert payload == {
            "namespace": "micro",
            "name": "hello",
            "measure": "cpu",
            "most": 10,
            "period": "day",
            "begins": "2026-12-25T00:00:00.000000Z",
            "until": "2026-12-26T00:00:00.000000Z",
            "soft": 0.5,
        }
        assert world.published[1][2]["soft"] == 1
        await world.use(fetches=900)
        await until(lambda: len(world.published) == 3)
        assert world.published[2][2]["soft"] == 0.8
        assert "name" not in world.published[2][2]
        await world.clock.advance(86400)
        await world.use(cpu_ns=6_000_000_000)
        await until(lambda: len(world.published) == 4)
        assert len({id for *_, id in world.published}) == 4


async def test_what_cannot_be_told_is_told_later() -> None:
    async with watched() as world:
        functions = await _deployed(world)
        tried = []

        async def refuse(*said: object) -> None:
            tried.append(said)
            raise errors.Unavailable("events", "the engine is away")

        world.plane.catalogue.allotments.publishing(refuse)
        await functions.set_quota(of(most=1))
        await world.use(requests=1)
        await until(lambda: tried)
        await world.refused()
        world.plane.catalogue.allotments.publishing(world.publish)
        await until(lambda: world.published)


async def test_the_quotas_of_a_function_go_with_it() -> None:
    async with watched() as world:
        functions = await _deployed(world)
        await functions.set_quota(of(most=1))
        await world.use(requests=1)
        await world.refused()
        await functions.delete("hello")
        await until(lambda: world.known.get("micro", "hello") is None)
        await functions.deploy(draft())
        await until(lambda: world.known.get("micro", "hello"))
        await world.let_in()
        assert await functions.quotas() == []


async def test_who_comes_back_hears_what_was_opened_meanwhile() -> None:
    """The functions are as they were, so nothing else is told."""
    async with watched() as world:
        functions = await _deployed(world)
        await functions.set_quota(of(most=1))
        await world.use(requests=1)
        await world.refused()
        plane = world.plane
        away = Known(plane.badge)
        async with away:
            await until(lambda: (live := away.get("micro", "hello")) and live.spent)
        await functions.delete_quota(of())
        async with away:
            await until(lambda: (live := away.get("micro", "hello")) and not live.spent)


def test_periods_begin_and_end_in_utc() -> None:
    assert (begin_of("hour", NOW), end_of("hour", NOW)) == (HOUR - 3600, HOUR)
    assert end_of("day", NOW) - begin_of("day", NOW) == 86400
    for month in range(1, 24):
        at = NOW + month * 30 * 86400
        assert begin_of("month", at) <= at < end_of("month", at)
        assert begin_of("month", end_of("month", at)) == end_of("month", at)
        assert begin_of("month", end_of("month", at) - 1) == begin_of("month", at)


def test_amounts_are_read_as_people_write_them() -> None:
    assert read("requests=10_000/hour") == ("requests", 10_000, "hour")
    assert read("cpu=60s/day") == ("cpu", 60, "day")
    assert read("wall=1.5h/month") == ("wall", 5400, "month")
    assert read("response_bytes=1GiB/month") == ("response_bytes", 2**30, "month")
    assert read_part("80%") == 0.8
    for text in ("requests", "requests=5", "requests/hour", "requests=x/hour", "=5/hour"):
        with pytest.raises(errors.BadRequest, match=r"quota|requests"):
            read(text)
    for text in ("heap=5MiB/hour", "speed=5/hour", "requests=5/week"):
        with pytest.raises(errors.BadRequest, match="quota"):
            read(text)
    with pytest.raises(errors.BadRequest, match="like 80%"):
        read_part("0.8")


def test_who_is_refused_hears_when_to_come_again() -> None:
    live = Live(namespace="micro", name="a", owner="admin", shares=[])
    spending.check_spent(live)
    with pytest.raises(errors.TooManyRequests) as caught:
        spending.refuse(Spent(time.time() + 100, "why"))
    assert 99 < caught.value.retry_after <= 100
    assert (caught.value.id, caught.value.detail) == ("functions.quota", "why")
    spending.refuse(Spent(time.time() - 0.01, "over"))
