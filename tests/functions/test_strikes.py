"""Strikes in the core: who may give them, what follows, and when they are forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.auth.keys import platform_token
from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.functions import strikes
from microcosmos.functions.client import PlatformFunctions
from microcosmos.functions.requests import StrikeRequest

from .plane import Plane, draft, opened


def host(plane: Plane) -> PlatformFunctions:
    return PlatformFunctions(plane.calling(platform_token(plane.auth.keys, "functions")))


def strike(worker: str, number: int = 1, **more: object) -> StrikeRequest:
    return StrikeRequest(
        namespace="micro",
        name="hello",
        number=number,
        worker=worker,
        reason="ended here",
        **more,  # type: ignore[arg-type]
    )


async def test_one_strike_sets_a_version_apart_and_further_ones_have_it_refused(
    tmp_path: Path,
) -> None:
    clock = ManualClock(1_700_000_000.0)
    async with opened(f"sqlite://{tmp_path}/store.db", clock=clock) as plane:
        functions, core = await plane.admin(), host(plane)
        await functions.deploy(draft())
        assert (await core.unit("micro", "hello", 1)).strikes == 0
        assert (await functions.get("hello")).states == {}
        state = await core.strike(strike("w1"))
        assert (state.state, state.strikes, state.reason) == ("quarantined", 1, "ended here")
        assert (state.since, state.until) == (
            "2023-11-14T22:13:20.000000Z",
            "2023-11-14T23:13:20.000000Z",
        )
        assert (await core.unit("micro", "hello", 1)).strikes == 1
        # What is told again is not counted again.
        assert (await core.strike(strike("w1"))).strikes == 1
        for number, pause in enumerate((1, 2, 4, 8, 16, 32, 60, 60), start=2):
            assert (await core.strike(strike(f"w{number}"))).state == "refused"
            with pytest.raises(errors.Unavailable) as caught:
                await core.unit("micro", "hello", 1)
            assert caught.value.id == "functions.quarantine"
            assert caught.value.retry_after == pause
            assert f"{number} strikes, and was ended here" in caught.value.detail
            assert (await functions.get("hello")).states["v1"].state == "refused"
            assert (await functions.list())[0].states["v1"].strikes == number
            await clock.advance(pause)
            assert (await core.unit("micro", "hello", 1)).strikes == number
            assert (await functions.get("hello")).states["v1"].state == "quarantined"


async def test_a_suspicion_sets_apart_for_less_time_and_has_nothing_refused() -> None:
    clock = ManualClock()
    async with opened(clock=clock) as plane:
        functions, core = await plane.admin(), host(plane)
        await functions.deploy(draft())
        for number in range(5):
            state = await core.strike(strike(f"w{number}", suspected=True))
            assert (state.state, state.strikes) == ("quarantined", number + 1)
        await clock.advance(strikes.SUSPECTED - 1)
        assert (await core.unit("micro", "hello", 1)).strikes == 5
        await clock.advance(1)
        assert (await core.unit("micro", "hello", 1)).strikes == 0
        assert (await functions.get("hello")).states == {}


async def test_strikes_are_forgotten_after_an_hour_without_a_new_one() -> None:
    clock = ManualClock()
    async with opened(clock=clock) as plane:
        functions, core = await plane.admin(), host(plane)
        await functions.deploy(draft())
        await core.strike(strike("w1"))
        await clock.advance(strikes.FORGOTTEN - 1)
        await core.strike(strike("w2"))
        await clock.advance(strikes.FORGOTTEN - 1)
        assert (await core.unit("micro", "hello", 1)).strikes == 2
        await clock.advance(1)
        assert (await core.unit("micro", "hello", 1)).strikes == 0
        assert (await core.strike(strike("w3"))).strikes == 1


async def test_a_new_version_begins_without_and_an_owner_may_pardon() -> None:
    async with opened(clock=ManualClock()) as plane:
        functions, core = await plane.admin(), host(plane)
        await functions.deploy(draft())
        await core.strike(strike("w1"))
        await core.strike(strike("w2"))
        await functions.deploy(draft(code="`better`"))
        assert (await core.unit("micro", "hello", 2)).strikes == 0
        assert set((await functions.get("hello")).states) == {"v1"}
        await core.strike(strike("w3", number=2))
        assert set((await functions.get("hello")).states) == {"v1", "v2"}
        other = await plane.of("bob")
        with pytest.raises(errors.Forbidden):
            await other.pardon("hello")
        assert await functions.pardon("hello") == 2
        assert await functions.pardon("hello") == 0
        assert (await functions.get("hello")).states == {}
        assert (await core.unit("micro", "hello", 1)).strikes == 0
        with pytest.raises(errors.NotFound):
            await functions.pardon("absent")


async def test_a_function_that_is_deployed_anew_has_none_of_its_forerunner() -> None:
    async with opened(clock=ManualClock()) as plane:
        functions, core = await plane.admin(), host(plane)
        await functions.deploy(draft())
        await core.strike(strike("w1"))
        await functions.delete("hello")
        with pytest.raises(errors.NotFound):
            await core.strike(strike("w2"))
        assert not await plane.catalogue._tables.strikes.list()
        await functions.deploy(draft())
        assert (await core.unit("micro", "hello", 1)).strikes == 0
        with pytest.raises(errors.NotFound, match="has no v7"):
            await core.strike(strike("w2", number=7))


async def test_nobody_but_the_host_gives_strikes() -> None:
    async with opened() as plane:
        await (await plane.admin()).deploy(draft())
        for client in (plane.badge, plane.calling(await plane.auth.login())):
            with pytest.raises(errors.Forbidden):
                await PlatformFunctions(client).strike(strike("w1"))
        with pytest.raises(errors.Unauthorized):
            await PlatformFunctions(plane.calling()).strike(strike("w1"))
