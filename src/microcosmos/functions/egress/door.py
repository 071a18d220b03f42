"""The door: sub-requests as the host passes them on, each with what its function may.

The frames are those of a line to a worker (`functions.wire`). A REQUEST or OPEN has the function's
`policy.Policy` as its head, and as its body the `wire.Fetch` as the worker has sent it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial

from microcosmos.base import codec, errors
from microcosmos.functions import wire
from microcosmos.functions.bodies import Inflow, Outflow
from microcosmos.rpc.frames import CANCEL, END, ERROR, GRANT, ITEM, OPEN, REPLY, REQUEST
from microcosmos.rpc.line import Line

from .decisions import Decision, Decisions
from .fetch import Fetcher, Leave, Trail
from .filling import Filling, Values
from .hosts import allowed
from .outgoing import Outgoing
from .policy import Policy, unpack

HELD = 64 * 1024 * 1024
"""Bytes of bodies that come whole, of all sub-requests of one owner under way."""

_ID = "functions.fetch"

log = logging.getLogger("microcosmos.egress")


class Door:
    """Takes sub-requests.

    Args:
        fetcher: does them; who makes the door enters it.
        values: knows secrets.
        decisions: where they are written down.
    """

    def __init__(self, fetcher: Fetcher, values: Values, decisions: Decisions) -> None:
        self.fetcher = fetcher
        self._values = values
        self._decisions = decisions
        self._held: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def serve(self, listener: socket.socket) -> AsyncIterator[None]:
        """Take what comes on a socket until the block ends."""
        lines: set[_Taken] = set()

        def accept() -> Line:
            taken = _Taken(self, lines)
            lines.add(taken)
            return taken.line

        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(accept, sock=listener)
        telling = loop.create_task(self._tell(), name="decisions")
        try:
            yield
        finally:
            server.close()
            for taken in [*lines]:
                taken.line.abort()
            telling.cancel()
            # The lines are told in the loop's next turn.
            await asyncio.gather(*(taken.ended.wait() for taken in [*lines]))

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._decisions.flush()

    async def answer(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """Do a sub-request, whatever comes of it."""
        try:
            policy = unpack(head)
        except codec.DECODE_ERRORS:
            raise errors.BadRequest(_ID, "there is no policy with it") from None
        trail, began = Trail(), time.monotonic()
        fetch = wire.Fetch(url="")
        try:
            with self._holding(policy.whose, len(body)):
                fetch = codec.decode(body, wire.Fetch, id=_ID)
                del body
                await self._fetch(exchange, policy, fetch, trail)
        except errors.Error as error:
            verdict = "refused" if error.code < 500 else "failed"
            self._note(verdict, policy, fetch, trail, exchange, began, error)
            raise
        except asyncio.CancelledError:
            gone = errors.ClientClosed(_ID, "nobody wanted it any more")
            self._note("allowed", policy, fetch, trail, exchange, began, gone)
            raise
        self._note("allowed", policy, fetch, trail, exchange, began)

    async def _fetch(
        self, exchange: Exchange, policy: Policy, fetch: wire.Fetch, trail: Trail
    ) -> None:
        content: bytes | AsyncIterator[bytes] = _whole(fetch.body)
        if fetch.streamed and exchange.inflow is not None:
            content = exchange.inflow
        request = Outgoing(fetch.url, fetch.method, fetch.headers, content, fetch.redirect)
        hosts = allowed(tuple(policy.hosts))
        leave = Leave(hosts, policy.whose, Filling(policy, self._values))
        async with self.fetcher.fetch(request, leave, trail) as answer:
            exchange.status = answer.status
            head = wire.encode(answer.headers)
            exchange.say(REPLY, wire.pack_reply(answer.status, wire.GIVEN | wire.STREAMED, head))
            async for part in answer.body:
                await exchange.outflow.send(part)
                exchange.size += len(part)
            exchange.outflow.end()

    @contextlib.contextmanager
    def _holding(self, whose: str, size: int) -> Iterator[None]:
        """Count the bytes of a body, which one owner may not fill the memory of all with."""
        held = self._held.get(whose, 0) + size
        if held > HELD:
            detail = f"the bodies of sub-requests under way have over {HELD} bytes; stream them"
            raise errors.TooManyRequests("functions.limit.fetches", detail)
        self._held[whose] = held
        try:
            yield
        finally:
            self._held[whose] -= size
            if not self._held[whose]:
                del self._held[whose]

    def _note(
        self,
        verdict: str,
        policy: Policy,
        fetch: wire.Fetch,
        trail: Trail,
        exchange: Exchange,
        began: float,
        error: errors.Error | None = None,
    ) -> None:
        self._decisions.note(
            Decision(
                verdict=verdict,
                namespace=policy.namespace,
                name=policy.name,
                version=policy.number,
                method=fetch.method,
                origin=trail.origin,
                address=trail.address,
                port=trail.port,
                redirects=trail.redirects,
                status=exchange.status or (error.code if error else 0),
                size=exchange.size,
                seconds=time.monotonic() - began,
                why=error.detail if error else "",
            )
        )


class Exchange:
    """One sub-request that is under way.

    Attributes:
        say: sends to who asked.
        inflow: the body that goes along, if it is streamed.
        outflow: the body of the answer.
        status: of the answer; 0 while it has not begun.
        size: bytes of its body so far.
    """

    def __init__(self, say: Callable[[int, bytes], None], *, streams: bool) -> None:
        self.say = say
        self.inflow = Inflow(say, lambda: None) if streams else None
        self.outflow = Outflow(say)
        self.status = 0
        self.size = 0
        self._task: asyncio.Task[None] | None = None

    def run(self, work: Coroutine[None, None, None], over: Callable[[], object]) -> None:
        """Do it; calls back when it is over."""
        self._task = asyncio.create_task(work, name="fetch")
        self._task.add_done_callback(lambda _: over())

    def stop(self) -> None:
        """Nobody wants the answer."""
        self.outflow.close()
        if self._task is not None:
            self._task.cancel()

    def received(self, kind: int, payload: bytes) -> None:
        """Take in a frame that belongs to it."""
        if kind == CANCEL:
            self.stop()
        elif kind == GRANT:
            self.outflow.grant(payload)
        elif self.inflow is not None and kind == ITEM:
            if not self.inflow.take(payload):
                self.say(
                    ERROR, errors.BadRequest(_ID, "more was sent than was asked for").to_wire()
                )
                self.stop()
        elif self.inflow is not None and kind == END:
            self.inflow.end()


class _Taken:
    """A line that was taken, and what is under way on it.

    Attributes:
        line: it.
        ended: it is lost, and nothing is under way any more.

    Args:
        door: does what is asked on it.
        lines: is left then.
    """

    def __init__(self, door: Door, lines: set[_Taken]) -> None:
        self.line = Line(self._received, self._lost)
        self.ended = asyncio.Event()
        self._door = door
        self._lines = lines
        self._exchanges: dict[int, Exchange] = {}

    def _received(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        if kind in (REQUEST, OPEN):
            self._begin(line, kind, stream, payload)
        elif exchange := self._exchanges.get(stream):
            if kind == CANCEL:
                line.forget(stream)
                line.drop(stream)
            exchange.received(kind, payload)

    def _lost(self, line: Line) -> None:
        """Nobody waits for answers any more."""
        for exchange in [*self._exchanges.values()]:
            exchange.stop()
        self._left()

    def _over(self, stream: int) -> None:
        self._exchanges.pop(stream, None)
        self._left()

    def _left(self) -> None:
        if not self.line.open and not self._exchanges:
            self._lines.discard(self)
            self.ended.set()

    def _begin(self, line: Line, kind: int, stream: int, payload: bytes) -> None:
        try:
            _, head, body = wire.unpack_request(payload)
        except ValueError as exc:
            line.send(ERROR, stream, errors.BadRequest(_ID, str(exc)).to_wire())
            return
        del payload
        exchange = Exchange(partial(_say, line, stream), streams=kind == OPEN)
        self._exchanges[stream] = exchange
        exchange.run(self._answer(exchange, head, body), partial(self._over, stream))

    async def _answer(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        try:
            await self._door.answer(exchange, head, body)
        except errors.Error as error:
            exchange.say(ERROR, error.to_wire())
        except Exception as exc:
            # What it was is nothing for functions: they are somebody else's.
            log.exception("a sub-request failed")
            failure = errors.InternalServerError(_ID, type(exc).__name__)
            exchange.say(ERROR, failure.to_wire())


def _say(line: Line, stream: int, kind: int, payload: bytes) -> None:
    line.send(kind, stream, payload)


def _whole(text: str) -> bytes:
    """A body that came in base64.

    Raises:
        errors.BadRequest: it is none.
    """
    try:
        return base64.b64decode(text, validate=True) if text else b""
    except (binascii.Error, ValueError):
        raise errors.BadRequest(_ID, "the body is no base64") from None
