"""What replicas are given: files of their own, good for what they are for and for no longer."""

from __future__ import annotations

import base64
import contextlib
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import argon2
import pytest

from microcosmos.auth.authority import Authority
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.passwords import Passwords
from microcosmos.auth.service import AuthService
from microcosmos.base import codec, errors
from microcosmos.base.home import Home
from microcosmos.rpc import Call, Server
from microcosmos.runtime.deployment import Deployment
from microcosmos.runtime.source import Source
from microcosmos.server.connections import Connections
from microcosmos.server.replicas import Replicas
from microcosmos.store import open_store

BUNDLED = {"NATS_URL": "nats://here:1", "NATS_INBOX_PREFIX": "_INBOX.core"}


class World:
    """Replicas of a real authority; no engine need run to make credentials."""

    def __init__(self, home: Home, authority: Authority, engine: dict[str, str]) -> None:
        self.authority = authority
        self.folder = home.server / "keys" / "replicas"
        self.opened: list[str] = []
        connections = Connections(home.server / "keys", engine)
        self.replicas = Replicas(home, self._open, connections, authority, "this-host")
        self._server = Server(verifier=authority.access)
        self._server.add(AuthService(authority).hosted())

    async def _open(self, namespace: str) -> None:
        self.opened.append(namespace)

    async def logs_in(self, told: dict[str, str], namespace: str = "micro") -> bool:
        secret = Path(told["MICRO_AUTH_SECRET_FILE"]).read_text().strip()
        return await self.knows(told["MICRO_AUTH_ID"], secret, namespace)

    async def knows(self, id: str, secret: str, namespace: str = "micro") -> bool:
        body = codec.encode({"id": id, "secret": secret, "options": {"namespace": namespace}})
        try:
            await self._server.handle(Call("auth", "Auth.Token", body, {}, 5))
        except errors.Unauthorized:
            return False
        return True

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@contextlib.asynccontextmanager
async def world(home: Home, engine: dict[str, str] | None = None) -> AsyncIterator[World]:
    quick = Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    async with (
        open_store("memory://") as store,
        Authority(store, TokenKeys(None), passwords=quick) as authority,
    ):
        await authority.create_namespace("staging")
        yield World(home, authority, BUNDLED if engine is None else engine)


def deployment(name: str = "users", namespace: str = "micro") -> Deployment:
    source = Source(kind="example", location="x")
    return Deployment(name=name, namespace=namespace, generation="0123abcd", source=source)


def claims(told: dict[str, str]) -> dict[str, Any]:
    token = Path(told["NATS_CREDS"]).read_text().splitlines()[1].split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return found


async def test_a_replica_is_given_what_it_needs_to_be_itself(home: Home) -> None:
    async with world(home) as here:
        told = await here.replicas.admit(deployment(), "users-0123abcd-0-aaaaaa")
        assert told["NATS_URL"] == "nats://here:1"
        assert told["MICRO_AUTH_ID"] == "users"
        assert await here.logs_in(told)
        said = claims(told)
        assert said["name"] == "users"
        assert "rpc.users.>" in said["nats"]["sub"]["allow"]
        assert f"{told['NATS_INBOX_PREFIX']}.>" in said["nats"]["sub"]["allow"]
        assert set(said["nats"]["tags"]) == {
            "micro.replica:users-0123abcd-0-aaaaaa",
            "micro.host:this-host",
        }
        assert stat.S_IMODE(here.folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in here.folder.iterdir()} == {0o600}
        assert here.opened == ["micro"]


async def test_replicas_have_nothing_in_common(home: Home) -> None:
    async with world(home) as here:
        told = [
            await here.replicas.admit(one, process)
            for one, process in (
                (deployment(), "users-0123abcd-0-aaaaaa"),
                (deployment(), "users-0123abcd-1-aaaaaa"),
                (deployment("users-0123abcd-0"), "users-0123abcd-0-0123abcd-0-aaaaaa"),
                (deployment(namespace="staging"), "users@staging-0123abcd-0-aaaaaa"),
            )
        ]
        for name in ("NATS_CREDS", "NATS_INBOX_PREFIX", "MICRO_AUTH_SECRET_FILE"):
            assert len({one[name] for one in told}) == 4, name
        secrets = {Path(one["MICRO_AUTH_SECRET_FILE"]).read_text() for one in told}
        assert len(secrets) == 4
        assert await here.logs_in(told[3], "staging")
        assert not await here.logs_in(told[3])
        assert claims(told[3])["iss"] != claims(told[0])["iss"]


