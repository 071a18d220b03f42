"""The bundled nats-server, for real: who gets in, and what outlives a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client

from microcosmos.auth.credentials import Credential, Keys, Permissions
from microcosmos.base import errors, profiles
from microcosmos.base.home import Home
from microcosmos.rpc.connection import settle
from microcosmos.server.drain import Drain
from microcosmos.server.engine import BundledEngine, Engine, open_engine, program
from microcosmos.server.external import ExternalEngine
from microcosmos.server.greeting import greeting, require_floor
from microcosmos.server.processes import Processes
from microcosmos.server.settings import Settings
from microcosmos.server.tree import Tree

pytestmark = [
    pytest.mark.e2e,
    # Test runners have threads, and newer Pythons say that forking beside them is unsafe.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def opened(home: Home, **settings: Any) -> Engine:
    return open_engine(profiles.LOCAL, Settings(**settings), home, "micro")


@contextlib.asynccontextmanager
async def started(home: Home, **settings: Any) -> AsyncIterator[tuple[Engine, Tree]]:
    engine = opened(home, **settings)
    await engine.check()
    async with Processes() as processes, Tree(processes, engine.children(), Drain()) as tree:
        await tree.ready()
        yield engine, tree


@contextlib.asynccontextmanager
async def joined(environment: dict[str, str], **options: Any) -> AsyncIterator[Any]:
    client = Client()
    try:
        await client.connect(
            environment["NATS_URL"],
            user_credentials=environment.get("NATS_CREDS"),
            inbox_prefix=environment.get("NATS_INBOX_PREFIX", "_INBOX").encode(),
            **{"allow_reconnect": False, "error_cb": _ignore, **options},
        )
        yield client
    finally:
        await client.close()
        # A refused client forgets to close its socket.
        client._transport.close()


async def _ignore(_: Exception) -> None:
    pass


def environment_of(engine: Engine, credential: Credential, folder: Path) -> dict[str, str]:
    path = credential.write(folder / f"{credential.name}.creds")
    return {
        "NATS_URL": f"nats://{engine.address}",
        "NATS_CREDS": str(path),
        "NATS_INBOX_PREFIX": credential.inbox_prefix,
    }


def anybody(engine: Engine, home: Home) -> dict[str, str]:
    """The environment of a user who may do everything in the account."""
    user = Keys(home.server / "keys").account("micro").user("tester")
    return environment_of(engine, user, home.path)


async def test_a_user_with_credentials_gets_in(home: Home) -> None:
    async with started(home) as (engine, _), joined(anybody(engine, home)) as client:
        inbox = await client.subscribe("hello")
        await client.publish("hello", b"x")
        assert (await inbox.next_msg(5)).data == b"x"


async def test_anonymous_and_foreign_users_do_not(home: Home, tmp_path: Path) -> None:
    stranger = Keys(tmp_path / "elsewhere").account("micro").user("core")
    async with started(home) as (engine, _):
        anonymous = {"NATS_URL": f"nats://{engine.address}"}
        foreign = environment_of(engine, stranger, tmp_path)
        for environment in (anonymous, foreign):
            with pytest.raises(nats.errors.Error, match="Authorization"):
                async with joined(environment):
                    pass


async def test_a_restart_keeps_the_port_and_the_streams(home: Home) -> None:
    async with started(home) as (before, _), joined(anybody(before, home)) as client:
        stream = client.jetstream()
        await stream.add_stream(name="events", subjects=["events.>"])
        await stream.publish("events.a", b"kept")
    async with started(home) as (after, _), joined(anybody(after, home)) as client:
        assert after.address == before.address
        message = await client.jetstream().get_msg("events", 1)
        assert message.data == b"kept"


async def test_a_killed_engine_comes_back_under_its_clients(home: Home, kit: Any) -> None:
    async with started(home) as (engine, tree):
        patient = {"allow_reconnect": True, "max_reconnect_attempts": -1}
        quick = {"reconnect_time_wait": 0.02, **patient}
        async with joined(anybody(engine, home), **quick) as client:
            stream = client.jetstream()
            await stream.add_stream(name="events", subjects=["events.>"])
            await stream.publish("events.a", b"acknowledged")
            before = tree.pids()["nats"]
            os.kill(before, signal.SIGKILL)
            await kit.eventually(lambda: tree.pids().get("nats", before) != before)
            await kit.eventually(lambda: client.is_connected and client.stats["reconnects"])
            assert (await stream.get_msg("events", 1)).data == b"acknowledged"


async def test_a_port_taken_by_others_is_chosen_anew(home: Home) -> None:
    first = opened(home).address
    host, port = first.rsplit(":", 1)
    with socket.create_server((host, int(port))):
        second = opened(home).address
    assert second != first
    assert opened(home).address == second


@pytest.mark.parametrize("remembered", ["", "many", "99999999", "-5", "22.5"])
def test_a_damaged_port_file_does_not_matter(home: Home, remembered: str) -> None:
    (home.server / "nats").mkdir()
    (home.server / "nats" / "port").write_text(remembered)
    assert opened(home).address.startswith("127.0.0.1:")


async def test_permissions_hold(home: Home, tmp_path: Path) -> None:
    async with started(home) as (engine, _):
        account = Keys(home.server / "keys").account("micro")
        narrow = Permissions(publish=("open.>",), subscribe=("serve.>",))
        guest = environment_of(engine, account.user("guest", narrow), tmp_path)
        refused: list[str] = []

        async def note(error: Exception) -> None:
            refused.append(str(error).lower())

        async with (
            joined(anybody(engine, home)) as full,
            joined(guest, error_cb=note) as client,
        ):
            everything = await full.subscribe(">")
            await settle(full)
            await client.publish("open.a", b"allowed")
            await client.publish("closed.a", b"refused")
            await client.subscribe("_INBOX.core.>")
            await settle(client)
            assert (await everything.next_msg(5)).data == b"allowed"
            assert "publish to" in refused[0]
            assert "_inbox.core.>" in refused[1]

            async def answer(message: Any) -> None:
                await message.respond(b"served")

            await client.subscribe("serve.me", cb=answer)
            await settle(client)
            assert (await full.request("serve.me", timeout=60)).data == b"served"


async def test_users_of_other_accounts_hear_nothing(home: Home, tmp_path: Path) -> None:
    async with started(home) as (engine, _):
        system = Keys(home.server / "keys").system.user("watcher")
        async with (
            joined(anybody(engine, home)) as inside,
            joined(environment_of(engine, system, tmp_path)) as outside,
        ):
            heard = await outside.subscribe("hello")
            await settle(outside)
            await inside.publish("hello", b"x")
            await settle(inside)
            await settle(outside)
            assert heard.pending_msgs == 0


async def test_a_new_account_needs_no_restart(home: Home, tmp_path: Path) -> None:
    async with started(home) as (engine, _):
        keys = Keys(home.server / "keys")
        fresh = keys.account("staging")
        system = environment_of(engine, keys.system.user("admin"), tmp_path)
        async with joined(system) as admin:
            token = keys.account_token(fresh).encode()
            answer = await admin.request("$SYS.REQ.CLAIMS.UPDATE", token, timeout=60)
            assert json.loads(answer.data)["data"]["code"] == 200
        async with joined(environment_of(engine, fresh.user("x"), tmp_path)) as client:
            await client.jetstream().add_stream(name="own", subjects=["own"])


async def test_a_call_of_8_mib_with_headers_passes(home: Home) -> None:
    async with started(home) as (engine, _), joined(anybody(engine, home)) as client:
        heard = await client.subscribe("big", pending_bytes_limit=-1)
        await client.publish("big", bytes(8 * 1024 * 1024), headers={"Trace": "1" * 1000})
        assert len((await heard.next_msg(10)).data) == 8 * 1024 * 1024


@pytest.mark.parametrize(("durability", "sync"), [("power", "always"), ("process", "2s")])
def test_durability_is_what_the_engine_is_told(home: Home, durability: str, sync: str) -> None:
    opened(home, durability=durability).children()
    file = home.server / "nats" / "nats.conf"
    assert json.loads(file.read_text())["jetstream"]["sync_interval"] == sync
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_program_is_that_of_our_environment() -> None:
    assert program().name == "nats-server"


@pytest.mark.parametrize("version", ["2.15.0", "nats-server: v2.14.9", "2.9.30", "", "none"])
def test_an_old_engine_is_refused(version: str) -> None:
    with pytest.raises(errors.Unavailable, match=r"2\.15\.1 or later is needed"):
        require_floor(version, "here")


@pytest.mark.parametrize("version", ["2.15.1", "v2.15.10", "2.16.0-beta.1", "3.0.0"])
def test_a_newer_engine_is_taken(version: str) -> None:
    require_floor(version, "here")


async def test_what_is_no_engine_has_no_greeting() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as other:
        host, port = other.sockets[0].getsockname()
        assert await greeting(host, port) is None
    assert await greeting(host, port) is None


async def test_an_engine_of_others_is_used_and_none_started(home: Home, tmp_path: Path) -> None:
    async with started(home) as (bundled, _):
        theirs = bundled.environment("gateway")
        engine = opened(
            Home(tmp_path / "other"),
            nats_url=theirs["NATS_URL"],
            nats_creds=theirs["NATS_CREDS"],
        )
        assert isinstance(engine, ExternalEngine)
        await engine.check()
        assert engine.children() == []
        assert engine.address == bundled.address
        assert "NATS_INBOX_PREFIX" not in engine.environment("core")
        async with joined(engine.environment("core")) as client:
            assert client.is_connected


async def test_an_engine_that_does_not_answer_is_told() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        engine = ExternalEngine(f"nats://127.0.0.1:{port}", "", patience=0.2)
        with pytest.raises(errors.Unavailable, match=f"no NATS server answers at 127.0.0.1:{port}"):
            await engine.check()


def test_a_bad_url_or_credentials_file_is_told_without_its_secrets(tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        ExternalEngine("nats://me:secret@host:port", "")
    assert "secret" not in caught.value.detail
    with pytest.raises(errors.BadRequest, match="cannot be read: No such file"):
        ExternalEngine("nats://host", str(tmp_path / "none.creds"))
    assert ExternalEngine("nats://me:secret@host", "").address == "host:4222"


def test_a_profile_may_do_without(home: Home) -> None:
    alone = profiles.Profile("alone", "memory://", "memory://", "memory://")
    engine = open_engine(alone, Settings(), home, "micro")
    assert not isinstance(engine, BundledEngine)
    assert engine.children() == []
    assert engine.environment("core") == {}
