"""Who a call is from: the process itself, or whoever it is handling a call of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from microcosmos.base import context, errors
from microcosmos.base.context import AUTHORIZATION, NAMESPACE
from microcosmos.rpc import Call, Client, Endpoint, Hosted, MemoryNetwork, Server
from microcosmos.rpc import server as rpc_server

SELF = "Bearer self"


def told(metadata: dict[str, str]) -> dict[str, str | None]:
    return {name: metadata.get(name) for name in (AUTHORIZATION, NAMESPACE)}


class Pair:
    """Two services: ``front`` asks ``back``, which says what it was shown."""

    def __init__(self, *, namespace: str = "", identity: Any = lambda: SELF) -> None:
        network = MemoryNetwork()
        self.client = Client([network], identity=identity, namespace=namespace)
        self.outside = Client([network])
        self.server = Server(client=self.client)
        self.server.add(Hosted("back", [Endpoint("Back.Shown", self._shown)]))
        front = [Endpoint("Front.Ask", self._ask), Endpoint("Front.Own", self._own)]
        self.server.add(Hosted("front", [*front, Endpoint("Front.View", self._view)]))
        network.join(self.server)

    async def _shown(self, body: bytes) -> bytes:
        return json.dumps(told(context.current().metadata.raw)).encode()

    async def _ask(self, body: bytes) -> bytes:
        return await self.client.call("back", "Back.Shown")

    async def _own(self, body: bytes) -> bytes:
        return await self.client.call("back", "Back.Shown", as_self=True)

    async def _view(self, body: bytes) -> bytes:
        return await self.client.own().call("back", "Back.Shown")

    async def asked(self, endpoint: str, **metadata: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in metadata.items()}
        return json.loads(await self.outside.call("front", endpoint, metadata=named))


async def test_outside_of_handlers_a_process_acts_for_itself() -> None:
    pair = Pair()
    shown = json.loads(await pair.client.call("back", "Back.Shown"))
    assert shown == {AUTHORIZATION: SELF, NAMESPACE: None}
    given = {"authorization": "Bearer given"}
    shown = json.loads(await pair.client.call("back", "Back.Shown", metadata=given))
    assert shown[AUTHORIZATION] == "Bearer given"
    with context.carrying({"Foobar": "x"}):
        assert json.loads(await pair.client.call("back", "Back.Shown"))[AUTHORIZATION] == SELF


@pytest.mark.parametrize("identity", [None, lambda: ""])
async def test_who_is_nobody_shows_nothing(identity: Any) -> None:
    shown = json.loads(await Pair(identity=identity).client.call("back", "Back.Shown"))
    assert shown[AUTHORIZATION] is None


async def test_a_handler_acts_for_its_caller() -> None:
    pair = Pair()
    assert (await pair.asked("Front.Ask", authorization="Bearer x"))[AUTHORIZATION] == "Bearer x"
    # For nobody, too: what a service may do is not what everybody may do by it.
    assert (await pair.asked("Front.Ask"))[AUTHORIZATION] is None


async def test_what_a_handler_adds_does_not_change_for_whom_it_acts() -> None:
    pair = Pair()

    async def carrying(body: bytes) -> bytes:
        with context.carrying({"Foobar": "x"}):
            return await pair.client.call("back", "Back.Shown")

    pair.server.services["front"].handlers["Front.Ask"] = lambda call: carrying(call.body)
    assert (await pair.asked("Front.Ask"))[AUTHORIZATION] is None


async def test_a_password_goes_no_further() -> None:
    pair = Pair()
    assert (await pair.asked("Front.Ask", authorization="Basic eDp5"))[AUTHORIZATION] is None


@pytest.mark.parametrize("endpoint", ["Front.Own", "Front.View"])
async def test_a_handler_may_act_for_itself(endpoint: str) -> None:
    pair = Pair()
    assert (await pair.asked(endpoint, authorization="Bearer x"))[AUTHORIZATION] == SELF
    assert (await pair.asked(endpoint))[AUTHORIZATION] == SELF
    nobody = Pair(identity=None)
    assert (await nobody.asked(endpoint, authorization="Bearer x"))[AUTHORIZATION] is None


async def test_a_client_can_show_something_else() -> None:
    pair = Pair()
    other = pair.client.showing(lambda: "Bearer other")
    assert json.loads(await other.call("back", "Back.Shown"))[AUTHORIZATION] == "Bearer other"
    nothing = pair.client.showing(None)
    assert json.loads(await nothing.call("back", "Back.Shown"))[AUTHORIZATION] is None


async def test_a_process_calls_in_its_own_namespace() -> None:
    there = Pair(namespace="foo")
    assert (json.loads(await there.client.call("back", "Back.Shown")))[NAMESPACE] == "foo"
    assert (await there.asked("Front.Ask", micro_namespace="bar"))[NAMESPACE] == "foo"
    here = Pair(namespace="micro")
    assert (await here.asked("Front.Ask", micro_namespace="bar"))[NAMESPACE] is None
    # The core lives in all of them.
    everywhere = Pair()
    assert (await everywhere.asked("Front.Ask", micro_namespace="bar"))[NAMESPACE] == "bar"


@pytest.mark.parametrize("said", [{}, {NAMESPACE: "foo"}, {NAMESPACE: "bar"}])
async def test_a_server_answers_in_its_namespace_whatever_a_call_says(said: dict[str, str]) -> None:
    async def where(body: bytes) -> bytes:
        return json.dumps(context.current().namespace).encode()

    server = Server(namespace="foo")
    server.add(Hosted("back", [Endpoint("Back.Where", where)]))
    answer = await server.handle(Call("back", "Back.Where", b"{}", dict(said)))
    assert json.loads(answer) == "foo"


class Guard:
    """A verifier that lets in who it is told to."""

    def __init__(self) -> None:
        self.refuses: errors.Error | None = None

    def __call__(self, call: Call, endpoint: Endpoint) -> object | None:
        if self.refuses is not None:
            raise self.refuses
        return None


async def test_a_stream_ends_when_its_caller_may_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc_server, "RECHECK", 0.01)
    guard, ended = Guard(), asyncio.Event()

    async def forever(_: bytes, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        try:
            yield b"1"
            await asyncio.Event().wait()
        finally:
            ended.set()

    network = MemoryNetwork()
    server = Server(verifier=guard)
    server.add(Hosted("back", [Endpoint("Back.Stream", stream=forever)]))
    network.join(server)
    async with Client([network]).stream("back", "Back.Stream") as stream:
        assert await anext(stream) == b"1"
        guard.refuses = errors.Unauthorized("auth", "the token has expired")
        async with asyncio.timeout(60):
            with pytest.raises(errors.Unauthorized, match="expired"):
                await anext(stream)
        await ended.wait()
    assert server.services["back"].endpoints["Back.Stream"].stats.errors == 1
    assert not server.active
    # Nothing is looked at any more once nothing streams.
    async with asyncio.timeout(60):
        while server._rechecking:  # noqa: ASYNC110 - a timer changes it
            await asyncio.sleep(0.01)
