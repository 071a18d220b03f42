"""Who may ask the registry what, and speak for whom: by real tokens, through a real server."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from microcosmos.auth.access import Access
from microcosmos.auth.interface import DEFAULT_RULE, Account, Policy, Rule
from microcosmos.auth.keys import TokenKeys
from microcosmos.base import codec, errors
from microcosmos.base.context import AUTHORIZATION, NAMESPACE
from microcosmos.registry import Node, Options, Service
from microcosmos.registry.interface import Found
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Call, Server

KEYS = TokenKeys(None)
USER = Account(id="jane")
ADMIN = Account(id="admin", scopes=("admin",))
SERVICE = Account(id="users", type="service", scopes=("service",))
FAR_USER = Account(id="jane", namespace="far")
FAR_ADMIN = Account(id="admin", namespace="far", scopes=("admin",))
FAR_SERVICE = Account(id="users", type="service", namespace="far", scopes=("service",))
PLATFORM = Account(id="gateway", type="platform")
SHUT = [Rule(id="shut", access="DENIED", priority=1)]


class World:
    """A registry with a service in each of two namespaces, behind a server that looks at tokens."""

    def __init__(self, rules: list[Rule] | None = None) -> None:
        self.registry = MemoryRegistry()
        access = Access()
        rules = [DEFAULT_RULE] if rules is None else rules
        access.follow(Policy(keys=KEYS.public(), rules={"micro": rules, "far": rules}))
        self.server = Server(verifier=access)
        self.server.add(RegistryService(self.registry, guarded=True).hosted())

    async def filled(self) -> World:
        for domain in ("micro", "far"):
            await self.registry.register(record("users", domain=domain))
        return self

    async def call(
        self, method: str, request: Any, account: Account | None = None, namespace: str = "micro"
    ) -> bytes:
        metadata = {NAMESPACE: namespace}
        if account is not None:
            metadata[AUTHORIZATION] = (
                f"Bearer {KEYS.signer.sign(account, '', KEYS._clock.time(), 60)}"
            )
        call = Call("registry", f"Registry.{method}", codec.encode(request), metadata, 5)
        return await self.server.handle(call)

    async def names(
        self, account: Account | None, namespace: str = "micro", domain: str = ""
    ) -> set[str]:
        """The nodes that are listed."""
        request = {"options": {"domain": domain}}
        answer = await self.call("ListServices", request, account, namespace)
        found = msgspec.json.decode(answer, type=Found, strict=False).services
        return {node.id for service in found for node in service.nodes}


def record(name: str, node: str = "", domain: str = "") -> Service:
    node = node or f"{name}-of-{domain or 'nowhere'}"
    return Service(name=name, nodes=[Node(id=node)], options=Options(domain=domain))


async def test_each_reads_the_namespace_it_calls_in() -> None:
    here = await World().filled()
    for account in (None, USER, SERVICE, ADMIN, PLATFORM, FAR_USER):
        assert await here.names(account) == {"users-of-micro"}
        assert await here.names(account, "far") == {"users-of-far"}


async def test_naming_another_namespace_is_for_who_may_enter_it() -> None:
    here = await World().filled()
    for account in (ADMIN, PLATFORM):
        assert await here.names(account, "micro", "far") == {"users-of-far"}
        assert await here.names(account, "far", "micro") == {"users-of-micro"}
    with pytest.raises(errors.Unauthorized, match="log in to see the services of namespace far"):
        await here.names(None, "micro", "far")
    for account in (USER, SERVICE):
        with pytest.raises(errors.Forbidden, match="may not enter namespace far"):
            await here.names(account, "micro", "far")
    for account in (FAR_USER, FAR_ADMIN, FAR_SERVICE):
        with pytest.raises(errors.Forbidden, match="may not enter namespace micro"):
            await here.names(account, "far", "micro")


READS = [("GetService", {"service": "users"}), ("ListServices", {}), ("Describe", {})]


@pytest.mark.parametrize(("method", "request_"), READS)
async def test_reads_are_closed_with_the_rule_that_opened_them(
    method: str, request_: dict[str, str]
) -> None:
    here = await World([]).filled()
    for account in (USER, SERVICE, ADMIN, PLATFORM):
        await here.call(method, request_, account)
    with pytest.raises(errors.Unauthorized, match=rf"call made to registry:Registry.{method}$"):
        await here.call(method, request_)
    for account in (FAR_USER, FAR_SERVICE, FAR_ADMIN):
        with pytest.raises(errors.Forbidden):
            await here.call(method, request_, account)
    denied = await World(SHUT).filled()
    for account in (USER, ADMIN):
        with pytest.raises(errors.Forbidden):
            await denied.call(method, request_, account)


async def test_a_service_speaks_for_itself_alone() -> None:
    here = World()
    for verb in ("Register", "Deregister"):
        await here.call(verb, record("users", "users-1"), SERVICE)
        for account, namespace in (
            (None, "micro"),
            (USER, "micro"),
            (FAR_SERVICE, "micro"),
            (FAR_ADMIN, "micro"),
            (SERVICE, "far"),
        ):
            with pytest.raises((errors.Unauthorized, errors.Forbidden)):
                await here.call(verb, record("users", "users-1"), account, namespace)
        for other, why in (
            (record("other", "other-1"), "users of micro may not speak for other of micro"),
            (record("users", "users-1", "far"), "may not enter namespace far"),
            (record("users", "other-1"), "'other-1' is not called after its service users"),
        ):
            with pytest.raises(errors.Forbidden, match=why):
                await here.call(verb, other, SERVICE)
        by_metadata = Service(name="users", nodes=[Node(id="users-1")], metadata={"domain": "far"})
        with pytest.raises(errors.Forbidden, match="may not enter namespace far"):
            await here.call(verb, by_metadata, SERVICE)


async def test_admins_and_the_platform_speak_for_anybody_where_they_may() -> None:
    here = World()
    for account, namespace in itertools.product((ADMIN, PLATFORM), ("micro", "far")):
        await here.call("Register", record("any", "free"), account, namespace)
        await here.call("Register", record("named", "free", namespace), account)
        assert "free" in await here.names(account, namespace)
    await here.call("Register", record("any", "more"), FAR_ADMIN, "far")
    assert "more" not in await here.names(None)


async def test_nodes_of_one_name_are_apart_in_two_namespaces() -> None:
    here = await World().filled()
    await here.call("Register", record("users", "users-1"), SERVICE)
    await here.call("Register", record("users", "users-1"), FAR_SERVICE, "far")
    await here.call("Deregister", record("users", "users-1"), FAR_SERVICE, "far")
    assert await here.names(None) == {"users-1", "users-of-micro"}
    assert await here.names(None, "far") == {"users-of-far"}
    # Nobody is believed about a node that has left: in that namespace.
    left = here.registry.left
    assert left(record("users", "users-1", "far"))
    assert not left(record("users", "users-1", "micro"))


async def test_what_is_followed_is_of_one_namespace() -> None:
    here = await World().filled()

    async def followed(account: Account | None, namespace: str) -> list[str]:
        metadata = {NAMESPACE: namespace}
        if account is not None:
            metadata[AUTHORIZATION] = (
                f"Bearer {KEYS.signer.sign(account, '', KEYS._clock.time(), 60)}"
            )
        call = Call("registry", "Registry.Follow", b"{}", metadata)
        seen: list[bytes] = []

        async def take(message: bytes) -> None:
            seen.append(message)
            here.registry.close()

        async def nothing() -> Any:
            return
            yield

        with pytest.raises(errors.Error) as ended:
            await here.server.stream(call, nothing(), take)
        if not seen:
            raise ended.value
        here.registry._closed = False
        changes = msgspec.json.decode(seen[0])
        return [node["id"] for one in changes["results"] for node in one["service"]["nodes"]]

    assert await followed(SERVICE, "micro") == ["users-of-micro"]
    assert await followed(PLATFORM, "far") == ["users-of-far"]
    assert await followed(ADMIN, "far") == ["users-of-far"]
    for account, namespace in ((None, "micro"), (USER, "micro"), (FAR_SERVICE, "micro")):
        with pytest.raises((errors.Unauthorized, errors.Forbidden)):
            await followed(account, namespace)


async def test_a_namespace_that_is_no_more_is_forgotten() -> None:
    here = await World().filled()
    await here.registry.expect("users", domain="far")
    await here.registry.expect("users")
    here.registry.drop("far")
    assert here.registry.known("far") == []
    assert [one.name for one in here.registry.known()] == ["users"]
