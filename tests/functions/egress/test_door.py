"""The door: what the host passes on, in whole and in parts, and what is none of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import tempfile
from collections.abc import AsyncIterator

import pytest

from microcosmos.base import errors
from microcosmos.base.home import Home
from microcosmos.functions.egress import door
from microcosmos.functions.egress.client import EgressClient
from microcosmos.functions.egress.fetch import Fetcher
from microcosmos.functions.egress.policy import Policy
from microcosmos.functions.egress.serving import open_egress
from microcosmos.functions.wire import WINDOW, Fetch, encode, pack_request
from microcosmos.rpc.frames import END, ERROR, GRANT, ITEM, OPEN, REPLY, REQUEST

from ..web import Seen, said, web
from .process import Answer, policy


@contextlib.asynccontextmanager
async def egress(fetcher: Fetcher | None = None) -> AsyncIterator[EgressClient]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        home.make()
        async with open_egress(home, fetcher), EgressClient(home.egress_lane) as client:
            yield client


async def ask(client: EgressClient, may: Policy, fetch: Fetch) -> Answer:
    answer = Answer()
    await client.begin(REQUEST, encode(may), encode(fetch), answer.say)
    return answer


async def test_the_functions_of_one_owner_share_connections_and_those_of_two_do_not() -> None:
    async with web(said(b"ok")) as server, egress() as client:
        for name, owner in (("a", "ann"), ("b", "ann"), ("c", "bob"), ("c", "bob")):
            may = policy(server.host, name=name, owner=owner)
            await (await ask(client, may, Fetch(url=server.url))).whole()
        assert server.connections == 2


async def test_bodies_of_one_owner_fill_no_more_memory_than_they_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "HELD", 100_000)
    hold = asyncio.Event()

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await hold.wait()
        await said(b"ok")(seen, writer)

    async with web(answer) as server, egress() as client:
        body = base64.b64encode(b"x" * 50_000).decode()
        fetch = Fetch(url=server.url, method="POST", body=body)
        first = await ask(client, policy(server.host), fetch)
        second = await ask(client, policy(server.host, name="too"), fetch)
        with pytest.raises(errors.TooManyRequests, match="have over 100000 bytes; stream them"):
            await second.whole()
        other = await ask(client, policy(server.host, owner="bob"), fetch)
        hold.set()
        for good in (first, other):
            assert (await good.whole())[2] == b"ok"
        # What was under way is over, and there is room again.
        assert (await (await ask(client, policy(server.host), fetch)).whole())[2] == b"ok"


async def test_a_body_in_parts_goes_as_it_is_taken() -> None:
    async with web(said(b"ok")) as server, egress() as client:
        got = Answer()
        fetch = Fetch(url=server.url, method="PUT", streamed=True)
        under = await client.begin(OPEN, encode(policy(server.host)), encode(fetch), got.say)
        part, credit = b"x" * 50_000, WINDOW
        for _ in range(20):
            while credit <= 0:
                kind, payload = await got.next()
                assert kind == GRANT
                credit += int(payload)
            under.send(ITEM, part)
            credit -= len(part)
        under.send(END, b"")
        while (frame := await got.next())[0] == GRANT:
            pass
        assert frame[0] == REPLY
        assert server.seen[0].body == part * 20


async def test_who_sends_more_than_was_asked_for_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("microcosmos.functions.bodies.FLOOD", WINDOW)

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        pass

    async with web(answer) as server, egress() as client:
        got = Answer()
        fetch = Fetch(url=server.url, method="PUT", streamed=True)
        under = await client.begin(OPEN, encode(policy(server.host)), encode(fetch), got.say)
        for _ in range(100):
            under.send(ITEM, b"x" * 60_000)
        while (frame := await got.next())[0] == GRANT:
            pass
        assert frame[0] == ERROR
        assert errors.from_wire(frame[1]).code == 400


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00\x00\x00\x00\xff\xff\xff\xff",
        pack_request(0, b"{", b"{}"),
        pack_request(0, b"fetch", encode(Fetch(url="http://127.0.0.1:1/"))),
        pack_request(0, encode(policy("127.0.0.1:1")), b"{"),
        pack_request(0, encode(policy("127.0.0.1:1")), b'{"url": 5}'),
        pack_request(0, encode(policy("127.0.0.1:1")), b'{"url": "x", "body": "\\u0000"}'),
    ],
)
async def test_what_is_no_sub_request(payload: bytes) -> None:
    async with egress() as client:
        end = await client._opened()
        got = Answer()
        end.begin(REQUEST, payload, got.say)
        with pytest.raises(errors.BadRequest):
            await got.whole()
        with pytest.raises(errors.BadGateway, match="cannot connect"):
            await (
                await ask(client, policy("127.0.0.1:1"), Fetch(url="http://127.0.0.1:1/"))
            ).whole()


async def test_a_sub_request_that_is_too_long_for_one_message() -> None:
    async with egress() as client:
        with pytest.raises(errors.TooLarge, match="stream its body"):
            await client.begin(REQUEST, encode(policy()), b"x" * 9_000_000, Answer().say)
