"""What each kind of connection may do on the engine: tried out, refused by nats-server itself."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from microcosmos.auth import credentials, permissions
from microcosmos.auth.credentials import Credential, Keys, Permissions
from microcosmos.base import errors, names, profiles
from microcosmos.base.home import Home
from microcosmos.events.interface import Draft, GroupSpec
from microcosmos.events.nats import EngineLog, NatsLog
from microcosmos.rpc.connection import settle
from microcosmos.server.connections import Connections
from microcosmos.server.drain import Drain
from microcosmos.server.engine import Engine, open_engine, program
from microcosmos.server.processes import Processes
from microcosmos.server.settings import Settings
from microcosmos.server.tree import Tree

pytestmark = [
    pytest.mark.e2e,
    # Test runners have threads, and newer Pythons say that forking beside them is unsafe.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


class User:
    """A connection, and what nats-server refused it."""

    def __init__(self, client: Client, refused: list[str], inbox: str) -> None:
        self.client = client
        self.inbox = inbox
        self.refused = refused

    async def listens(self, subject: str, queue: str = "") -> bool:
        """Whether it is let listen on a subject."""
        before = len(self.refused)
        subscription = await self.client.subscribe(subject, queue)
        await settle(self.client)
        if len(self.refused) == before:
            await subscription.unsubscribe()
            return True
        # The client tells it in small letters.
        assert f'violation for subscription to "{subject.lower()}"' in self.refused[-1].lower()
        return False

    async def sends(self, subject: str) -> bool:
        """Whether it is let send to a subject."""
        before = len(self.refused)
        await self.client.publish(subject, b"x")
        await settle(self.client)
        if len(self.refused) == before:
            return True
        assert f'violation for publish to "{subject.lower()}"' in self.refused[-1].lower()
        return False


class World:
    """An engine with an account for each of some namespaces."""

    def __init__(self, home: Home, engine: Engine) -> None:
        self.home = home
        self.url = f"nats://{engine.address}"
        self.keys = Keys(home.server / "keys")
        self.connections = Connections(
            home.server / "keys", {"NATS_URL": self.url, "NATS_INBOX_PREFIX": "x"}
        )

    @contextlib.asynccontextmanager
    async def user(
        self, name: str, allowed: Permissions | None, namespace: str = "micro"
    ) -> AsyncIterator[User]:
        credential = self.keys.account(namespace).user(name, allowed)
        async with self.joined(credential) as user:
            yield user

    @contextlib.asynccontextmanager
    async def joined(self, credential: Credential) -> AsyncIterator[User]:
        path = credential.write(self.home.path / f"{credential.name}.creds")
        refused: list[str] = []

        async def note(error: Exception) -> None:
            refused.append(str(error))

        client = Client()
        try:
            await client.connect(
                self.url,
                user_credentials=str(path),
                inbox_prefix=credential.inbox_prefix.encode(),
                allow_reconnect=False,
                error_cb=note,
            )
            yield User(client, refused, credential.inbox_prefix)
        finally:
            await client.close()
            # A refused client forgets to close its socket.
            client._transport.close()


@contextlib.asynccontextmanager
async def world(home: Home) -> AsyncIterator[World]:
    engine = open_engine(profiles.LOCAL, Settings(), home, "micro")
    await engine.check()
    async with Processes() as processes, Tree(processes, engine.children(), Drain()) as tree:
        await tree.ready()
        yield World(home, engine)


NOT_HEARD_BY_SERVICES = [
    *(">", "*", "*.>", "rpc.>", "rpc.*.*.*", "rpc.other.*.*", "rpc.other.$.*.*"),
    *("rpc.users~more.*.*", "rpc.users~more.$.*.*", "rpc.Users.*.*", "rpc.*.Users.Call"),
    *("_INBOX.>", "_INBOX.*.>", "_INBOX.other.>", "_INBOX.core.>", "_INBOX.gateway.a.*"),
    *("$SRV.>", "$SRV.PING.other", "$SRV.INFO.other.*", "$SRV.STATS.*", "$SRV.*"),
    *("$SYS.>", "$JS.>", "$JS.API.>", "$KV.>", "registry.said", "registry.>", "other.>"),
    *("events.>", "events.*", "events.log.>", "events.log.0.a", "events.dead.>", "events.*.>"),
    *("$JS.EVENT.>", "$JS.ACK.>", "$JS.API.CONSUMER.MSG.NEXT.events.a", "events.schedule.>"),
]
NOT_SENT_BY_SERVICES = [
    *("$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.USER.INFO"),
    *("$JS.API.INFO", "$JS.API.STREAM.CREATE.x", "$JS.ACK.x", "$KV.a.b", "$O.a.b"),
    *("_INBOX.core.a.1", "_INBOX.gateway.a.1", "_INBOX.other.a.1", "_INBOX.a"),
    *("$SRV.PING", "$SRV.INFO.other", "registry.said", "events.a", "store.a", "config.a"),
    *("events.schedule.a", "events.topic.a", "$JS.API.STREAM.PURGE.events", "$JS.FC.events.a"),
    *("$JS.API.CONSUMER.CREATE.events.a", "$JS.API.CONSUMER.DELETE.events.a"),
    *("$JS.API.CONSUMER.RESET.events.a", "$JS.API.STREAM.MSG.GET.events"),
    *("$JS.API.DIRECT.GET.events", "$JS.API.DIRECT.GET.events-dead.events.dead.a"),
    *("$JS.API.CONSUMER.MSG.NEXT.events-dead.a", "$JS.ACK.events-dead.a.1.1.1.1.1"),
]


async def test_a_service_hears_what_it_serves_and_nothing_else(home: Home) -> None:
    async with world(home) as here, here.user("users", permissions.service("users")) as it:
        for subject in (
            *("rpc.users.*.*", "rpc.users.$.$.cancel", "rpc.users.$.a-node.*"),
            *("$SRV.PING", "$SRV.INFO.users", "$SRV.STATS.users.a-node"),
            *("users.call", "users.math.divide", "users.>", f"{it.inbox}.a.*"),
        ):
            assert await it.listens(subject), subject
        for subject in NOT_HEARD_BY_SERVICES:
            assert not await it.listens(subject), subject
        # A place in another's queue would get a share of its calls.
        assert await it.listens("rpc.users.*.*", "q")
        assert not await it.listens("rpc.other.*.*", "q")
        log = (home.logs / "nats.log").read_text()
        assert "Subscription Violation" in log
        assert '"rpc.other.*.*"' in log


async def test_a_service_calls_others_and_reaches_nothing_else(home: Home) -> None:
    async with world(home) as here, here.user("users", permissions.service("users")) as it:
        for subject in ("rpc.other.Other.Call", "rpc.registry.Registry.Register", "node.call"):
            assert await it.sends(subject), subject
        for subject in NOT_SENT_BY_SERVICES:
            assert not await it.sends(subject), subject
        assert "Publish Violation" in (home.logs / "nats.log").read_text()


async def test_a_service_publishes_and_pulls_what_it_was_told_of(home: Home) -> None:
    async with world(home) as here, here.user("users", permissions.service("users")) as it:
        for subject in (
            *("events.log.0.orders.placed", "events.log.15.a", "events.dead.orders.placed"),
            *("broker.orders.placed", "broker.a"),
            *("$JS.API.CONSUMER.MSG.NEXT.events.f00d", "$JS.ACK.events.f00d.1.1.1.1.1"),
        ):
            assert await it.sends(subject), subject
        for subject in ("broker.>", "broker.orders.*", "broker.a", "events.topic.>"):
            assert await it.listens(subject), subject
        assert await it.listens("broker.a", "mailer")


async def test_nothing_else_of_jetstream_is_a_services(home: Home) -> None:
    """Also what the next nats-server asks by: its own program says which subjects there are."""
    text = program().read_bytes()
    known = {
        one.decode()
        for one in re.findall(rb"\$JS\.API\.[A-Z_]+(?:\.[A-Z_]{2,}|\.[%*][s>]?)*", text)
    }
    asked = {re.sub(r"%s|\*", "events", one) for one in known if "." in one[8:]}
    assert {"$JS.API.STREAM.PURGE.events", "$JS.API.CONSUMER.CREATE.events"} <= asked
    async with world(home) as here, here.user("users", permissions.service("users")) as it:
        open = {one for one in sorted(asked) if await it.sends(one)}
    # The program has the beginning of it, too, on which nobody listens.
    pull = "$JS.API.CONSUMER.MSG.NEXT"
    assert open - {pull} == {f"{pull}.events.events"}


async def test_events_of_a_service_and_its_core(home: Home) -> None:
    async with (
        world(home) as here,
        here.user("core", permissions.core()) as core,
        here.user("users", permissions.service("users")) as it,
        NatsLog(core.client, secret=b"of the core") as control,
        EngineLog(it.client, control) as log,
    ):
        await control.create("t", ttl=100)
        for spec in (GroupSpec("t", "g"), GroupSpec("t", "h", ordered=True), GroupSpec("t")):
            async with log.group(spec) as group:
                (receipt,) = await log.publish(Draft("t", b"1", key="k"))
                (delivery,) = await group.pull(1)
                assert delivery.event.sequence == receipt.sequence
                await group.nack(delivery)
                (delivery,) = await group.pull(1)
                await group.working(delivery)
                await group.bury(delivery, "bad")
        assert [one.group for one in await control.dead()] == ["g", "h", ""]
        await log.publish(Draft("t", b"2"), Draft("t", b"3"))
        assert len(await control.read("t")) == 5
        assert it.refused == []
        assert core.refused == []


async def test_names_with_dots_do_not_hear_each_other(home: Home) -> None:
    async with world(home) as here, here.user("v1", permissions.service("v1")) as first:
        for subject in ("rpc.v1~foo.*.*", "rpc.v1~foo.$.$.cancel", "v1-foo.>", "$SRV.PING.v1-foo"):
            assert not await first.listens(subject), subject
        assert not names.subject("v1.foo", "Foo.Call").startswith(names.prefix("v1"))
        async with here.user("v1.foo", permissions.service("v1.foo")) as second:
            assert await second.listens("rpc.v1~foo.*.*")
            assert await second.listens("v1-foo.>")
            assert not await second.listens("rpc.v1.*.*")
            assert not await second.listens("v1.>")
            assert second.inbox != first.inbox


async def test_an_answer_goes_to_whom_it_is_due(home: Home) -> None:
    async with (
        world(home) as here,
        here.user("users", permissions.service("users")) as it,
        here.user("other", permissions.service("other")) as other,
    ):

        async def answer(message: Any) -> None:
            await message.respond(b"one")
            await message.respond(b"two")

        await it.client.subscribe("rpc.users.*.*", cb=answer)
        await settle(it.client)
        inbox = await other.client.subscribe(f"{other.inbox}.a.1")
        await other.client.publish("rpc.users.Users.Call", reply=f"{other.inbox}.a.1")
        assert [(await inbox.next_msg(5)).data for _ in range(2)] == [b"one", b"two"]
        # Nobody asked from here.
        assert not await it.sends(f"{other.inbox}.a.2")


async def test_who_may_be_answered_is_forgotten_unless_it_is_said_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "ANSWER", 1.0)
    async with (
        world(home) as here,
        here.user("users", permissions.service("users")) as it,
        here.user("other", permissions.service("other")) as other,
    ):
        calls = await it.client.subscribe("rpc.users.*.*")
        more = await it.client.subscribe("rpc.users.$.n.1")
        await settle(it.client)
        mine = f"{other.inbox}.a.1"
        await other.client.publish("rpc.users.Users.Call", reply=mine)
        assert (await calls.next_msg(5)).reply == mine
        assert await it.sends(mine)
        async with asyncio.timeout(60):
            while await it.sends(mine):
                pass
        # As the caller of a stream says whenever it beats.
        await other.client.publish("rpc.users.$.n.1", reply=mine)
        await more.next_msg(5)
        assert await it.sends(mine)


async def test_a_gateway_only_calls(home: Home) -> None:
    async with world(home) as here, here.user("gateway", permissions.gateway()) as it:
        for subject in ("rpc.users.Users.Call", "rpc.auth.Auth.Token", "node.call", "some.where"):
            assert await it.sends(subject), subject
        for subject in NOT_SENT_BY_SERVICES:
            assert not await it.sends(subject), subject
        for subject in (">", "rpc.users.*.*", "rpc.auth.*.*", "$SRV.PING", "_INBOX.core.>"):
            assert not await it.listens(subject), subject
        assert await it.listens("_INBOX.gateway.a.*")


async def test_the_host_of_functions_hears_their_calls_as_one_of_a_group(home: Home) -> None:
    async with world(home) as here, here.user("functions", permissions.functions()) as user:
        for subject in ("rpc.shop.*.*", "rpc.shop~cart.*.*"):
            assert await user.listens(subject, "q")
            assert not await user.listens(subject)
        assert await user.listens("rpc.*.$.$.cancel")
        assert await user.listens("rpc.*.$.node.*")
        for subject in ("rpc.auth.*.*", "rpc.store.*.*", "rpc.functions.*.*"):
            assert not await user.listens(subject, "q")
        for subject in (">", "rpc.>", "_INBOX.core.>", "$JS.>", "events.>", "broker.>", "$SRV.>"):
            assert not await user.listens(subject)
        assert await user.sends("rpc.users.Users.Read")
        assert await user.sends("events.log.0.orders")
        for subject in ("$JS.API.STREAM.CREATE.x", "$SYS.REQ.CLAIMS.UPDATE", "registry.said"):
            assert not await user.sends(subject)


async def test_the_core_serves_its_own_and_finds_the_others(home: Home) -> None:
    async with world(home) as here, here.user("core", permissions.core()) as it:
        for name in permissions.SERVICES:
            assert await it.listens(f"rpc.{name}.*.*", "q"), name
            assert await it.listens(f"$SRV.INFO.{name}.a-node"), name
        for subject in ("registry.said", "_INBOX.core.a.*"):
            assert await it.listens(subject), subject
        for subject in (">", "rpc.>", "rpc.users.*.*", "users.>", "_INBOX.users.>", "_INBOX.>"):
            assert not await it.listens(subject), subject
        for subject in (
            *("rpc.users.Users.Call", "$SRV.INFO", "$SRV.PING.users.a", "registry.said"),
            *("_INBOX.users.a.1", "some.where", "$SYS.REQ.ACCOUNT.PING.CONNZ"),
        ):
            assert await it.sends(subject), subject
        for subject in ("$JS.API.INFO", "$JS.API.STREAM.PURGE.events", "events.topic.a"):
            assert await it.sends(subject), subject
        for subject in ("$KV.a.b", "$O.a.b", "$MQTT.a"):
            assert not await it.sends(subject), subject


async def test_an_admin_hears_all_but_what_the_platform_is_answered(home: Home) -> None:
    async with (
        world(home) as here,
        here.user("admin", permissions.admin()) as it,
        here.user("tester", None) as other,
    ):
        heard = await it.client.subscribe(">")
        await settle(it.client)
        for subject in ("_INBOX.core.a.1", "_INBOX.gateway.a.1", "registry.said", "hello"):
            await other.client.publish(subject, b"x")
        assert (await heard.next_msg(5)).subject == "hello"
        assert not await it.sends("registry.said")
        assert not await it.listens("_INBOX.core.>")
        assert await it.sends("$JS.API.INFO")
        assert await it.listens("rpc.byhand.*.*", "q")


async def test_namespaces_do_not_hear_each_other(home: Home) -> None:
    async with world(home) as here, here.connections.open("staging") as core:
        assert core is not None
        for one, another in (("micro", "staging"), ("staging", "micro")):
            async with here.user("inside", None, one) as inside, here.user("x", None, another) as x:
                everything = await inside.client.subscribe(">")
                await settle(inside.client)
                for subject in ("hello", "rpc.users.Users.Call", "registry.said", "_INBOX.core.a"):
                    await x.client.publish(subject, b"x")
                await settle(x.client)
                await inside.client.publish("end")
                assert (await everything.next_msg(5)).subject == "end"


async def test_accounts_come_and_go_while_the_engine_runs(home: Home, kit: Any) -> None:
    async with world(home) as here:
        async with here.connections.open("staging") as core:
            assert core is not None
            assert core.is_connected
            assert here.connections.left(["staging"]) == []
            assert here.connections.left([]) == ["staging"]
            user = here.keys.account("staging").user("users", permissions.service("users"))
            async with here.joined(user) as inside:
                await here.connections.remove("staging")
                await kit.eventually(lambda: not inside.client.is_connected)
            assert not list((home.server / "keys").glob("*staging*"))
        with pytest.raises(Exception, match="Authorization"):
            async with here.joined(user):
                pass
        # One of the same name is another one.
        async with here.connections.open("staging") as core:
            assert core is not None
        with pytest.raises(Exception, match="Authorization"):
            async with here.joined(user):
                pass


async def test_accounts_are_there_again_after_a_restart(home: Home) -> None:
    async with world(home) as here, here.connections.open("staging"):
        user = here.keys.account("staging").user("users", None)
    # What the engine itself remembers of them does not count.
    for path in (home.server / "nats" / "accounts").iterdir():
        path.unlink()
    async with world(home) as here, here.joined(user) as it:
        assert it.client.is_connected


async def test_a_namespace_may_be_called_like_the_system(home: Home) -> None:
    async with world(home) as here, here.connections.open("system"):
        assert here.keys.account("system").id != here.keys.system.id
        async with here.user("x", None, "system") as it:
            # Of the system account it would be told of every connection of the server.
            heard = await it.client.subscribe("$SYS.ACCOUNT.*.CONNECT")
            await settle(it.client)
            async with here.user("y", None):
                await settle(it.client)
                assert heard.pending_msgs == 0


def test_an_engine_of_others_has_one_namespace(tmp_path: Path) -> None:
    told = {"NATS_URL": "nats://elsewhere", "NATS_CREDS": "/their.creds"}
    theirs = Connections(tmp_path, told)
    assert (theirs.walled, theirs.shared, theirs.account("micro")) == (False, "/their.creds", None)
    theirs.check("micro")
    with pytest.raises(errors.BadRequest, match="services run in namespace micro only: the engine"):
        theirs.check("staging")
    assert list(tmp_path.iterdir()) == []
