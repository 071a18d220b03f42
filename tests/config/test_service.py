"""Config over rpc: Micro's endpoints and ours, and who may do what."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.config.client import ConfigClient

from .conftest import ADMIN, Account, opened

ORDERS = Account("orders")
STOCK = Account("stock.eu")
READER = Account("bob", "user")
OPENER = Account("eve", "user", scopes=("service", "secrets"))
GATEWAY = Account("gateway", "platform")
FOREIGN = Account("ann", "user", "acme", scopes=("admin",))
PLACED = Account("orders", "service", "acme")


async def ask(client: Any, method: str, **request: Any) -> Any:
    body = json.dumps(request).encode()
    return json.loads(await client.call("config", f"Config.{method}", body))


async def test_the_endpoints_of_micro_answer_in_its_form() -> None:
    async with opened() as platform:
        client = platform.client(ADMIN)
        value = {"data": '{"a": "val1", "b": [1, true]}', "format": "json"}
        await ask(client, "Set", path="helloworld", value=value)
        got = await ask(client, "Get", namespace="micro", path="helloworld")
        assert got == {"value": {"data": '{"a":"val1","b":[1,true]}', "format": "json"}}
        secret = {"path": "helloworld.c", "options": {"secret": True}}
        await ask(client, "Set", **secret, value={"data": "42"})
        assert (await ask(client, "Get", path="helloworld.c"))["value"]["data"] == '"[secret]"'
        assert (await ask(client, "Get", **secret))["value"]["data"] == "42"
        read = (await ask(client, "Read", path="helloworld.a"))["change"]
        assert read["namespace"] == "micro"
        assert read["changeSet"]["data"] == '"val1"'
        await ask(client, "Delete", path="helloworld.a")
        with pytest.raises(errors.NotFound, match=r"helloworld\.a is not set"):
            await ask(client, "Get", path="helloworld.a")


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"path": "a", "value": {"data": "{"}}, "value.data is no JSON"),
        ({"path": "a", "value": {"data": ""}}, "value.data is no JSON"),
        ({"path": "a", "value": {"data": "1", "format": "yaml"}}, "value.format"),
        ({"path": "a", "value": {"data": "[" * 100_000}}, "value.data is no JSON"),
        ({"path": "a..b", "value": {"data": "1"}}, "empty key"),
        ({"path": "", "value": {"data": "1"}}, "only a map"),
        ({"path": "a"}, "value"),
        ({"pth": "a", "value": {"data": "1"}}, "pth"),
        ({"path": "a", "value": {"data": "1"}, "namespace": "A b"}, "no namespace"),
        ({"path": 5, "value": {"data": "1"}}, "path"),
    ],
)
async def test_bad_requests_are_told_by_field(request_: Any, told: str) -> None:
    async with opened() as platform:
        with pytest.raises(errors.BadRequest) as caught:
            await ask(platform.client(ADMIN), "Set", **request_)
        assert told in caught.value.detail
        assert (await platform.config.document("micro")).revision == 0


async def prepared(platform: Any) -> None:
    config = platform.config
    for path in ("orders.key", "orders-old.key", "stock.eu.key", "shared.key", "key"):
        await config.set("micro", path, "hush", secret=True)
        await config.set("micro", path + "-plain", 1)
    await config.set("acme", "orders.key", "hush of acme", secret=True)


@pytest.mark.parametrize(
    ("account", "opens"),
    [
        (ADMIN, {"orders.key", "orders-old.key", "stock.eu.key", "shared.key", "key"}),
        (GATEWAY, {"orders.key", "orders-old.key", "stock.eu.key", "shared.key", "key"}),
        (OPENER, {"orders.key", "orders-old.key", "stock.eu.key", "shared.key", "key"}),
        (ORDERS, {"orders.key", "shared.key"}),
        (STOCK, {"stock.eu.key", "shared.key"}),
        (READER, set()),
    ],
    ids=lambda value: getattr(value, "id", ""),
)
async def test_who_reads_which_secrets(account: Account, opens: set[str]) -> None:
    async with opened() as platform:
        await prepared(platform)
        client = platform.client(account)
        config = ConfigClient(client)
        for path in ("orders.key", "orders-old.key", "stock.eu.key", "shared.key", "key"):
            assert (await config.get(path)).str() == "[secret]"
            assert (await config.get(path + "-plain", secret=True)).int() == 1
            if path in opens:
                assert (await config.get(path, secret=True)).str() == "hush"
            else:
                with pytest.raises(errors.Forbidden, match=f"may not read the secret {path}"):
                    await config.get(path, secret=True)
        # Of a tree all of it or nothing: no half answer is taken for a whole one.
        if len(opens) == 5:
            assert (await config.get(secret=True)).map()["key"] == "hush"
        else:
            with pytest.raises(errors.Forbidden):
                await config.get(secret=True)
        assert (await config.get()).map()["key"] == "[secret]"


async def test_a_service_changes_what_is_under_its_name_only() -> None:
    async with opened() as platform:
        await prepared(platform)
        orders, stock = (ConfigClient(platform.client(one)) for one in (ORDERS, STOCK))
        await orders.set("orders.limit", 5)
        await orders.set("orders", {"more": 1})
        await stock.set("stock.eu.limit", 5)
        await orders.delete("orders.limit")
        for attempt in (
            orders.set("orders-old.limit", 5),
            orders.set("shared.limit", 5),
            orders.set("", {"orders": {"limit": 5}}),
            orders.delete("key"),
            stock.set("stock.us.limit", 5),
            stock.set("stock", {"eu": {"limit": 5}}),
            ConfigClient(platform.client(READER)).set("bob.limit", 5),
            ConfigClient(platform.client(OPENER)).delete("key"),
            orders.rollback(1),
        ):
            with pytest.raises(errors.Forbidden):
                await attempt
        assert (await ConfigClient(platform.client(ADMIN)).history())[0].account == "orders"


async def test_namespaces_are_apart() -> None:
    async with opened() as platform:
        await prepared(platform)
        mine = ConfigClient(platform.client(PLACED, "acme"))
        assert (await mine.get("orders.key", secret=True)).str() == "hush of acme"
        assert not (await mine.get("shared.key")).exists()
        theirs = ConfigClient(platform.client(FOREIGN, "acme"))
        await theirs.set("anything", 1)
        for client in (
            ConfigClient(platform.client(PLACED, "acme"), "micro"),
            ConfigClient(platform.client(FOREIGN, "acme"), "micro"),
            ConfigClient(platform.client(ORDERS), "acme"),
            ConfigClient(platform.client(READER, "acme")),
        ):
            for attempt in (
                client.get("orders.key"),
                client.set("orders.key", 1),
                client.delete("orders.key"),
                client.history(),
                client.rollback(1),
                anext(client.watch()),
            ):
                with pytest.raises(errors.Forbidden, match="may not touch the config of"):
                    await attempt
        # An admin of micro administers all.
        everywhere = ConfigClient(platform.client(ADMIN), "acme")
        assert (await everywhere.get("orders.key", secret=True)).str() == "hush of acme"
        for account in (FOREIGN, ORDERS, OPENER):
            with pytest.raises(errors.Forbidden):
                await ConfigClient(platform.client(account, account.namespace)).rotate_key()
        assert await ConfigClient(platform.client(ADMIN)).rotate_key() == 6


async def test_the_anonymous_are_refused_unless_there_are_no_accounts() -> None:
    async with opened() as platform:
        client = ConfigClient(platform.client())
        for attempt in (
            client.get("a"),
            client.set("a", 1),
            client.delete("a"),
            client.history(),
            client.rollback(0),
            client.rotate_key(),
            anext(client.watch()),
        ):
            with pytest.raises(errors.Unauthorized):
                await attempt
    async with opened(trusting=True) as platform:
        client = ConfigClient(platform.client())
        await client.set("a", 1, secret=True)
        assert (await client.get("a", secret=True)).int() == 1
        assert (await client.history())[0].account == ""


async def test_every_endpoint_says_who_may_call_it() -> None:
    async with opened() as platform:
        endpoints = platform.server.services["config"].endpoints
        asked = {name.partition(".")[2]: one.access for name, one in endpoints.items()}
    assert asked == {
        **dict.fromkeys(("Get", "Set", "Delete", "Read", "Watch", "Follow", "History"), "service"),
        "Rollback": "admin",
        "RotateKey": "platform",
    }


async def test_the_history_is_told_without_secrets() -> None:
    async with opened() as platform:
        config = ConfigClient(platform.client(ADMIN))
        await config.set("a.b", "x" * 5000)
        await config.set("a.c", "hush", secret=True)
        await config.set("d", {f"k{number}": number for number in range(300)})
        await config.set("d", 5)
        await config.delete("a")
        five, four, three, two, one = await config.history()
        assert (one.revision, one.account, one.action, one.path) == (1, "jane", "set", "a.b")
        assert one.changes[0].path == "a"
        assert len(one.changes[0].new) == 1001
        assert (two.changes[0].path, two.changes[0].old, two.changes[0].new) == (
            "a.c",
            "",
            '"[secret]"',
        )
        assert (three.changes[0].path, four.changes[0].new) == ("d", "5")
        assert '"c":"[secret]"' in (five.changes[0].old + '"c":"[secret]"')
        assert [one.revision for one in await config.history("a.c")] == [5, 2, 1]
        assert [one.revision for one in await config.history("d.k5")] == [4, 3]
        assert [one.revision for one in await config.history(limit=2, before=4)] == [3, 2]
        assert await config.history("nothing") == []
        for limit in (0, 101, -1):
            with pytest.raises(errors.BadRequest, match="limit"):
                await config.history(limit=limit)


class Watcher:
    """Collects what a watch tells."""

    def __init__(self, config: ConfigClient, path: str, *, secret: bool = False) -> None:
        self.seen: list[tuple[str, str | None, str | None]] = []
        self._config, self._path, self._secret = config, path, secret
        self._news = asyncio.Event()

    async def __aenter__(self) -> Watcher:
        await self._config.set(self._path, 1, secret=self._secret)
        self._task = asyncio.create_task(self._watch())
        # From now on is from when the core has the request: until then changes pass it by.
        numbers = itertools.count(100)
        while not self.seen:
            await self._config.set(self._path, next(numbers), secret=self._secret)
            await asyncio.sleep(0.002)
        # What was there when it began is no change.
        assert self.seen[0][1] is not None
        await self._config.set(self._path, 0, secret=self._secret)
        await self.past(self._path, "0")
        return self

    async def _watch(self) -> None:
        async for change in self._config.watch(self._path, secret=self._secret):
            old, new = (one and one.data for one in (change.old, change.value))
            self.seen.append((change.path, old, new))
            self._news.set()

    async def past(self, path: str, value: str) -> None:
        """Wait for a change, and forget all until then."""
        await self._until(lambda: [one[::2] for one in self.seen[-1:]] == [(path, value)])
        self.seen.clear()

    async def told(self, *changes: tuple[str, str | None, str | None]) -> None:
        await self._until(lambda: len(self.seen) >= len(changes))
        assert self.seen == [*changes]
        self.seen.clear()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def __aexit__(self, *ending: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def test_a_watch_tells_of_changes_at_and_below_a_path() -> None:
    async with opened() as platform:
        config = ConfigClient(platform.client(ADMIN))
        async with (
            Watcher(config, "a") as tree,
            Watcher(config, "a.b") as leaf,
            Watcher(config, "z", secret=True) as secret,
        ):
            await config.set("a.b", 1)
            await leaf.told(("a.b", "0", "1"))
            await tree.past("a.b", "1")
            await config.set("other", 1)
            await config.set("a", {"b": 2, "c": 3})
            await leaf.told(("a.b", "1", "2"))
            await tree.told(("a.b", "1", "2"), ("a.c", None, "3"))
            await config.delete("a")
            await leaf.told(("a.b", "2", None))
            await tree.told(("a", '{"b":2,"c":3}', None))
            await config.set("z", "hush", secret=True)
            await secret.told(("z", "0", '"hush"'))
            # Another key is no other value.
            await config.rotate_key()
            await config.set("z", True)
            await secret.told(("z", '"hush"', "true"))
