"""The service auth, spoken to by a client that was built for Micro v3."""

from __future__ import annotations

import contextlib

import argon2
import pytest
from google.protobuf import message_factory

from microcosmos.auth.authority import Authority
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.passwords import Passwords
from microcosmos.auth.service import AuthService
from microcosmos.proxy import wire
from microcosmos.proxy.files import fresh_pool
from microcosmos.proxy.notation import read
from microcosmos.store import open_store


class Micro:
    """Asks by protobuf, with the numbers of Micro's own facts and nothing else."""

    def __init__(self, door):
        self.door = door
        self.metadata = ()
        self._pool = fresh_pool()
        self._pool.Add(read("auth", wire.PACKAGES["auth"]))

    def of(self, name):
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"auth.{name}"))

    def _method(self, path):
        service, _, method = path.partition("/")
        return self._pool.FindServiceByName(f"auth.{service}").FindMethodByName(method)

    async def ask(self, path, **fields):
        method = self._method(path)
        request = self.of(method.input_type.name)(**fields).SerializeToString()
        answer = await self.door.call(f"/auth.{path}", request, metadata=self.metadata)
        return self.of(method.output_type.name).FromString(answer)

    async def refused(self, path, **fields):
        request = self.of(self._method(path).input_type.name)(**fields).SerializeToString()
        error = await self.door.fails(f"/auth.{path}", request, metadata=self.metadata)
        return error.code().name


@pytest.fixture
def opened(proxy):
    @contextlib.asynccontextmanager
    async def open_one():
        quick = Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        async with (
            open_store("memory://") as store,
            Authority(store, TokenKeys(), passwords=quick) as authority,
            proxy() as door,
        ):
            door.server._verifier = authority.access
            await door.host([AuthService(authority).hosted()])
            yield Micro(door)

    return open_one


async def test_a_micro_client_logs_in_and_manages_accounts_and_rules(opened):
    async with opened() as micro:
        token = (await micro.ask("Auth/Token", id="admin", secret="micro", token_expiry=60)).token
        assert token.expiry - token.created == 60
        assert await micro.refused("Accounts/List") == "UNAUTHENTICATED"
        micro.metadata = (("authorization", f"Bearer {token.access_token}"),)
        said = (await micro.ask("Auth/Inspect", token=token.access_token)).account
        assert (said.id, said.issuer, said.type, [*said.scopes]) == (
            "admin",
            "micro",
            "user",
            ["admin"],
        )
        made = await micro.ask("Auth/Generate", id="jane", scopes=["editor"], metadata={"a": "b"})
        assert len(made.account.secret) == 36
        assert dict(made.account.metadata) == {"a": "b"}
        listed = await micro.ask("Accounts/List", options={"namespace": "micro"})
        assert [one.id for one in listed.accounts] == ["admin", "jane"]
        resource = {"type": "service", "name": "foo", "endpoint": "*"}
        rule = {"id": "no", "scope": "*", "resource": resource, "access": 2, "priority": -3}
        await micro.ask("Rules/Create", rule=rule)
        rules = (await micro.ask("Rules/List")).rules
        assert [(one.id, one.access, one.priority) for one in rules] == [
            ("default", 1, 0),
            ("no", 2, -3),
        ]
        assert rules[1].resource.name == "foo"
        await micro.ask("Rules/Delete", id="no")
        change = {"id": "jane", "old_secret": made.account.secret, "new_secret": "long enough"}
        await micro.ask("Accounts/ChangeSecret", **change)
        await micro.ask("Auth/Token", id="jane", secret="long enough")
        await micro.ask("Accounts/Delete", id="jane")
        assert [one.id for one in (await micro.ask("Accounts/List")).accounts] == ["admin"]
        fresh = (await micro.ask("Auth/Token", refresh_token=token.refresh_token)).token
        assert fresh.refresh_token != token.refresh_token


async def test_what_is_wrong_has_the_codes_of_grpc(opened):
    async with opened() as micro:
        assert await micro.refused("Auth/Token", id="admin", secret="wrong") == "UNAUTHENTICATED"
        assert await micro.refused("Auth/Inspect", token="x") == "UNAUTHENTICATED"
        token = (await micro.ask("Auth/Token", id="admin", secret="micro")).token
        micro.metadata = (("authorization", f"Bearer {token.access_token}"),)
        # A rule whose access is UNKNOWN, which is what it is when nobody says it.
        assert await micro.refused("Rules/Create", rule={"id": "a"}) == "INVALID_ARGUMENT"
        assert await micro.refused("Accounts/Delete", id="nobody") == "NOT_FOUND"
        assert await micro.refused("Auth/Generate", id="admin") == "ALREADY_EXISTS"
