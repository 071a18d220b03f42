"""A caller's end of the lines to workers, against a peer that does what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from microcosmos.base import context, errors
from microcosmos.functions import wire
from microcosmos.functions.calling import Caller, Streamed
from microcosmos.functions.interface import Unit
from microcosmos.functions.lines import Lines, Lost
from microcosmos.functions.workers import Place, Suspicion, Verdict, Where
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

from .zygotes import until

PEER = Path(__file__).parent / "programs" / "peer.py"

WHERE = Where("micro", "demo", 1, "key")


def unit(where: Where = WHERE, code: str = "") -> Unit:
    return Unit(
        namespace=where.namespace,
        name=where.name,
        number=where.number,
        key=where.key,
        owner="alice",
        language="javascript",
        form="handler",
        engine="quickjs",
        main="index.js",
        code=code,
    )


def popen(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE)


class Host:
    """Places versions in peers; what it does when asked a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = Lines()
        self.peers: list[subprocess.Popen[bytes]] = []
        self.sockets: dict[int, str] = {}
        self.asked = 0
        self.spread = 1
        self.suspicions: list[Suspicion] = []
        self.judge: Callable[[Suspicion], Awaitable[Verdict]] = self.innocent

    async def innocent(self, suspicion: Suspicion) -> Verdict:
        return Verdict(False)

    async def suspect(self, suspicion: Suspicion) -> Verdict:
        self.suspicions.append(suspicion)
        return await self.judge(suspicion)

    async def place(self, where: Where) -> list[Place]:
        self.asked += 1
        while len(self.living) < self.spread:
            await self.start()
        places = []
        for peer in self.living[: self.spread]:
            try:
                line = await self.lines.line(self.sockets[peer.pid], peer.pid)
                answer = await line.ask(wire.LOAD, wire.encode(unit(where)), 5)
            except Lost:
                peer.wait()
                return await self.place(where)
            loaded = wire.decode_loaded(answer)
            places.append(Place(self.sockets[peer.pid], loaded.slot, peer.pid))
        return places

    @property
    def living(self) -> list[subprocess.Popen[bytes]]:
        return [peer for peer in self.peers if peer.poll() is None]

    async def start(self) -> None:
        path = str(self.folder / f"{len(self.peers)}.sock")
        peer = popen([sys.executable, str(PEER), path])
        assert peer.stdout is not None
        await asyncio.to_thread(peer.stdout.readline)
        self.peers.append(peer)
        self.sockets[peer.pid] = path

    def close(self) -> None:
        for peer in self.peers:
            peer.kill()
            peer.wait()
            assert peer.stdout is not None
            peer.stdout.close()


@contextlib.asynccontextmanager
async def calling(folder: Path) -> AsyncIterator[tuple[Caller, Host]]:
    host = Host(folder)
    try:
        async with host.lines, Caller(host) as caller:
            yield caller, host
    finally:
        host.close()


async def run(
    caller: Caller,
    head: str,
    body: bytes = b"",
    *,
    safe: bool = False,
    timeout: float = 10.0,
    where: Where = WHERE,
) -> bytes:
    return await caller.run(where, head.encode(), body, timeout=timeout, safe=safe)


def text(payload: bytes) -> bytes:
    return wire.unpack_reply(payload)[3]


