"""Following: gateways and the host know what runs, within milliseconds and over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.functions.feed import SLICE
from microcosmos.functions.following import Known
from microcosmos.functions.interface import Live, News, Share
from microcosmos.rpc import Client, MemoryNetwork

from .plane import Plane, draft, opened


async def until(good: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not good():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def numbers(known: Known) -> dict[str, list[int]]:
    return {one.name: [share.number for share in one.shares] for one in known}


async def test_what_is_deployed_is_known_before_it_is_said_to_be() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft("first"))
        async with Known(plane.badge) as known:
            await known.settle(5)
            told: list[tuple[str, str, Any]] = []
            known.listen(lambda *news: told.append(news))
            assert [(namespace, name) for namespace, name, _ in told] == [("micro", "first")]
            # Who follows knows of a change before whoever made it is answered.
            await functions.deploy(draft("second"))
            assert known.get("micro", "second")
            await functions.deploy(draft("first", code="2"))
            assert numbers(known)["first"] == [2]
            await functions.split("first", {1: 30, 2: 70})
            assert numbers(known)["first"] == [2, 1]
            live = known.get("micro", "first")
            assert live is not None
            assert [share.weight for share in live.shares] == [70, 30]
            await functions.rollback("first", 1)
            assert numbers(known)["first"] == [3]
            await functions.delete("second")
            assert len(known) == 1
            assert told[-1] == ("micro", "second", None)
            assert known.get("micro", "second") is None


async def test_functions_of_all_namespaces_are_told() -> None:
    async with opened() as plane:
        here, there = await plane.admin(), await plane.of("ann", namespace="acme")
        await here.deploy(draft())
        await there.deploy(draft())
        async with Known(plane.badge) as known:
            await known.settle(5)
            assert {(one.namespace, one.owner) for one in known} == {
                ("micro", "admin"),
                ("acme", "ann"),
            }


async def test_a_follower_goes_on_where_it_was_when_the_core_comes_back(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    network = MemoryNetwork()

    def calling(plane: Plane) -> Client:
        return Client([network], identity=_badge(plane))

    async with opened(url) as plane:
        functions = await plane.admin()
        await functions.deploy(draft("stays"))
        await functions.deploy(draft("goes"))
        network.join(plane.server)
        known = Known(calling(plane))
        await known.__aenter__()
        await known.settle(5)
        keys, plane_of = plane.auth.keys, [plane]
        assert len(known) == 2
        network.cut(plane.server)
        await functions.delete("goes")
    told: list[Any] = []
    known.listen(lambda *news: told.append(news))
    told.clear()
    async with opened(url, token_keys=keys) as plane:
        plane_of.append(plane)
        functions = await plane.admin()
        await functions.deploy(draft("comes"))
        network.join(plane.server)
        await until(lambda: set(numbers(known)) == {"stays", "comes"})
        # Nothing is told of what is as it was.
        assert [(name, live is None) for _, name, live in told] == [
            ("goes", True),
            ("comes", False),
        ]
        await known.__aexit__(None, None, None)


def _badge(plane: Plane) -> Callable[[], str]:
    from microcosmos.auth.keys import platform_token

    return lambda: f"Bearer {platform_token(plane.auth.keys, 'gateway')}"


async def test_another_store_is_told_anew() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        feed = plane.catalogue.feed
        first = await anext(feed.follow("", 0))
        assert (first.fresh, first.more, len(first.live)) == (True, False, 1)
        again = await anext(feed.follow("another", first.sequence))
        assert again.fresh
        ahead = await anext(feed.follow(first.epoch, first.sequence + 1000))
        assert ahead.fresh
        following = asyncio.ensure_future(anext(feed.follow(first.epoch, first.sequence)))
        await functions.deploy(draft(code="2"))
        news = await asyncio.wait_for(following, 60)
        assert (news.fresh, news.live[0].shares[0].number) == (False, 2)
        assert news.sequence > first.sequence


async def test_who_follows_is_let_go_when_the_core_stops() -> None:
    async with opened() as plane:
        feed = plane.catalogue.feed
        news = feed.follow()
        await anext(news)
        waiting = asyncio.ensure_future(anext(news))
        await asyncio.sleep(0)
        feed.close()
        with pytest.raises(errors.Unavailable, match="the core stops"):
            await asyncio.wait_for(waiting, 60)


async def test_many_functions_come_in_slices_and_appear_at_once() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        found = await plane.catalogue.get("micro", "hello")
        record = await plane.store.table("functions").read("micro/hello")
        from microcosmos.store import Write

        count = 2 * SLICE
        table = plane.store.table("functions")
        await table.batch([Write(f"micro/f{n:05}", record.value) for n in range(count)])
        slices = []
        async for news in plane.catalogue.feed.follow():
            slices.append(news)
            if not news.more:
                break
        assert [len(one.live) for one in slices] == [SLICE, SLICE, 1]
        assert [one.fresh for one in slices] == [True, False, False]
        async with Known(plane.badge) as known:
            seen: set[int] = set()
            known.listen(lambda *_: seen.add(len(known)))
            await known.settle(5)
            assert seen == {count + 1}
        assert found.head.live == 1


def live(name: str, number: int) -> Live:
    share = Share(number=number, key=f"{name}{number}", engine="quickjs")
    return Live(namespace="micro", name=name, owner="ann", shares=[share])


_NAMES = st.sampled_from("abcd")
_LIVES = st.dictionaries(_NAMES, st.integers(1, 3))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(_LIVES, min_size=1, max_size=3), st.lists(_NAMES)),
        max_size=8,
    )
)
def test_what_listeners_are_told_adds_up_to_what_is_known(
    told: list[tuple[bool, list[dict[str, int]], list[str]]],
) -> None:
    known = Known(Client([]))
    heard: dict[str, Live] = {}

    def listen(namespace: str, name: str, one: Live | None) -> None:
        if one is None:
            del heard[name]
        else:
            assert heard.get(name) != one
            heard[name] = one

    known.listen(listen)
    truth: dict[str, Live] = {}
    for sequence, (fresh, slices, gone) in enumerate(told):
        if fresh:
            truth = {}
        for at, part in enumerate(slices):
            lives = {name: live(name, number) for name, number in part.items()}
            last = at == len(slices) - 1
            leaving = [name for name in gone if last and not fresh and name not in lives]
            news = News(
                epoch="e",
                sequence=sequence,
                fresh=fresh and at == 0,
                more=not last,
                live=list(lives.values()),
                gone=[("micro", name) for name in leaving],
            )
            known.apply(news)
            truth.update(lives)
            for name in leaving:
                truth.pop(name, None)
        assert {one.name: one for one in known} == truth == heard
