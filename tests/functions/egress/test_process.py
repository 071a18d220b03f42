"""The egress as the process that it is: within its walls, killed, started again."""

from __future__ import annotations

import asyncio
import signal
import stat
import sys
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.functions.interface import SecretUse
from microcosmos.functions.placeholders import placeholder_of
from microcosmos.functions.wire import Fetch, encode
from microcosmos.rpc.frames import CANCEL, ITEM, REPLY, REQUEST

from ..web import Seen, said, web
from .process import Answer, policy, running

KEY = placeholder_of("micro/shop/1/", "KEY")


async def test_a_fetch_with_a_secret_through_the_process() -> None:
    async with web(said(b"hello", x_one="1")) as server, running(values={"KEY": "s3cret"}) as one:
        may = policy(
            server.host,
            placeholders={KEY: "KEY"},
            secret_uses={"KEY": [SecretUse(server.host)]},
        )
        fetch = Fetch(url=server.url, headers=[("authorization", f"Bearer {KEY}")])
        status, headers, body = await (await one.ask(may, fetch)).whole()
        assert (status, headers["x-one"], body) == (200, "1", b"hello")
        assert server.seen[0].headers["authorization"] == "Bearer s3cret"
        named = Fetch(url=f"http://localhost:{server.port}/")
        refused = await one.ask(policy(), named)
        with pytest.raises(errors.Forbidden, match=r"is no public address \(loopback\)"):
            await refused.whole()
        assert stat.S_IMODE(one.home.egress_lane.stat().st_mode) == 0o600
        assert (
            f"allowed micro/shop v1: GET {server.url} at 127.0.0.1 port {server.port}, 200, 5 b"
            in (one.log())
        )
        assert f"refused micro/shop v1: GET http://localhost:{server.port}, 403, 0 b" in one.log()
        assert "s3cret" not in one.log()


@pytest.mark.skipif(sys.platform != "linux", reason="what a process gives up is seen in /proc")
async def test_it_keeps_nothing_that_it_was_told() -> None:
    async with web(said(b"ok")) as server, running() as one:
        await (await one.ask(policy(server.host), Fetch(url=server.url))).whole()
        about = Path(f"/proc/{one.process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in about
        assert "Seccomp:\t2" in about


async def test_a_name_is_found_and_the_platforms_own_doors_are_closed() -> None:
    async with web(said(b"own")) as own, web(said(b"mine")) as server:
        async with running(own=f"{own.host},127.0.0.1:1") as one:
            host = f"localhost:{server.port}"
            answer = await one.ask(policy(host), Fetch(url=f"http://{host}/"))
            assert (await answer.whole())[2] == b"mine"
            answer = await one.ask(policy(own.host), Fetch(url=own.url))
            with pytest.raises(errors.Forbidden, match="is the platform's own"):
                await answer.whole()
        assert not own.connections


async def test_what_was_under_way_fails_when_it_is_killed_and_the_next_finds_another() -> None:
    hold = asyncio.Event()

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.target == "/begun":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        elif seen.target == "/never":
            await hold.wait()
        else:
            await said(b"ok")(seen, writer)

    async with web(answer) as server, running() as one:
        may = policy(server.host)
        begun = await one.ask(may, Fetch(url=f"{server.url}/begun"))
        assert [(await begun.next())[0] for _ in range(2)] == [REPLY, ITEM]
        never = await one.ask(may, Fetch(url=f"{server.url}/never"))
        one.process.send_signal(signal.SIGKILL)
        for broken in (begun, never):
            with pytest.raises(errors.Unavailable, match="the process that fetches has ended"):
                await broken.whole()
        one.process.wait()
        waiting = asyncio.create_task(one.ask(may, Fetch(url=f"{server.url}/next")))
        one.start()
        assert (await (await waiting).whole())[2] == b"ok"
        hold.set()


async def test_an_egress_that_stays_away_is_told() -> None:
    async with running() as one:
        one.process.kill()
        one.process.wait()
        one.home.egress_lane.unlink(missing_ok=True)
        one.client._patience = 0.05
        with pytest.raises(errors.Unavailable, match="the process that fetches is away"):
            await one.ask(policy(), Fetch(url="http://example.org/"))


async def test_what_nobody_wants_any_more_is_given_up() -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")

    async with web(answer) as server, running() as one:
        got, may = Answer(), encode(policy(server.host))
        under = await one.client.begin(REQUEST, may, encode(Fetch(url=server.url)), got.say)
        assert (await got.next())[0] == REPLY
        under.send(CANCEL, b"")
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_it_ends_when_it_is_asked_to_and_when_nobody_has_ever_come() -> None:
    async with web(said(b"ok")) as server, running() as one:
        await (await one.ask(policy(server.host), Fetch(url=server.url))).whole()
        one.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(one.process.wait, 10) == 0
        one.home.egress_lane.unlink()
        one.start()
        while not one.home.egress_lane.exists():  # noqa: ASYNC110 - made by another process
            await asyncio.sleep(0.01)
        one.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(one.process.wait, 10) in (0, -signal.SIGTERM)
