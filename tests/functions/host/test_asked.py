"""What workers ask, frame by frame, on a real line; sub-requests go to real servers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import context, errors
from microcosmos.base.home import Home
from microcosmos.functions import wire
from microcosmos.functions.egress.client import EgressClient
from microcosmos.functions.egress.serving import open_egress
from microcosmos.functions.host.asked import AT_ONCE, Asked, Slots, unknown
from microcosmos.functions.host.bindings import MAX_ARGUMENTS
from microcosmos.functions.interface import Unit
from microcosmos.functions.placeholders import placeholder_of
from microcosmos.rpc.frames import CANCEL, END, ERROR, GRANT, ITEM, OPEN, REPLY, REQUEST
from microcosmos.rpc.line import Line

from ..web import Seen, said, web
from .test_bindings import unit

SLOT = 3
KEY = placeholder_of("micro/other/1/", "KEY")


class Answers:
    """What came on one stream of the worker."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.came = asyncio.Event()

    async def next(self) -> tuple[int, bytes]:
        while not self.frames:
            self.came.clear()
            async with asyncio.timeout(60):
                await self.came.wait()
        return self.frames.pop(0)

    async def error(self) -> errors.Error:
        kind, payload = await self.next()
        assert kind == ERROR, (kind, payload)
        return errors.from_wire(payload)

    async def whole(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        kind, payload = await self.next()
        assert kind == REPLY, payload
        status, about, head, body = wire.unpack_reply(payload)
        while about & wire.STREAMED:
            kind, payload = await self.next()
            if kind == END:
                break
            assert kind == ITEM, (kind, payload)
            body += payload
        return status, dict(wire.decode_headers(head)) if head else {}, body


class Worker:
    """The worker's end of a line, in the hands of the test; and what the host offers there."""

    def __init__(self, egress: EgressClient) -> None:
        self.egress = egress
        self.slots: dict[int, Unit] = {}
        self.told: list[str] = []
        self.noted: list[tuple[str, wire.Notes]] = []
        self.used: list[wire.Use] = []
        self.hold = asyncio.Event()
        self.gone: list[str] = []
        self.asked: Asked
        self.line: Line
        self._streams: dict[int, Answers] = {}
        self._number = wire.ASKED

    # Slots.

    def name(self, slot: int) -> tuple[str, str] | None:
        return ("micro", self.slots[slot].name) if slot in self.slots else None

    def number(self, slot: int) -> int:
        return self.slots[slot].number if slot in self.slots else 0

    async def unit(self, slot: int) -> Unit:
        if slot not in self.slots:
            raise unknown(slot)
        return self.slots[slot]

    # Offers.

    async def use(self, unit: Unit, use: wire.Use) -> bytes:
        self.used.append(use)
        if use.verb == "slow":
            await self.hold.wait()
        if use.verb == "bad":
            raise errors.Forbidden("functions", "no")
        if use.verb == "broken":
            raise RuntimeError("private")
        here = context.current()
        return json.dumps([here.trace, here.remaining()]).encode()

    async def note(self, worker: str, slots: Slots, notes: wire.Notes) -> None:
        self.noted.append((worker, notes))

    def forget(self, worker: str) -> None:
        self.gone.append(worker)

    def tell(self, unit: Unit, level: str, text: str, trace: str) -> None:
        self.told.append(f"{unit.name} {level} {text}")

    # The worker's end.

    def take(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        answers = self._streams[stream]
        answers.frames.append((kind, payload))
        answers.came.set()

    def ask(self, word: str, body: Any = None, kind: int = REQUEST, slot: int = SLOT) -> Answers:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.begin(wire.pack_request(slot, word.encode(), data), kind)

    def begin(self, payload: bytes, kind: int = REQUEST) -> Answers:
        self._number += 1
        answers = self._streams[self._number] = Answers()
        self.line.send(kind, self._number, payload)
        return answers

    def say(self, kind: int, payload: bytes = b"") -> None:
        """On the last stream."""
        self.line.send(kind, self._number, payload)


@contextlib.asynccontextmanager
async def worker(*hosts: str) -> AsyncIterator[Worker]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        home.make()
        async with (
            open_egress(home),
            EgressClient(home.egress_lane) as egress,
            _worker(egress, hosts) as made,
        ):
            yield made


@contextlib.asynccontextmanager
async def _worker(egress: EgressClient, hosts: Sequence[str]) -> AsyncIterator[Worker]:
    loop, made = asyncio.get_running_loop(), Worker(egress)
    given = unit("shop", [])
    made.slots[SLOT] = Unit(**{**_fields(given), "hosts": [*hosts]})
    ends: list[Line] = []

    def accept() -> Line:
        line = Line(lambda line, *frame: made.asked.received(*frame), lambda _: made.asked.lost())
        made.asked = Asked(line.send, made, "w1", made)
        ends.append(line)
        return line

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "host.sock")
        server = await loop.create_unix_server(accept, path)
        made.line = Line(made.take, lambda _: None)
        await loop.create_unix_connection(lambda: made.line, path)
        try:
            yield made
        finally:
            made.line.abort()
            server.close()
            async with asyncio.timeout(60):
                while not made.gone:  # noqa: ASYNC110 - the other end is told by the loop
                    await asyncio.sleep(0.001)


def _fields(unit: Unit) -> dict[str, Any]:
    return {name: getattr(unit, name) for name in unit.__struct_fields__}


async def test_a_fetch() -> None:
    async with web(said(b"hello", x_one="1")) as server, worker(server.host) as one:
        url = f"{server.url}/a"
        status, headers, body = await one.ask(
            "fetch", {"url": url, "headers": [["x", "y"]]}
        ).whole()
        assert (status, headers["x-one"], body) == (200, "1", b"hello")
        assert server.seen[0].headers["x"] == "y"


async def test_a_fetch_with_a_whole_body() -> None:
    async with web(said(b"ok")) as server, worker(server.host) as one:
        body = base64.b64encode(b"\x00data").decode()
        await one.ask("fetch", {"url": server.url, "method": "POST", "body": body}).whole()
        assert server.seen[0].body == b"\x00data"


async def test_a_fetch_with_a_body_in_parts_takes_no_more_than_it_can_send() -> None:
    parts = [bytes([n]) * 60_000 for n in range(20)]
    async with web(said(b"ok")) as server, worker(server.host) as one:
        asked = {"url": server.url, "method": "PUT", "streamed": True}
        answers = one.ask("fetch", asked, OPEN)
        credit, granted = wire.WINDOW, 0
        for part in parts:
            while credit <= 0:
                kind, payload = await answers.next()
                assert kind == GRANT
                credit += int(payload)
                granted += int(payload)
            one.say(ITEM, part)
            credit -= len(part)
        one.say(END)
        while (frame := await answers.next())[0] == GRANT:
            pass
        assert frame[0] == REPLY
        assert server.seen[0].body == b"".join(parts)
        assert granted


async def test_a_large_answer_waits_for_its_reader() -> None:
    size = 3 * wire.WINDOW
    async with web(said(b"x" * size)) as server, worker(server.host) as one:
        answers = one.ask("fetch", {"url": server.url})
        assert (await answers.next())[0] == REPLY
        got = 0
        while got < wire.WINDOW:
            got += len((await answers.next())[1])
        assert got < wire.WINDOW + 64 * 1024
        await _turns()
        assert not answers.frames
        one.say(GRANT, b"%d" % size)
        while (frame := await answers.next())[0] == ITEM:
            got += len(frame[1])
        assert (frame[0], got) == (END, size)


async def _turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_what_nobody_wants_any_more_is_given_up() -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")

    async with web(answer) as server, worker(server.host) as one:
        answers = one.ask("fetch", {"url": server.url})
        assert (await answers.next())[0] == REPLY
        one.say(CANCEL)
        async with asyncio.timeout(60):
            await server.closed.wait()


async def test_a_worker_that_dies_gives_up_what_it_asked_for() -> None:
    async with web(said(b"x" * 10_000_000)) as server, worker(server.host) as one:
        assert (await one.ask("fetch", {"url": server.url}).next())[0] == REPLY
        one.line.abort()
        async with asyncio.timeout(60):
            await server.closed.wait()


async def test_a_body_that_breaks_off_is_an_error_after_the_beginning() -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        writer.close()

    async with web(answer) as server, worker(server.host) as one:
        answers = one.ask("fetch", {"url": server.url})
        assert [(await answers.next())[0] for _ in range(2)] == [REPLY, ITEM]
        assert (await answers.error()).code == 502


async def test_a_fetch_that_is_refused_is_told_and_in_the_log() -> None:
    async with worker() as one:
        error = await one.ask("fetch", {"url": "http://127.0.0.1:1/"}).error()
        assert (error.code, error.id) == (403, "functions.fetch")
        assert "--allow-host 127.0.0.1:1" in error.detail
        (line,) = one.told
        assert line.startswith("shop warn fetch GET http://127.0.0.1:1/: 127.0.0.1 is no public")


async def test_a_binding_is_used_with_the_trace_and_the_deadline() -> None:
    async with worker() as one:
        use = {"binding": "store", "verb": "get", "arguments": ["a"], "trace": "t" * 32}
        status, _, body = await one.ask("call", use).whole()
        trace, left = json.loads(body)
        assert (status, trace) == (200, "t" * 32)
        assert 29 < left <= 30
        assert one.used[0].arguments == ["a"]


async def test_a_binding_that_fails() -> None:
    async with worker() as one:
        error = await one.ask("call", {"binding": "x", "verb": "bad"}).error()
        assert (error.code, error.detail) == (403, "no")
        error = await one.ask("call", {"binding": "x", "verb": "broken"}).error()
        assert (error.code, error.detail) == (500, "RuntimeError")


async def test_too_much_for_one_use() -> None:
    async with worker() as one:
        use = {"binding": "store", "verb": "set", "arguments": ["x" * MAX_ARGUMENTS]}
        assert (await one.ask("call", use).error()).code == 413
        assert not one.used


async def test_notes_are_taken() -> None:
    async with worker() as one:
        status, _, body = await one.ask("notes", {"sequence": 1}, slot=0).whole()
        assert (status, body) == (200, b"null")
        assert one.noted == [("w1", wire.Notes(sequence=1))]


async def test_what_a_slot_asks_that_nothing_is_in() -> None:
    async with worker() as one:
        fetch = await one.ask("fetch", {"url": "http://x/"}, slot=99).error()
        call = await one.ask("call", {"binding": "store", "verb": "get"}, slot=99).error()
        assert (fetch.code, call.code) == (404, 404)


@pytest.mark.parametrize(
    ("word", "body", "kind"),
    [
        ("fetch", b"{", REQUEST),
        ("fetch", b"\xff", REQUEST),
        ("fetch", {"url": 5}, REQUEST),
        ("fetch", {"url": "http://x/", "method": "POST", "body": "no base64!"}, REQUEST),
        ("call", [], REQUEST),
        ("call", {"binding": "store", "verb": "get"}, OPEN),
        ("notes", {"sequence": "x"}, REQUEST),
        ("format", None, REQUEST),
        ("", None, REQUEST),
    ],
)
async def test_what_cannot_be_asked(word: str, body: Any, kind: int) -> None:
    async with worker() as one:
        assert (await one.ask(word, body, kind).error()).code == 400


async def test_frames_that_are_none() -> None:
    async with worker() as one:
        assert (await one.begin(b"\x00").error()).code == 400
        assert (await one.begin(b"\x00\x00\x00\x00\xff\xff\xff\x00x").error()).code == 400
        one.line.send(ITEM, wire.ASKED + 77, b"of nothing")
        one.line.send(CANCEL, wire.ASKED + 78, b"")
        assert (await one.ask("notes", {"sequence": 1}, slot=0).whole())[0] == 200


async def test_a_worker_asks_for_no_more_than_so_much_at_once() -> None:
    async with worker() as one:
        for _ in range(AT_ONCE):
            one.ask("call", {"binding": "x", "verb": "slow"})
        error = await one.ask("call", {"binding": "x", "verb": "slow"}).error()
        assert (error.code, error.id) == (429, "functions.limit.fetches")
        one.hold.set()


async def test_what_a_worker_says_that_it_may_is_not_heard() -> None:
    async with web(said(b"inner")) as inner, worker("example.org") as one:
        forged = {
            "hosts": [inner.host],
            "policy": {"hosts": [inner.host]},
            "owner": "somebody",
            "placeholders": {KEY: "KEY"},
            "secret_uses": {"KEY": [[inner.host, "x-key"]]},
        }
        asked = {"url": inner.url, "headers": [["x-key", KEY]], **forged}
        for slot in (SLOT, SLOT + 1):
            error = await one.ask("fetch", asked, slot=slot).error()
            assert error.code == (403 if slot == SLOT else 404)
        # Nor a head that is the policy's form in the place of the word.
        head = json.dumps({"namespace": "micro", "name": "shop", "hosts": [inner.host]}).encode()
        error = await one.begin(wire.pack_request(SLOT, head, json.dumps(asked).encode())).error()
        assert error.code == 400
        assert not inner.connections


async def test_a_secret_of_another_function_is_not_filled_in() -> None:
    async with web(said(b"ok")) as server, worker(server.host) as one:
        asked = {"url": server.url, "headers": [["authorization", KEY]]}
        await one.ask("fetch", asked).whole()
        assert server.seen[0].headers["authorization"] == KEY


async def test_parts_that_come_before_the_egress_is_reached_are_not_lost() -> None:
    async with web(said(b"ok")) as server, worker(server.host) as one:
        answers = one.ask("fetch", {"url": server.url, "method": "PUT", "streamed": True}, OPEN)
        for part in (b"one", b"two"):
            one.say(ITEM, part)
        one.say(END)
        assert (await answers.whole())[0] == 200
        assert server.seen[0].body == b"onetwo"
