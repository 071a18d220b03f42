"""What a process keeps of auth: its identity and the policy, over cores that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import jwt
import pytest

from microcosmos.auth.access import Access
from microcosmos.auth.client import ServiceIdentity, follow_policy
from microcosmos.auth.interface import Rule
from microcosmos.auth.keys import TokenKeys, platform_token
from microcosmos.base import context, errors
from microcosmos.base.clock import ManualClock
from microcosmos.base.tasks import background
from microcosmos.rpc import Client, MemoryNetwork

from .world import World, until, world


class Place:
    """A network, on which a core is or is not."""

    def __init__(self, tmp_path: Path, clock: ManualClock | None = None) -> None:
        self.network = MemoryNetwork()
        self.client = Client([self.network])
        self.keys = TokenKeys(tmp_path / "keys")
        self._url = f"sqlite://{tmp_path}/store.db"

    @asynccontextmanager
    async def core(self) -> AsyncIterator[World]:
        async with world(self._url, keys=self.keys) as at:
            self.network.join(at.server)
            try:
                yield at
            finally:
                # As if it had been killed.
                self.network.cut(at.server)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_policy_is_followed_over_cores_that_come_and_go(place: Place) -> None:
    access = Access()
    header = lambda: f"Bearer {platform_token(place.keys, 'gateway')}"  # noqa: E731
    following = follow_policy(place.client, access, "", header)
    async with background(following, "policy"):
        async with place.core() as at:
            await until(lambda: access.policy, lambda now: "micro" in now.rules)
            await at.authority.rules.create("micro", Rule(id="a"))
            await until(lambda: access.policy, lambda now: len(now.rules["micro"]) == 2)
        last = access.policy
        assert last is not None
        async with place.core() as at:
            assert access.policy == last
            await at.authority.rules.create("micro", Rule(id="b"))
            await until(lambda: access.policy, lambda now: len(now.rules["micro"]) == 3)


async def test_who_may_not_follow_is_told_and_goes_on_trying(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    access, shown = Access(), ""
    following = follow_policy(place.client, access, "", lambda: shown)
    async with place.core(), background(following, "policy"):
        while "cannot be followed" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert access.policy is None
        shown = f"Bearer {platform_token(place.keys, 'gateway')}"
        await until(lambda: access.policy, lambda now: "micro" in now.rules)


async def test_a_service_has_a_token_once_it_runs(place: Place) -> None:
    async with place.core() as at:
        secret = await at.authority.service_secret("micro", "foo", "foo-0")
        async with ServiceIdentity(place.client, "foo", secret) as identity:
            metadata = {"Authorization": identity.header()}
            answer = await place.client.call("auth", "Accounts.Read", metadata=metadata)
        assert b'"type":"service"' in answer


async def test_it_waits_for_a_core_that_is_about_to_come(place: Place) -> None:
    async with place.core() as at:
        secret = await at.authority.service_secret("micro", "foo", "foo-0")
    async with AsyncExitStack() as stack:
        identity = ServiceIdentity(place.client, "foo", secret)
        entering = asyncio.create_task(stack.enter_async_context(identity))
        await asyncio.sleep(0)
        assert not entering.done()
        async with place.core():
            await entering
            assert identity.header().startswith("Bearer ey")


async def test_it_gives_up_on_one_that_does_not(place: Place) -> None:
    with pytest.raises(errors.Unavailable, match="no token for foo"):
        await ServiceIdentity(place.client, "foo", "secret", patience=0.0).__aenter__()


async def test_a_wrong_secret_says_where_it_comes_from(place: Place) -> None:
    async with place.core():
        with pytest.raises(errors.Unauthorized, match="MICRO_AUTH_SECRET_FILE") as caught:
            await ServiceIdentity(place.client, "foo", "hunter22").__aenter__()
    assert "foo could not log in" in caught.value.detail
    assert "hunter22" not in caught.value.detail


class Turning(ManualClock):
    """Counts how often somebody sleeps, and for how long at last."""

    def __init__(self, start: float) -> None:
        super().__init__(start)
        self.slept: list[float] = []
        self.asleep = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.asleep.set()
        await super().sleep(seconds)

    async def wait(self) -> float:
        """Until somebody sleeps again, for how long."""
        await self.asleep.wait()
        self.asleep.clear()
        return self.slept[-1]


def issued(identity: ServiceIdentity) -> str:
    token = identity.header().removeprefix("Bearer ")
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


async def test_a_token_is_renewed_in_time_and_while_the_core_is_away_again_and_again(
    place: Place,
) -> None:
    clock = Turning(time.time())
    async with AsyncExitStack() as stack:
        async with place.core() as at:
            secret = await at.authority.service_secret("micro", "foo", "foo-0")
            identity = ServiceIdentity(place.client, "foo", secret, clock=clock)
            await stack.enter_async_context(identity)
            first = issued(identity)
            pause = await clock.wait()
            assert pause == pytest.approx(600, abs=2)
            await clock.advance(pause)
            await clock.wait()
            second = issued(identity)
            assert second != first
        pauses = []
        await clock.advance(clock.slept[-1])
        for _ in range(10):
            pauses.append(await clock.wait())
            await clock.advance(pauses[-1])
        assert issued(identity) == second
        assert pauses[0] < 0.2
        assert 5 < pauses[-1] <= 15
        async with place.core():
            while issued(identity) == second:
                await clock.advance(await clock.wait())


async def test_it_asks_for_itself_whomever_it_serves(place: Place) -> None:
    """A token of somebody else in the circumstances of a call does not get in its way."""
    async with place.core() as at:
        secret = await at.authority.service_secret("micro", "foo", "foo-0")
        caller = context.Metadata({"Authorization": "Bearer rubbish"})
        context.set_current(context.Context(caller))
        client = place.client.showing(lambda: "Bearer rubbish too")
        async with ServiceIdentity(client, "foo", secret) as identity:
            assert issued(identity)