class TestRequests:
    async def test_many_at_once_get_each_their_own_answer(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            bodies = [b"%d" % number for number in range(300)]
            answers = await asyncio.gather(*(run(caller, "echo", body) for body in bodies))
            assert [text(answer) for answer in answers] == bodies
            assert host.asked == 1, "the place is asked for once, however many want to know it"

    async def test_they_do_not_wait_for_each_other(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            slow = asyncio.create_task(run(caller, "wait 0.2", b"slow"))
            assert text(await run(caller, "echo", b"quick")) == b"quick"
            assert not slow.done()
            assert text(await slow) == b"slow"

    async def test_large_ones_go_through(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            body = os.urandom(3_000_000)
            assert text(await run(caller, "echo", body)) == body

    async def test_errors_of_the_function_are_raised(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            with pytest.raises(errors.InternalServerError) as caught:
                await run(caller, "fail")
            assert caught.value.id == "functions.exception"

    async def test_one_that_is_late_is_a_503_and_the_worker_is_told(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            await run(caller, "echo")
            began = time.monotonic()
            with pytest.raises(errors.Unavailable) as caught:
                await run(caller, "never", timeout=0.1)
            assert caught.value.id == "functions.limit.wall"
            assert 0.05 < time.monotonic() - began < 60
            assert text(await run(caller, "cancelled")) == b"[2]"

    async def test_one_that_nobody_waits_for_is_cancelled_in_the_worker(
        self, tmp_path: Path
    ) -> None:
        async with calling(tmp_path) as (caller, _):
            await run(caller, "echo")
            task = asyncio.create_task(run(caller, "never"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert text(await run(caller, "cancelled")) == b"[2]"

    async def test_errors_of_the_host_are_raised(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):

            async def refuse(where: Where) -> list[Place]:
                raise errors.InternalServerError("functions.load", "it fails when loaded")

            host.place = refuse  # type: ignore[method-assign]
            with pytest.raises(errors.InternalServerError, match="it fails when loaded"):
                await run(caller, "echo")

    @pytest.mark.parametrize("id", ["workers", "auth"])
    async def test_a_host_that_is_away_or_knows_nobody_yet_is_waited_for(
        self, tmp_path: Path, id: str
    ) -> None:
        async with calling(tmp_path) as (caller, host):
            place, times = host.place, 0

            async def away(where: Where) -> list[Place]:
                nonlocal times
                times += 1
                if times < 4:
                    raise errors.Unavailable(id, "no replica of workers is alive")
                return await place(where)

            host.place = away  # type: ignore[method-assign]
            assert text(await run(caller, "echo", b"late")) == b"late"
            times = -1000
            with pytest.raises(errors.Unavailable) as caught:
                await run(caller, "echo", timeout=0.1, where=Where("micro", "other", 1, "other"))
            assert caught.value.id == "functions.limit.wall"

    async def test_what_a_host_refuses_is_told_at_once(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            asked = 0

            async def refuse(where: Where) -> list[Place]:
                nonlocal asked
                asked += 1
                raise errors.Unavailable("functions.quarantine", "it has 2 strikes")

            host.place = refuse  # type: ignore[method-assign]
            with pytest.raises(errors.Unavailable, match="2 strikes"):
                await run(caller, "echo")
            assert asked == 1


class TestUnloaded:
    async def test_a_version_that_was_dropped_is_placed_again(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            await run(caller, "echo")
            line = await host.lines.line(host.sockets[host.peers[0].pid], host.peers[0].pid)
            await line.ask(wire.DROP, wire.encode(wire.Slot(1)), 5)
            assert text(await run(caller, "echo", b"again")) == b"again"
            assert host.asked == 2

    async def test_one_that_is_always_dropped_is_given_up(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            await run(caller, "echo")
            socket, pid = host.sockets[host.peers[0].pid], host.peers[0].pid

            async def wrong(where: Where) -> list[Place]:
                host.asked += 1
                return [Place(socket, 99, pid)]

            host.place = wrong  # type: ignore[method-assign]
            with pytest.raises(errors.Unavailable) as caught:
                await run(caller, "echo", where=Where("micro", "other", 1, "other"))
            assert caught.value.id == "functions.lost"
            assert host.asked < 10

    async def test_a_body_that_streams_is_sent_again(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            await run(caller, "echo")
            line = await host.lines.line(host.sockets[host.peers[0].pid], host.peers[0].pid)
            await line.ask(wire.DROP, wire.encode(wire.Slot(1)), 5)
            exchange = await caller.open(WHERE, b"sum", timeout=60)
            answering = asyncio.create_task(exchange.answer())
            for _ in range(40):
                await exchange.send(b"x" * 20_000)
            await exchange.end()
            assert text(await answering) == b"800000"


class TestDeath:
    async def test_what_is_safe_to_repeat_is_repeated_elsewhere(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            head = f"die_once {tmp_path / 'died'}"
            assert text(await run(caller, head, b"alive", safe=True)) == b"alive"
            assert len(host.peers) == 2

    async def test_the_rest_is_a_503(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            others = [asyncio.create_task(run(caller, "never")) for _ in range(3)]
            await run(caller, "echo")
            with pytest.raises(Lost) as caught:
                await run(caller, f"die_once {tmp_path / 'died'}")
            assert (caught.value.code, caught.value.id) == (503, "functions.lost")
            for other in others:
                with pytest.raises(Lost):
                    await other
            assert text(await run(caller, "echo", b"next")) == b"next"

    async def test_what_kills_twice_is_not_tried_a_third_time(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            with pytest.raises(Lost):
                await run(caller, "die", safe=True)
            assert len(host.peers) == 2

    async def test_one_between_two_requests_is_seen_by_nobody(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            for _ in range(3):
                await run(caller, "echo")
                host.peers[-1].kill()
                host.peers[-1].wait()
                # Its socket says so in the next turn of the loop.
                await asyncio.sleep(0.01)
            assert text(await run(caller, "echo", b"alive")) == b"alive"

    @pytest.mark.parametrize("head", ["junk", "garble"])
    async def test_a_worker_that_talks_nonsense_is_lost(self, tmp_path: Path, head: str) -> None:
        async with calling(tmp_path) as (caller, _):
            other = asyncio.create_task(run(caller, "never"))
            with pytest.raises(Lost):
                await run(caller, head)
            with pytest.raises(Lost):
                await other
            assert text(await run(caller, "echo", b"next")) == b"next"

    async def test_a_worker_that_says_goodbye_loses_nothing(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            host.lines.get("")
            await run(caller, "echo")
            tasks = [asyncio.create_task(run(caller, "wait 0.05", b"%d" % n)) for n in range(5)]
            tasks.append(asyncio.create_task(run(caller, "goodbye", b"5")))
            # These are on their way when the goodbye comes.
            tasks += [asyncio.create_task(run(caller, "echo", b"%d" % n)) for n in range(6, 20)]
            answers = [text(await task) for task in tasks]
            assert answers == [b"%d" % n for n in range(20)]
            # The host of this test keeps its own line to the old one until that has gone.
            await host.lines.__aexit__(None, None, None)
            await until(lambda: host.peers[0].poll() is not None)
            assert host.peers[0].returncode == 0
            assert text(await run(caller, "echo", b"new")) == b"new"


class TestSeveralWorkers:
    async def test_they_take_turns(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            host.spread = 2
            pids = [int(text(await run(caller, "pid"))) for _ in range(6)]
            assert len(set(pids)) == 2
            assert pids[:2] == pids[2:4] == pids[4:]

    async def test_the_death_of_one_leaves_the_others(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            host.spread = 2
            await run(caller, "echo")
            host.spread = 1
            os.kill(host.peers[0].pid, signal.SIGKILL)
            host.peers[0].wait()
            answers = [await run(caller, "pid", safe=True) for _ in range(4)]
            assert {text(answer) for answer in answers} == {b"%d" % host.peers[1].pid}

    async def test_new_ones_are_found_after_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("microcosmos.functions.calling.REFRESH", 0.05)
        async with calling(tmp_path) as (caller, host):
            await run(caller, "echo")
            host.spread = 2
            seen = set()
            async with asyncio.timeout(60):
                while len(seen) < 2:
                    seen.add(text(await run(caller, "pid")))
                    await asyncio.sleep(0.005)


class TestBodies:
    async def test_an_answer_comes_in_parts(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            payload = await run(caller, "stream 3000000")
            assert isinstance(payload, Streamed)
            size = 0
            async for part in payload.body:
                size += len(part)
            assert size == 3_000_000

    async def test_a_reader_that_is_slow_holds_the_worker_up(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            payload = await run(caller, "stream 50000000")
            assert isinstance(payload, Streamed)
            await run(caller, "wait 0.1")
            held = payload.body._held
            assert 0 < held <= wire.WINDOW + 16384
            payload.body.cancel()
            assert text(await run(caller, "cancelled")) == b"[1]"

    async def test_an_error_ends_it(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            for head, kind in (("torn", errors.InternalServerError), ("torn_by_death", Lost)):
                payload = await run(caller, head)
                assert isinstance(payload, Streamed)
                assert await anext(payload.body) == b"begun"
                with pytest.raises(kind):
                    await anext(payload.body)

    async def test_a_flood_is_cut_off(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            payload = await run(caller, "flood")
            assert isinstance(payload, Streamed)
            await run(caller, "echo")
            with pytest.raises(errors.BadGateway, match="more than was asked for"):
                async for _ in payload.body:
                    pass
            assert text(await run(caller, "cancelled")) == b"[1]"

    async def test_a_request_goes_in_parts(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            exchange = await caller.open(WHERE, b"sum slow", timeout=60)
            answering = asyncio.create_task(exchange.answer())
            for _ in range(30):
                await exchange.send(b"x" * 100_000)
            await exchange.end()
            assert text(await answering) == b"3000000"

    async def test_a_worker_that_answers_early_ends_the_sending(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            exchange = await caller.open(WHERE, b"sum early", timeout=60)

            async def send() -> None:
                for _ in range(1000):
                    await exchange.send(b"x" * 100_000)

            sending = asyncio.create_task(send())
            assert wire.unpack_reply(await exchange.answer())[0] == 413
            await asyncio.wait_for(sending, 60)

    async def test_a_request_whose_client_has_left_is_cancelled(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, _):
            exchange = await caller.open(WHERE, b"sum", timeout=60)
            await exchange.send(b"x")
            exchange.cancel()
            assert text(await run(caller, "cancelled")) == b"[1]"


class TestSilence:
    async def test_one_that_waits_is_not_suspected(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            assert text(await run(caller, "wait 0.4", b"done")) == b"done"
            assert not host.suspicions

    async def test_one_that_sleeps_in_the_kernel_is_not_suspected_soon(
        self, tmp_path: Path
    ) -> None:
        async with calling(tmp_path) as (caller, host):
            await run(caller, "block 0.4")
            assert not host.suspicions

    async def test_one_that_burns_is_told_to_the_host(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            while not host.suspicions:  # if this process stands still, nobody sees it burn
                assert text(await run(caller, "burn 0.4", b"done")) == b"done"
            first = host.suspicions[0]
            assert first.pid == host.peers[0].pid
            assert first.owed == {"key": 1}
            assert 0.02 <= first.burned < 0.6

    async def test_its_victims_are_told_apart_from_the_guilty(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):
            victim = Where("micro", "victim", 1, "victim")
            await run(caller, "echo", where=victim)
            await run(caller, "echo")

            async def kill(suspicion: Suspicion) -> Verdict:
                os.kill(suspicion.pid, signal.SIGKILL)
                await asyncio.sleep(0.05)
                return Verdict(True, "key", "functions.limit.cpu", "ended after 81 ms")

            host.judge = kill
            innocent = asyncio.create_task(run(caller, "wait 0.2", b"ok", safe=True, where=victim))
            await asyncio.sleep(0)
            with pytest.raises(errors.Unavailable) as caught:
                await run(caller, "burn 30", safe=True)
            assert caught.value.id == "functions.limit.cpu"
            assert text(await innocent) == b"ok"
            assert len(host.peers) == 2, "what is guilty is not tried again"

    async def test_without_a_host_requests_go_on(self, tmp_path: Path) -> None:
        async with calling(tmp_path) as (caller, host):

            async def away(suspicion: Suspicion) -> Verdict:
                raise errors.Unavailable("workers", "away")

            host.judge = away
            assert text(await run(caller, "burn 0.3", b"done")) == b"done"
            assert text(await run(caller, "echo", b"next")) == b"next"


async def test_what_a_worker_asks_is_not_asked_by_who_had_the_line_opened(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    served: list[Line] = []

    def serve() -> Line:
        served.append(Line(lambda *_: None, lambda _: None))
        return served[-1]

    path = str(tmp_path / "w.sock")
    server = await loop.create_unix_server(serve, path)
    context.set_current(context.Unasked(context.Metadata(), time.monotonic() + 10))
    async with server, Lines() as lines:
        line = await lines.line(path, os.getpid())
        seen: asyncio.Future[float | None] = loop.create_future()
        line.asked = lambda *_: seen.set_result(context.current().remaining())
        served[0].send(frames.REQUEST, wire.ASKED, wire.pack_request(0, b"notes"))
        assert await asyncio.wait_for(seen, 60) is None, "a deadline would end what all wait for"
