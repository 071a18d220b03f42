"""Replays: who may have a request answered in one, what they are called, and their randomness."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.functions import replay
from microcosmos.functions.host.owners import owner_for
from microcosmos.functions.interface import Replay, Unit
from microcosmos.functions.replay import World
from microcosmos.functions.requests import InvokeRequest

from .plane import draft, opened


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=20), st.lists(st.integers(0, 200), max_size=6))
def test_randomness_is_chacha20_however_it_is_taken(seed: str, sizes: list[int]) -> None:
    world = World(Replay(seed=seed))
    taken = b"".join(world.random(size) for size in sizes)
    cipher = Cipher(algorithms.ChaCha20(replay.stream_key(seed), bytes(16)), None)
    assert taken == cipher.encryptor().update(bytes(sum(sizes)))


def test_a_copy_goes_on_by_itself() -> None:
    world = World(Replay(clock=5, step=2))
    assert [world.look(), world.look()] == [5, 7]
    before = world.random(3)
    one, other = world.copy(), world.copy()
    assert one.random(70) == other.random(70) != before
    one.reached(100)
    one.reached(50)
    assert (one.look(), other.look()) == (100, 9)


def test_each_replay_of_each_version_has_a_key_of_its_own() -> None:
    worlds = [Replay(), Replay(seed="s"), Replay(clock=1), Replay(step=1)]
    keys = {replay.key_of(key, world) for key in ("k1", "k2") for world in worlds}
    assert len(keys) == 8
    assert all(replay.is_replayed(key) for key in keys)
    assert not replay.is_replayed("k1")
    assert replay.key_of("k1", Replay(seed="s")) == replay.key_of("k1", worlds[1])


@pytest.mark.parametrize(
    ("world", "detail"),
    [
        ({"seed": "s" * 1001}, "seed: at most 1,000 characters"),
        ({"clock": 1e18}, "clock: a time from"),
        ({"clock": float("nan")}, "clock: a time from"),
        ({"step": -1}, "step: from 0 to 24 hours"),
        ({"step": float("inf")}, "step: from 0 to 24 hours"),
    ],
)
def test_what_cannot_be_replayed_is_refused(world: dict[str, Any], detail: str) -> None:
    with pytest.raises(errors.BadRequest, match=detail):
        replay.check(Replay(**world))


def test_on_deno_replays_are_apart() -> None:
    """There the whole process has another time."""
    unit = Unit(
        namespace="micro",
        name="f",
        number=1,
        key="k",
        owner="jane",
        language="javascript",
        form="module",
        engine="deno",
        main="f.js",
        code="",
    )
    again = msgspec.structs.replace(unit, replay=Replay())
    apart = msgspec.structs.replace(unit, isolation="process")
    owners = [owner_for(one) for one in (unit, apart, again)]
    assert len(set(owners)) == 3
    assert owners[2].apart.startswith("f~")
    assert owner_for(msgspec.structs.replace(again, engine="quickjs")).apart == ""


async def test_only_the_owner_and_an_admin_may_replay() -> None:
    request = InvokeRequest(name="hello", replay=Replay(seed="s"))
    async with opened() as plane:
        admin = await plane.admin()
        jane, john = await plane.of("jane"), await plane.of("john")
        await jane.deploy(draft())
        for functions in (admin, jane):
            # Who gets that far may do it; there is no host in this test.
            with pytest.raises(errors.Unimplemented):
                await functions.invoke(request)
        with pytest.raises(errors.Forbidden, match="belongs to jane"):
            await john.invoke(request)
        with pytest.raises(errors.BadRequest, match="step"):
            await jane.invoke(msgspec.structs.replace(request, replay=Replay(step=-1)))
        with pytest.raises(errors.NotFound):
            await jane.invoke(InvokeRequest(name="nobody", replay=Replay()))
