"""A worker without an engine, for tests: it does what the head of a request says.

Run by hand with the path of its socket, or forked with a listener.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import msgspec
import uvloop

from microcosmos.functions import page, wire
from microcosmos.functions.bodies import Inflow, Outflow
from microcosmos.rpc.frames import (
    BEAT,
    CANCEL,
    END,
    ERROR,
    GOAWAY,
    GRANT,
    ITEM,
    OPEN,
    REPLY,
    REQUEST,
)
from microcosmos.rpc.line import Line


class Peer:
    """All lines, and what is loaded."""

    def __init__(self) -> None:
        self.loaded: dict[int, wire.Loaded] = {}
        self.lines: set[Line] = set()
        self.host: Line | None = None
        self.notes = 0
        self.cancelled: list[int] = []
        self.done = asyncio.Event()
        self.leaving = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.inflows: dict[tuple[Line, int], Inflow] = {}
        self.outflows: dict[tuple[Line, int], Outflow] = {}
        self.page = page.mine()

    def accept(self) -> Line:
        line = Line(self.take, self.lost)
        self.lines.add(line)
        return line

    def lost(self, line: Line) -> None:
        self.lines.discard(line)
        if self.leaving and not self.lines:
            self.done.set()

    def leave(self) -> None:
        self.leaving = True
        for line in self.lines:
            line.send(GOAWAY, 0, b"")
        if not self.lines:
            self.done.set()

    def take(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        if kind in (REQUEST, OPEN):
            self.request(line, kind, stream, *wire.unpack_request(payload))
        elif kind == BEAT:
            line.send(BEAT, stream, payload)
        elif kind == GOAWAY:
            self.leave()
        elif kind == CANCEL:
            self.cancelled.append(stream)
            if outflow := self.outflows.get((line, stream)):
                outflow.close()
        elif kind == GRANT and (outflow := self.outflows.get((line, stream))):
            outflow.grant(payload)
        elif inflow := self.inflows.get((line, stream)):
            if kind == ITEM:
                inflow.take(payload)
            elif kind == END:
                inflow.end()

    def request(
        self, line: Line, kind: int, stream: int, slot: int, head: bytes, body: bytes
    ) -> None:
        verb, _, rest = head.decode().partition("\n")[0].partition(" ")

        def say(kind: int, payload: bytes) -> None:
            line.send(kind, stream, payload)

        if slot == 0:
            answer = self.verb(line, verb, body)
            if answer is not None:
                say(*answer)
        elif slot not in self.loaded:
            say(ERROR, b'{"id":"functions.unloaded","code":503,"detail":"","status":""}')
        elif kind == OPEN:
            inflow = Inflow(say, lambda: None)
            self.inflows[line, stream] = inflow
            self.begin(self.read(inflow, say, rest))
        else:
            self.page.mark[0] = slot
            getattr(self, f"do_{verb}")(line, stream, say, rest, body)
            self.page.mark[0] = 0

    def begin(self, work) -> None:  # type: ignore[no-untyped-def]
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def verb(self, line: Line, verb: str, body: bytes) -> tuple[int, bytes] | None:
        answer: object = None
        if verb == wire.HOST:
            self.host = line
            answer = list(self.loaded.values())
        elif verb == wire.LOAD:
            unit = wire.decode_unit(body)
            self.page.loading(unit.key)
            if unit.code == "broken":
                return ERROR, b'{"id":"functions.load","code":500,"detail":"broken"}'
            if unit.code == "deadly":
                os._exit(3)
            if unit.code.startswith("burn"):
                burn(float(unit.code.partition(" ")[2]))
            self.page.mark[0] = 0
            answer = next((one for one in self.loaded.values() if one.key == unit.key), None)
            if answer is None:
                slot = max(self.loaded, default=0) + 1
                answer = self.loaded[slot] = wire.Loaded(
                    key=unit.key,
                    slot=slot,
                    heap=1000,
                    namespace=unit.namespace,
                    name=unit.name,
                    number=unit.number,
                )
        elif verb == wire.DROP:
            self.loaded.pop(msgspec.json.decode(body, type=wire.Slot).slot, None)
        elif verb == wire.CHECK:
            answer = wire.Checked(form="handler")
        elif verb == wire.EVENT:
            event = msgspec.json.decode(body, type=wire.Event)
            if event.slot not in self.loaded:
                return ERROR, b'{"id":"functions.unloaded","code":503}'
        return REPLY, wire.pack_reply(200, wire.JSON, b"", wire.encode(answer))

    # What requests are for.

    def do_echo(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        say(REPLY, wire.pack_reply(200, wire.TEXT, b"", body))

    def do_pid(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        say(REPLY, wire.pack_reply(200, wire.TEXT, b"", b"%d" % os.getpid()))

    def do_fail(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        say(ERROR, b'{"id":"functions.exception","code":500,"detail":"its log says why"}')

    def do_wait(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        answer = wire.pack_reply(200, wire.TEXT, b"", body)
        asyncio.get_running_loop().call_later(float(rest), say, REPLY, answer)

    def do_never(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        pass

    def do_cancelled(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        say(REPLY, wire.pack_reply(200, wire.JSON, b"", wire.encode(self.cancelled)))

    def do_die(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        os.kill(os.getpid(), signal.SIGKILL)

    def do_exit(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        os._exit(int(rest))

    def do_die_once(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        try:
            os.close(os.open(rest, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return self.do_echo(line, stream, say, rest, body)
        return self.do_die(line, stream, say, rest, body)

    def do_burn(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        burn(float(rest))
        say(REPLY, wire.pack_reply(200, wire.TEXT, b"", body))

    def do_block(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        time.sleep(float(rest))
        say(REPLY, wire.pack_reply(200, wire.TEXT, b"", body))

    def do_junk(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        say(REPLY, b"abc")

    def do_garble(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        line._transport.write(b"\xff" * 64)

    def do_goodbye(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        self.leave()
        asyncio.get_running_loop().call_later(0.05, self.do_echo, line, stream, say, rest, body)

    def do_stream(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        self.begin(self.write(line, stream, say, int(rest)))

    async def write(self, line, stream, say, size: int) -> None:  # type: ignore[no-untyped-def]
        outflow = self.outflows[line, stream] = Outflow(say)
        say(REPLY, wire.pack_reply(200, wire.TEXT | wire.STREAMED, b"", b""))
        part = b"x" * 16384
        while size > 0:
            await outflow.send(part[:size])
            size -= len(part)
        outflow.end()

    def do_torn(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        say(REPLY, wire.pack_reply(200, wire.TEXT | wire.STREAMED, b"", b""))
        say(ITEM, b"begun")
        say(ERROR, b'{"id":"functions.exception","code":500,"detail":"torn"}')

    def do_torn_by_death(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        say(REPLY, wire.pack_reply(200, wire.TEXT | wire.STREAMED, b"", b""))
        say(ITEM, b"begun")
        asyncio.get_running_loop().call_later(0.02, os._exit, 1)

    def do_flood(self, line, stream, say, rest, body) -> None:  # type: ignore[no-untyped-def]
        say(REPLY, wire.pack_reply(200, wire.TEXT | wire.STREAMED, b"", b""))
        for _ in range(320):
            say(ITEM, b"x" * 65536)
        say(END, b"")

    async def read(self, inflow: Inflow, say: Callable[[int, bytes], None], rest: str) -> None:
        if rest == "early":
            return say(REPLY, wire.pack_reply(413, wire.TEXT, b"", b"enough"))
        size = 0
        async for part in inflow:
            size += len(part)
            if rest == "slow":
                await asyncio.sleep(0)
        return say(REPLY, wire.pack_reply(200, wire.TEXT, b"", b"%d" % size))


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


async def serve(listener: socket.socket) -> None:
    peer = Peer()
    server = await asyncio.get_running_loop().create_unix_server(peer.accept, sock=listener)
    async with server:
        await peer.done.wait()


def run(listener: socket.socket) -> None:
    uvloop.run(serve(listener))


def telling(listener: socket.socket) -> None:
    """As a worker that says whom it runs."""
    page.mine().tell()
    run(listener)


if __name__ == "__main__":
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(sys.argv[1])
    listener.listen(128)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    run(listener)
