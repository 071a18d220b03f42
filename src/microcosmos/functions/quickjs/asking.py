"""What a function has asked for and waits for: timers, sub-requests, bindings, bodies."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits
from microcosmos.rpc import frames

from . import crossing, failures
from .host import Host
from .incoming import Incoming
from .limits import FETCHED, OPERATIONS
from .run import Run

_SAFE = ("GET", "HEAD", "OPTIONS")
_READS = ("get", "list")

Settle = Callable[..., None]
"""Tells the function: its run, the number of what it asked for, whether that went well, what."""


class Asking:
    """What one function waits for.

    Args:
        slot: of the function.
        limits: of the function.
        host: does what functions may not do themselves.
        settle: tells the function what has come.
        over: is told of a run that something has come for, or will not.
    """

    def __init__(
        self, slot: int, limits: Limits, host: Host, settle: Settle, over: Callable[[Run], None]
    ) -> None:
        self._slot = slot
        self._limits = limits
        self._host = host
        self._settle = settle
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, tuple[Run, Callable[[], None]]] = {}
        self._bodies: dict[int, Incoming] = {}
        self._under: dict[int, Run] = {}

    def __bool__(self) -> bool:
        """Whether anything is to come."""
        return bool(self._open)

    def cancel(self) -> None:
        """Let go of everything."""
        opened, self._open = self._open, {}
        self._under.clear()
        bodies, self._bodies = self._bodies, {}
        for _, stop in opened.values():
            stop()
        for body in bodies.values():
            body.discard()

    def timer(self, run: Run, number: int, milliseconds: float) -> None:
        """Tell when so much time has passed."""
        handle = self._loop.call_later(milliseconds / 1000, self._done, number, True)
        self._begin(run, number, handle.cancel)

    def forget(self, number: int) -> None:
        """The function does not wait for this any more."""
        known = self._open.pop(number, None)
        if known is not None:
            known[1]()
            self._closed(known[0])

    def use(self, run: Run, number: int, binding: str, verb: str, arguments: list[Any]) -> None:
        """Use a binding."""
        if self._counts(run, number):
            use = wire.Use(binding=binding, verb=verb, arguments=arguments, trace=run.trace)
            again = binding != "call" and verb in _READS
            self._ask(run, number, wire.CALL, wire.encode(use), self._used, again)

    def fetch(
        self,
        run: Run,
        number: int,
        url: str,
        method: str,
        headers: list[tuple[str, str]],
        body: str | None,
        is_base64: bool,
        redirect: str,
    ) -> None:
        """Make a sub-request."""
        if not self._counts(run, number):
            return
        whole = body or ""
        fetch = wire.Fetch(
            url=url,
            method=method,
            headers=headers,
            body=whole if is_base64 else base64.b64encode(whole.encode()).decode(),
            redirect=redirect,
            trace=run.trace,
        )
        again = method in _SAFE
        self._ask(run, number, wire.FETCH, wire.encode(fetch), self._fetched, again)

    # Bodies that come.

    def expect(self, run: Run, number: int, grant: Callable[[int], None]) -> Incoming:
        """A body that comes with a request."""
        large = partial(failures.body, self._limits)
        return self._body(run, number, Incoming(self._limits.request, grant, _nothing, large))

    def body(self, number: int) -> Incoming | None:
        """A body that is coming."""
        return self._bodies.get(number)

    def piece(self, run: Run, number: int, body: int) -> None:
        """Tell the next piece of a body."""
        if incoming := self._reading(run, number, body):
            incoming.piece(lambda part: self._piece(number, part))

    def whole(self, run: Run, number: int, body: int) -> None:
        """Tell all of a body."""
        if incoming := self._reading(run, number, body):
            incoming.whole(lambda part: self._whole(number, body, part))

    def discard(self, number: int) -> None:
        """Nobody reads a body any more."""
        if incoming := self._bodies.pop(number, None):
            incoming.discard()

    def _body(self, run: Run, number: int, incoming: Incoming) -> Incoming:
        self._bodies[number] = incoming
        run.bodies.append(number)
        return incoming

    def _reading(self, run: Run, number: int, body: int) -> Incoming | None:
        incoming = self._bodies.get(body)
        # Even what is there already is told later: the function is being run just now.
        self._begin(run, number, _nothing)
        if incoming is None:
            gone = errors.ClientClosed("functions.body", "the body is not there any more")
            self._loop.call_soon(self._done, number, False, *_told(gone))
        return incoming

    def _piece(self, number: int, part: bytes | errors.Error | None) -> None:
        if isinstance(part, errors.Error):
            self._loop.call_soon(self._done, number, False, *_told(part))
        else:
            said = None if part is None else base64.b64encode(part).decode()
            self._loop.call_soon(self._done, number, True, said)

    def _whole(self, number: int, body: int, part: bytes | errors.Error | None) -> None:
        self._bodies.pop(body, None)
        if isinstance(part, errors.Error):
            self._loop.call_soon(self._done, number, False, *_told(part))
        else:
            self._loop.call_soon(self._done, number, True, *crossing.crossing(part or b""))

    # What the host is asked.

    def _counts(self, run: Run, number: int) -> bool:
        """Count what is asked for; False if it is too much."""
        run.fetches += 1
        if run.fetches <= self._limits.fetches:
            return True
        self._begin(run, number, _nothing)
        error = failures.limit("fetches", self._limits)
        self._loop.call_soon(self._done, number, False, *_told(error))
        return False

    def _ask(
        self,
        run: Run,
        number: int,
        word: str,
        body: bytes,
        answer: Callable[[int, int, int, bytes], None],
        again: bool,
    ) -> None:
        """Ask the host, when few enough of a request's questions are under way."""
        asked = 0

        def received(kind: int, payload: bytes) -> None:
            if kind in (frames.REPLY, frames.ERROR):
                self._answered(number)
            answer(number, asked, kind, payload)

        def stop() -> None:
            if asked:
                self._host.cancel(asked)
                self._answered(number)

        def begin() -> None:
            nonlocal asked
            run.under += 1
            self._under[number] = run
            asked = self._host.ask(self._slot, word, body, received, again=again)

        self._begin(run, number, stop)
        if run.under < self._limits.at_once:
            begin()
            return
        if run.queue is None:
            run.queue = deque()
        run.queue.append(lambda: begin() if number in self._open else None)

    def _answered(self, number: int) -> None:
        """One less is under way; the next may begin."""
        run = self._under.pop(number, None)
        if run is None:
            return
        run.under -= 1
        while run.queue and run.under < self._limits.at_once:
            run.queue.popleft()()

    def _used(self, number: int, asked: int, kind: int, payload: bytes) -> None:
        self._host.forget(asked)
        if kind == frames.ERROR:
            self._done(number, False, *_told(errors.from_wire(payload)))
            return
        text, form = crossing.crossing(wire.unpack_reply(payload)[3] or b"null")
        if form != crossing.TEXT:
            self._done(number, False, *_told(errors.BadGateway("functions", "no JSON came")))
        else:
            self._done(number, True, text)

    def _fetched(self, number: int, asked: int, kind: int, payload: bytes) -> None:
        incoming = self._bodies.get(number)
        match kind:
            case frames.REPLY:
                self._replied(number, asked, payload)
            case frames.ERROR:
                self._host.forget(asked)
                if incoming is not None:
                    incoming.end(errors.from_wire(payload))
                self._done(number, False, *_told(errors.from_wire(payload)))
            case frames.ITEM if incoming is not None:
                incoming.take(payload)
            case frames.END:
                self._host.forget(asked)
                if incoming is not None:
                    incoming.end()

    def _replied(self, number: int, asked: int, payload: bytes) -> None:
        status, kind, head, body = wire.unpack_reply(payload)
        known = self._open.get(number)
        if known is None:
            self._host.cancel(asked)
            return
        headers = head.decode("utf-8", "replace") or "[]"
        if not kind & wire.STREAMED:
            self._host.forget(asked)
            said = crossing.crossing(body) if body else (None, 0)
            self._done(number, True, status, headers, *said)
            return
        incoming = Incoming(
            FETCHED,
            lambda size: self._host.say(frames.GRANT, asked, b"%d" % size),
            partial(self._host.cancel, asked),
            _too_long,
        )
        self._body(known[0], number, incoming).take(body)
        self._done(number, True, status, headers, None, 0, number)

    # What is to come, and has come.

    def _begin(self, run: Run, number: int, stop: Callable[[], None]) -> None:
        if len(self._open) >= OPERATIONS:
            # The function keeps to it by itself, unless it has broken its own surroundings.
            stop()
            raise ValueError("too many operations")
        self._open[number] = run, stop
        run.open += 1

    def _done(self, number: int, *said: Any) -> None:
        known = self._open.pop(number, None)
        if known is None:
            return
        run = known[0]
        run.open -= 1
        self._settle(run, number, *said)
        self._over(run)

    def _closed(self, run: Run) -> None:
        run.open -= 1
        self._over(run)


def _told(error: errors.Error) -> tuple[str, int, str, str]:
    """An error as `settle` wants it."""
    return error.id, error.code, error.detail, error.status


def _too_long() -> errors.Error:
    return errors.TooLarge(
        "functions.fetch", f"a body of more than {FETCHED} bytes; read it in pieces"
    )


def _nothing() -> None:
    """There is nothing to stop."""
