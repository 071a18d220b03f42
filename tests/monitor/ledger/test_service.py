"""The ledger over rpc: who may tell it what, and who may look at what."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.monitor.ledger import Counts
from microcosmos.monitor.ledger import asking as asking_module
from microcosmos.monitor.ledger.client import RemoteLedger
from microcosmos.monitor.ledger.ledger import Ledger
from microcosmos.monitor.ledger.service import LedgerService
from microcosmos.monitor.ledger.wire import Row, Told
from microcosmos.rpc import Client, MemoryNetwork, Server
from microcosmos.store import open_store

from ...auth.world import World, world
from .books import book, one, subject

DEPLOYED = {("micro", "users"): "ann"}


async def owner(namespace: str, name: str) -> str | None:
    return DEPLOYED.get((namespace, name))


class Served:
    """What tests hold: a ledger, and those who ask it."""

    def __init__(self, auth: World, ledger: Ledger) -> None:
        self.auth = auth
        self.ledger = ledger
        self.server = Server(verifier=auth.authority.access)
        self.server.add(LedgerService(ledger, owner).hosted())
        self.network = MemoryNetwork()
        self.network.join(self.server)

    def showing(self, token: str, namespace: str = "") -> RemoteLedger:
        header = f"Bearer {token}" if token else ""
        return RemoteLedger(Client([self.network], identity=lambda: header, namespace=namespace))

    async def admin(self) -> RemoteLedger:
        return self.showing(await self.auth.login())

    async def user(self, id: str, **about: Any) -> RemoteLedger:
        return self.showing(await self.auth.make(id, **about), about.get("namespace", ""))

    async def service(self, name: str) -> RemoteLedger:
        await self.auth.authority.service_account("micro", name)
        granted = await self.auth.authority.service_token("micro", name)
        return self.showing(granted.access_token)


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Served]:
    async with open_store("memory://") as store, world() as auth:
        yield Served(auth, book(store))


def told(name: str, version: str = "1.0", **counts: Any) -> list[Told]:
    return [Told(name=name, version=version, counts=Counts(requests=1, **counts))]


def shown(rows: list[Row]) -> list[tuple[str, str, int]]:
    return [(row.name, row.account, row.counts.requests) for row in rows]


async def test_a_service_tells_what_it_has_used_itself() -> None:
    async with served() as here:
        users = await here.service("users")
        await users.count("w", 1, told("users", cpu_ns=5))
        await users.count("w", 1, told("users", cpu_ns=5))
        await users.count("w", 2, told("users", "2.0"))
        with pytest.raises(errors.Forbidden, match="users may not tell what orders has used"):
            await users.count("w", 3, told("orders"))
        admin = await here.admin()
        found = await admin.consumption("users", by="version")
        assert (found.requests, found.cpu_ns) == (2, 5)
        assert [row.version for row in found.rows] == ["2.0", "1.0"]
        # It is who has deployed it that it belongs to.
        assert shown((await admin.consumption(by="account")).rows) == [("", "ann", 2)]


async def test_a_program_that_a_user_has_started_is_the_users() -> None:
    async with served() as here:
        ben, admin = await here.user("ben"), await here.admin()
        await ben.count("w", 1, told("mine"))
        assert shown((await ben.consumption()).rows) == [("mine", "ben", 1)]
        with pytest.raises(errors.Forbidden, match="ben may not tell"):
            await ben.count("w", 2, told("users"))
        await admin.count("w", 1, told("users"))
        assert shown((await admin.consumption()).rows) == [("mine", "ben", 1), ("users", "ann", 1)]


async def test_nobody_can_tell_by_the_name_of_anothers_process() -> None:
    async with served() as here:
        ben, eve = await here.user("ben"), await here.user("eve")
        await eve.count("w", 1000, told("eves"))
        await ben.count("w", 1, told("bens"))
        assert (await ben.consumption()).requests == 1


async def test_who_may_look_at_what() -> None:
    async with served() as here:
        ben, ann, admin = await here.user("ben"), await here.user("ann"), await here.admin()
        counts = {
            subject("a", account="ann"): one(),
            subject("b", account="ben", kind="function"): one(),
            subject("c", account="ann", kind="app"): one(),
            subject("d", account="ann", namespace="dev"): one(),
        }
        await here.ledger.add("w", 1, counts)
        assert {row.name for row in (await ann.consumption()).rows} == {"a", "c"}
        assert {row.name for row in (await admin.consumption()).rows} == {"a", "b", "c"}
        assert [row.name for row in (await admin.consumption(kind="app")).rows] == ["c"]
        assert (await admin.consumption(kind="function")).requests == 1
        with pytest.raises(errors.Forbidden, match="a belongs to ann"):
            await ben.consumption("a")
        with pytest.raises(errors.NotFound, match="nothing is counted of 'none'"):
            await admin.consumption("none")
        spaces = (await admin.consumption(by="namespace")).rows
        assert {(row.namespace, row.kind, row.counts.requests) for row in spaces} == {
            ("dev", "service", 1),
            ("micro", "app", 1),
            ("micro", "function", 1),
            ("micro", "service", 1),
        }
        anybody = here.showing("")
        with pytest.raises(errors.Unauthorized):
            await anybody.consumption()
        with pytest.raises(errors.Forbidden):
            await ben.metrics()
        assert 'service="a"' in await admin.metrics()


async def test_an_admin_of_one_namespace_sees_no_other() -> None:
    async with served() as here:
        await here.ledger.add("w", 1, {subject("a"): one(), subject("d", namespace="dev"): one()})
        token = await here.auth.make("dora", "admin", namespace="dev")
        dora = here.showing(token, "dev")
        assert [row.name for row in (await dora.consumption()).rows] == ["d"]
        assert [row.namespace for row in (await dora.consumption(by="namespace")).rows] == ["dev"]
        text = await dora.metrics()
        assert 'service="d"' in text
        assert 'service="a"' not in text


@pytest.mark.parametrize("by", ["", "version"])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 1000])
async def test_all_pages_together_are_all_of_them(
    monkeypatch: pytest.MonkeyPatch, rows: int, by: Any
) -> None:
    monkeypatch.setattr(asking_module, "ROWS", 1000)
    async with served() as here:
        admin = await here.admin()
        expected = set()
        for n in range(9):
            for version in range(n % 4 + 1):
                name = f"s{n}"
                who = subject(name, f"v{version}", account="ann" if n % 2 else "ben")
                await here.ledger.add(f"w{n}.{version}", 1, {who: one()})
                expected.add((name, f"v{version}" if by else ""))
        found, after = [], ""
        asked = 0
        while True:
            from microcosmos.monitor.ledger.wire import ConsumptionRequest

            request = ConsumptionRequest(by=by, after=after, limit=rows)
            page = await admin._page(request)
            asked += 1
            found += page.rows
            assert page.requests == sum(n % 4 + 1 for n in range(9))
            if not (after := page.next):
                break
        assert asked < 40
        assert len(found) == len(expected)
        if by:
            assert {(row.name, row.version) for row in found} == expected
        else:
            assert {row.name: row.counts.requests for row in found} == {
                f"s{n}": n % 4 + 1 for n in range(9)
            }


@pytest.mark.parametrize(
    ("worker", "sequence", "services", "detail"),
    [
        ("", 1, told("a"), "worker"),
        ("w" * 101, 1, told("a"), "worker"),
        ("w", 0, told("a"), "sequence"),
        ("w", 1, told("not a name"), "name"),
        ("w", 1, told("a", "v" * 65), "version"),
        ("w", 1, told("a", cpu_ns=-1), "negative"),
        ("w", 1, told("a", failures={"x" * 65: 1}), "failures"),
        ("w", 1, told("a") * 101, "services"),
    ],
)
async def test_what_cannot_be_is_refused(
    worker: str, sequence: int, services: list[Told], detail: str
) -> None:
    async with served() as here:
        admin = await here.admin()
        with pytest.raises(errors.BadRequest, match=detail):
            await admin.count(worker, sequence, services)
