"""Routes are remembered, within bounds, until the registry changes."""

from __future__ import annotations

import pytest

from microcosmos import Service, errors
from microcosmos.gateway import routes
from microcosmos.gateway.routes import Routes
from microcosmos.testing import Bench


def helloworld() -> Service:
    hello = Service("helloworld")

    @hello.endpoint
    async def call(name: str = "World", age: int = 0) -> str:
        return name

    return hello


async def test_a_path_is_looked_up_once(platform: Bench) -> None:
    await platform.start(helloworld())
    known = Routes(platform.platform.table)
    route = known["/helloworld"]
    assert (route.service, route.endpoint) == ("helloworld", "Helloworld.Call")
    assert known["/helloworld"] is route
    assert list(known) == ["/helloworld"]


async def test_paths_that_lead_nowhere_are_not_remembered(platform: Bench) -> None:
    await platform.start(helloworld())
    known = Routes(platform.platform.table, reserved=["/healthz"])
    for path in ("/nobody", "/helloworld/nothing", "/healthz", "/a/../b", "/" * 600 + "helloworld"):
        with pytest.raises(errors.NotFound):
            known[path]
    with pytest.raises(errors.BadRequest):
        known["/\ufffd"]
    assert not known


async def test_a_service_that_has_gone_is_not_remembered(platform: Bench) -> None:
    async with helloworld().on(platform.platform):
        pass
    known = Routes(platform.platform.table)
    with pytest.raises(errors.NotFound, match="service helloworld not found"):
        known["/helloworld"]
    assert not known


async def test_spellings_of_one_path_do_not_fill_the_memory(
    platform: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "_REMEMBERED", 10)
    await platform.start(helloworld())
    known = Routes(platform.platform.table)
    for slashes in range(1, 100):
        assert known["/" * slashes + "helloworld"].service == "helloworld"
        assert len(known) <= 10


async def test_a_change_of_the_registry_is_seen_at_once(platform: Bench) -> None:
    known = Routes(platform.platform.table)
    with pytest.raises(errors.NotFound, match="service helloworld not found"):
        known["/helloworld"]
    async with helloworld().on(platform.platform):
        assert known["/helloworld"].form.read([("age", "7")]) == {"age": 7}
    assert not known


async def test_an_endpoint_that_says_so_is_not_retried(platform: Bench) -> None:
    once = Service("once")

    @once.endpoint(retry=False)
    async def call() -> None: ...

    await platform.start(once)
    assert not platform.platform.table.retries("once", "Once.Call")


async def test_an_unknown_endpoint_is_answered_with_those_there_are(platform: Bench) -> None:
    await platform.start(helloworld())
    with pytest.raises(errors.NotFound, match=r"has no Helloworld\.Go; it has: /helloworld/call"):
        Routes(platform.platform.table)["/helloworld/go"]