async def test_a_restart_has_new_ones_and_the_old_are_good_for_nothing(home: Home) -> None:
    async with world(home) as here:
        first = await here.replicas.admit(deployment(), "users-0123abcd-0-aaaaaa")
        old = Path(first["MICRO_AUTH_SECRET_FILE"]).read_text().strip()
        inside = claims(first)["sub"]
        second = await here.replicas.admit(deployment(), "users-0123abcd-0-bbbbbb")
        assert second == first
        assert await here.logs_in(second)
        assert not await here.knows("users", old)
        assert claims(second)["sub"] != inside
        assert len(here.files()) == 2


async def test_the_old_replica_goes_on_beside_its_successor(home: Home) -> None:
    async with world(home) as here:
        old = await here.replicas.admit(deployment(), "users-0123abcd-0-aaaaaa")
        new = await here.replicas.admit(deployment(), "users-99999999-0-aaaaaa")
        assert await here.logs_in(old)
        assert await here.logs_in(new)
        await here.replicas.dismiss(deployment(), "users-0123abcd-0-aaaaaa")
        assert len(here.files()) == 2
        assert await here.logs_in(new)
        # Its number is free for another: the authority does not remember all there ever were.
        third = await here.replicas.admit(deployment(), "users-77777777-0-aaaaaa")
        assert third["MICRO_AUTH_SECRET_FILE"].endswith("users-77777777-0~0.secret")


async def test_nothing_is_left_of_what_has_ended(home: Home) -> None:
    async with world(home) as here:
        told = await here.replicas.admit(deployment(), "users-0123abcd-0-aaaaaa")
        secret = Path(told["MICRO_AUTH_SECRET_FILE"]).read_text().strip()
        await here.replicas.dismiss(deployment(), "users-0123abcd-0-aaaaaa")
        await here.replicas.forget(deployment())
        assert here.files() == set()
        assert not await here.knows("users", secret)


async def test_a_core_that_comes_back_removes_what_belongs_to_nobody(home: Home) -> None:
    async with world(home) as here:
        kept = "users@staging-0123abcd-0-aaaaaa"
        for one, process in (
            (deployment(namespace="staging"), kept),
            (deployment(), "users-0123abcd-0-aaaaaa"),
            (deployment(), "users-0123abcd-1-aaaaaa"),
        ):
            await here.replicas.admit(one, process)
        (here.folder / "helloworld@0.creds").touch()
        await here.replicas.keep_only([kept])
        assert here.files() == {
            "users@staging-0123abcd-0.creds",
            "users@staging-0123abcd-0~0.secret",
        }


async def test_an_engine_of_others_has_its_own_credentials(home: Home) -> None:
    engine = {"NATS_URL": "nats://far", "NATS_CREDS": "/their.creds"}
    async with world(home, engine) as here:
        told = await here.replicas.admit(deployment(), "users-0123abcd-0-aaaaaa")
        assert (told["NATS_CREDS"], "NATS_INBOX_PREFIX" in told) == ("/their.creds", False)
        assert await here.logs_in(told)
        with pytest.raises(errors.BadRequest, match="services run in namespace micro only"):
            here.replicas.check("staging")
        with pytest.raises(errors.BadRequest):
            await here.replicas.admit(
                deployment(namespace="staging"), "u@staging-0123abcd-0-aaaaaa"
            )


async def test_without_an_engine_there_is_only_the_secret(home: Home) -> None:
    async with world(home, {"NATS_URL": ""}) as here:
        one = deployment(namespace="staging")
        told = await here.replicas.admit(one, "users@staging-0123abcd-0-aaaaaa")
        assert set(told) == {"MICRO_AUTH_ID", "MICRO_AUTH_SECRET_FILE"}
        assert await here.logs_in(told, "staging")
