"""The block list: of the file, and of the core."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.gateway.front import blocklist
from microcosmos.gateway.front.blocklist import ApiService
from microcosmos.gateway.front.blocks import Blocked
from microcosmos.store import open_store

TRUST = "[proxies]\ntrusted = ['127.0.0.1']\n"


async def test_addresses_and_keys_of_the_file(open_front: Any, platform: Any, echo: Any) -> None:
    await platform.start(echo.service)
    digest = hashlib.sha256(b"hidden").hexdigest()
    text = "[block]\naddresses = ['203.0.113.0/24', '2001:db8::/32']\n"
    text += f"keys = ['k1', 'sha256:{digest}']"
    async with open_front(TRUST + text) as fronted:
        refused = await fronted.get("/echo", X_Forwarded_For="203.0.113.77")
        assert refused.status_code == 403
        assert refused.json() == {
            "Id": "gateway.blocked",
            "Code": 403,
            "Detail": "the address 203.0.113.77 is blocked",
            "Status": "Forbidden",
        }
        for headers in (
            {"X_Forwarded_For": "2001:DB8::1"},
            {"X_Forwarded_For": "::ffff:203.0.113.1"},
            {"Authorization": "Bearer k1"},
            {"authorization": "bearer  hidden"},
            {"X_Api_Key": "k1"},
        ):
            refused = await fronted.get("/echo", **headers)
            assert refused.status_code == 403, headers
            assert "k1" not in refused.text
            assert "hidden" not in refused.text
        assert (await fronted.get("/healthz", X_Forwarded_For="203.0.113.1")).status_code == 403
        for headers in ({"X_Forwarded_For": "203.0.114.1"}, {"X_Api_Key": "k2"}, {}):
            assert (await fronted.get("/echo", **headers)).status_code == 200
        assert echo.calls == 3


async def test_a_client_that_sends_sees_that_it_is_blocked(open_front: Any) -> None:
    async with open_front("[block]\naddresses = ['127.0.0.1']") as fronted:
        answer = await fronted.site.http.post("/echo", content=b"x" * 300_000)
        assert answer.status_code == 403


async def test_the_list_of_the_core(open_front: Any, platform: Any, echo: Any) -> None:
    await platform.start(echo.service)
    async with open_front() as fronted:
        fronted.front.block([Blocked("127.0.0.1", "other"), Blocked("key")])
        assert (await fronted.get("/echo")).status_code == 200
        assert (await fronted.get("/echo", Micro_Namespace="other")).status_code == 403
        assert (await fronted.get("/echo", X_Api_Key="key")).status_code == 403
        fronted.front.block([])
        assert (await fronted.get("/echo", X_Api_Key="key")).status_code == 200


async def test_the_service_keeps_and_tells(platform: Any) -> None:
    seen: list[list[Blocked]] = []
    async with open_store("memory://") as store:
        api = ApiService(store)
        client = platform.platform.client
        async with platform.platform.host([api.hosted()]):
            following = asyncio.create_task(blocklist.follow(client, seen.append))
            remote = platform.client("api")
            await remote.add_to_block_list(id="10.1.2.3/8")
            await remote.add_to_block_list(id="10.1.2.3/8")
            await remote.add_to_block_list(id="token", namespace="micro")
            assert await remote.read_block_list() == {"ids": ["10.0.0.0/8", "token"]}
            async with asyncio.timeout(60):
                while not seen or len(seen[-1]) < 2:  # noqa: ASYNC110 - another task fills it
                    await asyncio.sleep(0.005)
            assert seen[-1] == [Blocked("10.0.0.0/8"), Blocked("token", "micro")]
            await remote.remove_from_block_list(id="10.0.0.0/8")
            await remote.remove_from_block_list(id="token", namespace="other")
            assert await remote.read_block_list() == {"ids": ["token"]}
            following.cancel()
            # Another core on the same store knows what this one was told.
            assert (await ApiService(store).watch_block_list()).blocked == [
                Blocked("token", "micro")
            ]


@pytest.mark.parametrize("id", ["", "  ", "10.0.0.0/99", "::1/200", "x" * 600])
async def test_ids_that_are_none(platform: Any, id: str) -> None:
    async with (
        open_store("memory://") as store,
        platform.platform.host([ApiService(store).hosted()]),
    ):
        with pytest.raises(errors.BadRequest):
            await platform.client("api").add_to_block_list(id=id)


async def test_the_list_has_an_end(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocklist, "MAX_BLOCKED", 2)
    async with open_store("memory://") as store:
        api = ApiService(store)
        for id in ("a", "b"):
            await api.add_to_block_list(id)
        with pytest.raises(errors.TooManyRequests, match="2 entries"):
            await api.add_to_block_list("c")


async def test_who_waits_is_let_go_when_the_core_stops(platform: Any) -> None:
    async with open_store("memory://") as store:
        api = ApiService(store)
        async with platform.platform.host([api.hosted()]):
            tag = (await platform.client("api").watch_block_list())["tag"]
            waiting = asyncio.create_task(platform.client("api").watch_block_list(tag=tag))
            await asyncio.sleep(0)
            api.close()
            with pytest.raises(errors.Unavailable):
                await waiting
