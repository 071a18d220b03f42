"""The service `workers` on the host's socket: what is asked there, and by whom."""

from __future__ import annotations

import asyncio

import pytest

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account, Policy
from microcosmos.auth.keys import TokenKeys, platform_token
from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Finding, Replay
from microcosmos.functions.requests import Invoked, InvokeRequest
from microcosmos.functions.workers import (
    Bundle,
    Bundling,
    Place,
    Replaying,
    Suspicion,
    Verdict,
    Where,
    WorkersClient,
    WorkersService,
    open_workers,
)
from microcosmos.rpc import Server
from microcosmos.rpc.lane import listen

from .zygotes import home

KEYS = TokenKeys()


class Host:
    """Answers with what it was asked."""

    async def place(self, where: Where) -> list[Place]:
        if where.number == 0:
            raise errors.InternalServerError("functions.load", "it fails when loaded")
        return [Place(f"/{where.namespace}/{where.name}", where.number, 1), Place("/b", 2, 3)]

    async def check(self, source: wire.Source) -> wire.Checked:
        return wire.Checked(line=len(source.code), message=source.file)

    async def bundle(self, bundling: Bundling) -> Bundle:
        return Bundle(findings=[Finding(file=bundling.main, message=bundling.language)])

    async def suspect(self, suspicion: Suspicion) -> Verdict:
        return Verdict(suspicion.burned > 1, next(iter(suspicion.owed)))

    async def replay(self, replaying: Replaying) -> Invoked:
        return Invoked(status=200, body=f"{replaying.namespace} {replaying.request.name}".encode())


def server() -> Server:
    access = Access()
    access.follow(Policy(keys=KEYS.public(), rules={"micro": []}))
    answering = Server(verifier=access)
    answering.add(WorkersService(Host()).hosted())
    return answering


def badge() -> str:
    return f"Bearer {platform_token(KEYS, 'gateway-1')}"


def account(*scopes: str) -> str:
    signed = KEYS.signer.sign(
        Account(id="alice", namespace="micro", scopes=list(scopes)), "", KEYS._clock.time(), 60
    )
    return f"Bearer {signed}"


async def test_it_is_asked_over_the_lane() -> None:
    with home() as place:
        async with listen(place.functions_lane, server()), open_workers(place, badge) as workers:
            placed = await workers.place(Where("micro", "shop", 3, "k"))
            assert placed == [Place("/micro/shop", 3, 1), Place("/b", 2, 3)]
            checked = await workers.check(wire.Source(file="a.js", code="abc"))
            assert (checked.line, checked.message) == (3, "a.js")
            bundle = await workers.bundle(Bundling(files={}, main="a.ts", language="typescript"))
            assert bundle.findings == [Finding(file="a.ts", message="typescript")]
            assert await workers.suspect(Suspicion(1, 2.0, {"k": 3})) == Verdict(True, "k")
            request = InvokeRequest(name="shop", replay=Replay(seed="s"))
            answer = await workers.replay(Replaying(namespace="micro", request=request))
            assert answer == Invoked(status=200, body=b"micro shop")
            with pytest.raises(errors.InternalServerError) as caught:
                await workers.place(Where("micro", "shop", 0, "k"))
            assert caught.value.id == "functions.load"


@pytest.mark.parametrize("scopes", [(), ("service",), ("user",)])
async def test_only_the_platform_may_ask(scopes: tuple[str, ...]) -> None:
    with home() as place:
        async with listen(place.functions_lane, server()):
            async with open_workers(place, lambda: account(*scopes)) as workers:
                with pytest.raises(errors.Forbidden):
                    await workers.place(Where("micro", "shop", 3, "k"))
                request = InvokeRequest(name="shop", replay=Replay())
                with pytest.raises(errors.Forbidden):
                    await workers.replay(Replaying(namespace="micro", request=request))
            async with open_workers(place, None) as workers:
                with pytest.raises(errors.Unauthorized):
                    await workers.suspect(Suspicion(1, 2.0, {"k": 3}))


async def test_a_host_that_is_away_is_unavailable_and_found_again() -> None:
    with home() as place:
        async with open_workers(place, badge) as workers:
            for _ in range(2):
                with pytest.raises(errors.Unavailable) as caught:
                    await workers.place(Where("micro", "shop", 3, "k"))
                # By this id a caller knows that it is the host that is missing.
                assert caught.value.id == "workers"
                async with listen(place.functions_lane, server(), drain=0):
                    assert await eventually(workers)


async def eventually(workers: WorkersClient) -> list[Place]:
    """A socket that did not open is left alone for a moment."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await workers.place(Where("micro", "shop", 3, "k"))
            except errors.Unavailable:
                await asyncio.sleep(0.005)
