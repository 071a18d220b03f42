"""The store over rpc: the contract of every store, and whose tables are whose."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from microcosmos.auth.interface import Account
from microcosmos.base import codec, errors
from microcosmos.base.clock import ManualClock
from microcosmos.base.context import NAMESPACE
from microcosmos.rpc import Call, Client, Endpoint, MemoryNetwork, Server
from microcosmos.store import PLATFORM, Record, Store, Table, open_store
from microcosmos.store.client import RemoteBackend, RpcCaller, ServiceStore
from microcosmos.store.service import MAX_KEYS, StoreService
from microcosmos.store.wire import MAX_REMOTE_VALUE

from .conformance import Open, StoreConformance

WHO = {
    "shop": Account(id="shop", type="service", scopes=("service",)),
    "billing": Account(id="billing", type="service", scopes=("service",)),
    "root": Account(id="root", scopes=("admin",)),
    "anna": Account(id="anna", namespace="foo", scopes=("admin",)),
    "foreign": Account(id="shop", type="service", namespace="foo", scopes=("service",)),
}


def verify(call: Call, endpoint: Endpoint) -> Account | None:
    return WHO.get(call.metadata.get("Who", ""))


class Hall:
    """A store service in memory, and clients of it."""

    def __init__(self, store: Store, verified: bool) -> None:
        self.store = store
        self.audited: list[tuple[str, str, str]] = []
        self.network = MemoryNetwork()
        server = Server(verifier=verify if verified else None)
        server.add(StoreService(store, self._audit).hosted())
        self.network.join(server)
        self.client = Client([self.network])

    async def _audit(self, action: str, subject: str, detail: str) -> None:
        self.audited.append((action, subject, detail))

    async def ask(
        self, who: str, endpoint: str, request: Any = None, namespace: str = "micro"
    ) -> Any:
        metadata = {"Who": who, NAMESPACE: namespace}
        body = codec.encode(request or {})
        return codec.decode(
            await self.client.call("store", f"Store.{endpoint}", body, metadata=metadata)
        )

    def of(self, who: str) -> ServiceStore:
        account = WHO[who]
        sent = {"Who": who, NAMESPACE: account.namespace}
        return ServiceStore(RemoteBackend(_As(self.client, sent)), account.id, account.namespace)


class _As(RpcCaller):
    def __init__(self, client: Client, metadata: dict[str, str]) -> None:
        super().__init__(client)
        self._metadata = metadata

    async def call(self, endpoint: str, body: bytes) -> bytes:
        return await self._client.call("store", endpoint, body, metadata=self._metadata)

    def stream(self, endpoint: str, body: bytes) -> Any:
        return self._client.stream("store", endpoint, body, metadata=self._metadata)


@contextlib.asynccontextmanager
async def hall(*, verified: bool = True) -> AsyncIterator[Hall]:
    async with open_store("memory://") as store:
        yield Hall(store, verified)


class TestOverRpc(StoreConformance):
    freezes = False
    # Over rpc a watch waits until the store is back.
    test_a_watch_ends_with_its_store = None  # type: ignore[assignment]

    @pytest.fixture
    def opened(self, clock: ManualClock) -> Open:
        @contextlib.asynccontextmanager
        async def opened() -> AsyncIterator[Store]:
            async with open_store("memory://", clock=clock) as store:
                yield Table(RemoteBackend(RpcCaller(Hall(store, verified=False).client)))

        return opened


async def test_a_service_has_tables_of_its_own() -> None:
    async with hall() as all_:
        shop, billing = all_.of("shop"), all_.of("billing")
        await shop.set("a", 1)
        await shop.table("orders").set("b", 2)
        await billing.set("a", 3)
        assert await shop.get("a") == 1
        assert await all_.store.table("shop/orders").get("b") == 2
        assert await all_.store.table("billing").get("a") == 3
        assert await shop.tables() == ["shop", "shop/orders"]


@pytest.mark.parametrize("table", ["billing", "billing/x", "micro", "shopping", "billing$index/a"])
async def test_the_tables_of_others_are_refused(table: str) -> None:
    async with hall() as all_:
        for endpoint, request in (
            ("Read", {"key": "a", "options": {"table": table}}),
            ("Write", {"record": {"key": "a"}, "options": {"table": table}}),
            ("Delete", {"key": "a", "options": {"table": table}}),
            ("List", {"options": {"table": table}}),
            ("Count", {"options": {"table": table}}),
            ("Page", {"options": {"table": table}}),
            ("Batch", {"ops": [], "options": {"table": table}}),
            ("Batch", {"ops": [{"type": "delete", "key": "a", "table": table}]}),
            ("Grant", {"table": table, "service": "shop"}),
            ("Revoke", {"table": table, "service": "shop"}),
        ):
            with pytest.raises(errors.Forbidden):
                await all_.ask("shop", endpoint, request)
        with pytest.raises(errors.Forbidden):
            async with all_.of("shop").of(table).watch():
                pass


async def test_another_namespace_and_the_platforms_own_are_refused() -> None:
    async with hall() as all_:
        await all_.store.table("secrets", database=PLATFORM).set("a", 1)
        for who in ("shop", "anna"):
            where = {"database": "bar" if who == "anna" else "foo", "table": "shop"}
            with pytest.raises(errors.Forbidden):
                await all_.ask(who, "Read", {"key": "a", "options": where})
        for who in ("root", "shop"):
            for place in (PLATFORM, "$x", ""):
                where = {"database": place or "a/b", "table": "secrets"}
                with pytest.raises(errors.BadRequest, match="namespace"):
                    await all_.ask(who, "List", {"options": where})
        assert (await all_.ask("root", "Databases"))["databases"] == []


async def test_the_same_table_of_two_namespaces_is_not_one() -> None:
    async with hall() as all_:
        await all_.of("shop").set("a", 1)
        await all_.of("foreign").set("a", 2)
        assert await all_.of("shop").get("a") == 1
        assert await all_.of("foreign").get("a") == 2
        assert await all_.of("shop").databases() == ["micro"]
        assert await all_.of("foreign").databases() == ["foo"]
        assert await all_.of("root").databases() == ["foo", "micro"]


async def test_a_grant_shares_a_table_until_it_is_taken_back() -> None:
    async with hall() as all_:
        shop, billing = all_.of("shop"), all_.of("billing")
        await shop.table("orders").set("a", 1)
        seen = billing.of("shop").table("orders")
        grant = {"table": "shop/orders", "service": "billing"}
        await all_.ask("shop", "Grant", grant)
        assert await seen.get("a") == 1
        assert await billing.tables() == ["shop/orders"]
        with pytest.raises(errors.Forbidden, match="--access write"):
            await seen.set("a", 2)
        with pytest.raises(errors.Forbidden):
            await billing.of("shop").get("a")
        await all_.ask("root", "Grant", {**grant, "access": "write"})
        await seen.set("a", 2)
        granted = {**grant, "access": "write"}
        assert (await all_.ask("shop", "Grants"))["grants"] == [granted]
        assert (await all_.ask("billing", "Grants"))["grants"] == []
        await all_.ask("shop", "Revoke", grant)
        with pytest.raises(errors.Forbidden):
            await seen.get("a")
        with pytest.raises(errors.NotFound):
            await all_.ask("shop", "Revoke", grant)
        assert [action for action, _, _ in all_.audited] == [
            "table granted",
            "table granted",
            "grant revoked",
        ]


async def test_an_admin_reads_every_table_of_the_namespace() -> None:
    async with hall() as all_:
        await all_.of("shop").set("a", 1)
        answer = await all_.ask("root", "Read", {"key": "a", "options": {"table": "shop"}})
        assert answer["records"][0]["key"] == "a"
        assert (await all_.ask("root", "Tables"))["tables"] == ["shop"]
        assert (await all_.ask("root", "Tables", namespace="foo"))["tables"] == []


async def test_long_answers_come_in_pages() -> None:
    async with hall() as all_:
        shop = all_.of("shop")
        keys = [f"{number:06}" for number in range(MAX_KEYS + 10)]
        for key in keys:
            await all_.store.table("shop").write(key, b"x")
        assert await shop.list() == keys
        assert [record.key for record in await shop.read(order="desc")] == keys[::-1]
        assert await shop.list(offset=5, limit=MAX_KEYS + 2) == keys[5 : MAX_KEYS + 7]


async def test_records_that_are_more_than_an_answer_carries_come_in_pages() -> None:
    async with hall() as all_:
        shop, big = all_.of("shop"), b"\xff" * MAX_REMOTE_VALUE
        for number in range(3):
            await shop.write(str(number), big)
        assert [len(record.value) for record in await shop.read()] == [MAX_REMOTE_VALUE] * 3
        assert (await shop.read("1")).value == big
        with pytest.raises(errors.TooLarge, match="limit and offset"):
            await all_.ask("shop", "Read", {"options": {"prefix": True}})


async def test_what_is_too_large_for_a_call_is_refused_with_the_way_out() -> None:
    async with hall() as all_:
        with pytest.raises(errors.TooLarge, match="blobs"):
            await all_.of("shop").write("a", b"x" * (MAX_REMOTE_VALUE + 1))
        assert await all_.of("shop").list() == []


async def test_micros_own_forms() -> None:
    async with hall() as all_:
        record = {"key": "id1", "value": "eA==", "expiry": 10, "metadata": {"a": "b"}}
        version = (await all_.ask("root", "Write", {"record": record}))["version"]
        found = (await all_.ask("root", "Read", {"key": "id1"}))["records"]
        assert msgspec.convert(found[0], Record, strict=False).version == version
        assert await all_.store.list() == ["id1"]
        options = {"prefix": True, "limit": "1", "order": "desc"}
        found = await all_.ask("root", "Read", {"key": "i", "options": options})
        assert [one["key"] for one in found["records"]] == ["id1"]
        found = await all_.ask("root", "Read", {"key": "1", "options": {"suffix": True}})
        assert [one["key"] for one in found["records"]] == ["id1"]
        with pytest.raises(errors.NotFound, match="no key 'nope'"):
            await all_.ask("root", "Read", {"key": "nope"})
        with pytest.raises(errors.BadRequest, match="order is asc or desc"):
            await all_.ask("root", "List", {"options": {"order": "up"}})
        assert await all_.ask("root", "Delete", {"key": "id1"}) in (None, {})


async def test_a_watch_goes_on_where_it_was_when_the_store_was_away() -> None:
    async with hall() as all_:
        shop = all_.of("shop")
        async with shop.watch(prefix="k") as changes:
            await shop.write("k1", b"1")
            assert (await anext(changes)).key == "k1"
            [server] = all_.network._servers["store"]
            all_.network.cut(server)
            await all_.store.table("shop").write("k2", b"2")
            await all_.store.table("shop").delete("k1")
            all_.network.join(server)
            seen = {}
            while "k1" not in seen or seen["k1"] is not None:
                change = await anext(changes)
                seen[change.key] = change.record
            assert seen["k2"].value == b"2"
