"""Requests to the functions of one namespace."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from microcosmos.auth.access import Access
from microcosmos.base import context, errors
from microcosmos.functions.calling import Caller, Posted
from microcosmos.functions.counting import Failed, unheard
from microcosmos.functions.following import Known
from microcosmos.functions.interface import Live
from microcosmos.functions.lines import Lost, Streamed, Unloaded
from microcosmos.functions.routing import Family, Found, Routing, Target
from microcosmos.functions.spending import refuse
from microcosmos.gateway import answer
from microcosmos.gateway.handing import TRACE, Begin, Note
from microcosmos.gateway.patience import Patience
from microcosmos.gateway.receive import discard
from microcosmos.gateway.streams.room import Room
from microcosmos.rpc.client import is_token

from . import answers, bodies
from .heads import Heads

log = logging.getLogger("microcosmos.gateway")

GRACE = 1.0
"""Seconds beyond its own limit that a function's answer is waited for: its worker should end it."""

WALL = "functions.limit.wall"
"""The id of the error of a request that took too long."""

_BODILESS = frozenset({"GET", "HEAD"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TRACE = re.compile(r"[0-9a-f]{32}")


class Functions(NamedTuple):
    """What a gateway's process has of functions, for all namespaces.

    Attributes:
        known: which there are.
        caller: reaches them.
        failed: is told of requests that were answered by an error.
    """

    known: Known
    caller: Caller
    failed: Failed = unheard


class Behind(NamedTuple):
    """What a door has from its gateway.

    Attributes:
        access: who may call; None lets everybody.
        namespace: whose functions.
        patience: cancels requests whose clients have gone.
        room: how much the client of a request takes.
        body_timeout: seconds that a client may take to send a body, or a part of a long one.
        timeout: reads a Micro-Timeout.
    """

    access: Access | None
    namespace: str
    patience: Patience
    room: Callable[[Any], Room]
    body_timeout: float
    timeout: Callable[[str], float]


class Door:
    """Answers what functions answer.

    A request without a body whose function's worker is known is sent to it at once, and answered
    when it answers, without a coroutine; all others have one.

    Attributes:
        family: gives the family that a path is in, if there are functions in it.

    Args:
        functions: which there are, and how they are reached.
        behind: what the gateway lends.
        changed: is told whenever there may be some where there were none, or the other way round.
    """

    def __init__(self, functions: Functions, behind: Behind, changed: Callable[[], None]) -> None:
        self._caller = functions.caller
        self._post = functions.caller.post
        self._failed = functions.failed
        self._behind = behind
        self._patience = behind.patience
        self._admit = behind.access.admit if behind.access is not None else None
        # What everybody may call, until somebody says otherwise.
        self._open: set[Target] = set()
        if behind.access is not None:
            behind.access.on_change(lambda _: self._open.clear())
        self._tell = changed
        self._routing = Routing()
        self._heads = Heads()
        self._slowness = bodies.Slowness(behind.body_timeout)
        self._prefix = f"{random.getrandbits(64):016x}"
        self._count = itertools.count(random.getrandbits(32))
        self._tasks: set[asyncio.Task[None]] = set()
        self.family = self._routing.family
        functions.known.listen(self._changed)

    def __bool__(self) -> bool:
        """Whether there are functions."""
        return bool(self._routing)

    def owns(self, path: str) -> bool:
        """Whether a path is a function's, if only to be refused."""
        try:
            return self._routing.find(path) is not None
        except errors.Error:
            return True

    def _changed(self, namespace: str, name: str, live: Live | None) -> None:
        if namespace != self._behind.namespace:
            return
        self._open.clear()
        if live is None:
            self._routing.drop(name)
        else:
            self._routing.put(live)
        self._tell()

    def begin(
        self, family: Family, scope: Any, proto: Any, note: Note | None, otherwise: Begin
    ) -> Awaitable[None] | None:
        """Begin a request whose path is in a family.

        Args:
            family: of the path.
            scope: the request.
            proto: its exchange.
            note: what travels beside it.
            otherwise: begins those that none of the family's functions owns.
        """
        asked = _Asked(self, scope, proto, note)
        try:
            if not self._prepare(asked, family):
                return otherwise(scope, proto, note)
            if asked.length == 0:
                posted = self._post(asked.found.target.where, asked.head, timeout=asked.timeout)
                if posted is not None:
                    asked.posted = posted
                    posted.future.add_done_callback(asked.told)
                    self._patience.begin_with(proto, asked.give_up)
                    return None
        except errors.Error as error:
            return self._refuse(asked, error)
        return self._answer(asked)

    async def answer(self, family: Family, scope: Any, proto: Any, note: Note | None) -> bool:
        """Answer a request whose path is in a family; False if none of its functions owns it."""
        asked = _Asked(self, scope, proto, note)
        try:
            if not self._prepare(asked, family):
                return False
        except errors.Error as error:
            await self._refuse(asked, error)
            return True
        await self._answer(asked)
        return True

    def _prepare(self, asked: _Asked, family: Family) -> bool:
        """Find who answers a request, whether it may be made, and what is told of it.

        Raises:
            errors.Error: it is refused.
        """
        scope, request, pairs = asked.scope, asked.request, asked.pairs
        if (found := family.find(asked.path)) is None:
            return False
        asked.found = found
        target = found.target
        shown = request.get("authorization")
        if target not in self._open or (shown is not None and is_token(shown)):
            self._let_in(target, shown)
        if target.spent is not None:
            refuse(target.spent)
        told = request.get(TRACE)
        if asked.note is not None and asked.note.trace:
            asked.trace = asked.note.trace
        elif told is not None and _TRACE.fullmatch(told):
            asked.trace = told
        else:
            asked.trace = f"{self._prefix}{next(self._count):016x}"
        if told != asked.trace:
            if told is not None:
                pairs = [pair for pair in pairs if pair[0] != TRACE]
            pairs.append((TRACE, asked.trace))
        asked.head = self._heads.make(found, scope, asked.method, asked.path, pairs, request)
        asked.timeout = target.share.wall + GRACE
        if "micro-timeout" in request:
            asked.timeout = min(asked.timeout, self._behind.timeout(request["micro-timeout"]))
        asked.length = bodies.length_of(scope, asked.method, request)
        return True

    def _let_in(self, target: Target, shown: str | None) -> None:
        """Refuse who may not call a function.

        Raises:
            errors.Error: it is so.
        """
        if self._admit is None:
            return
        if shown is not None and not is_token(shown):
            # A password for the function itself.
            shown = None
        self._admit(shown, target.namespace, target.name, target.endpoint)
        if shown is None:
            self._open.add(target)

    async def _answer(self, asked: _Asked, *, again: bool = True) -> None:
        """Answer a request that may be made.

        Args:
            asked: the request.
            again: whether it may be run once more if a worker is lost, given that this is safe.
        """
        proto = asked.proto
        try:
            if asked.length < 0:
                await self._exchange(asked)
                return
            body = await self._slowness.read(proto) if asked.length else b""
            self._patience.begin(proto)
            try:
                safe = again and asked.method in _SAFE
                where = asked.found.target.where
                payload = await self._caller.run(
                    where, asked.head, body, timeout=asked.timeout, safe=safe
                )
                await self._send(asked, payload)
            finally:
                self._patience.end(proto)
        except errors.Error as error:
            await self._refuse(asked, error)
        except asyncio.CancelledError:
            # The client has gone, or the time to drain is over; this task ends here either way.
            self._fail(asked, _stopping())
        except Exception:
            log.exception("%s %s failed", asked.method, asked.path)
            self._fail(asked, _failed())

    async def _exchange(self, asked: _Asked) -> None:
        """Answer a request whose body goes on as it comes, while its answer may come already."""
        proto, where = asked.proto, asked.found.target.where
        self._patience.begin(proto)
        try:
            exchange = await self._caller.open(where, asked.head, timeout=asked.timeout)
            uploading = bodies.upload(proto, exchange, self._behind.body_timeout)
            sending = asyncio.create_task(uploading)
            answering = asyncio.create_task(exchange.answer())
            try:
                await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    # The body is sent, or has broken off; then nobody wants the answer.
                    await sending
                await self._send(asked, await answering)
            finally:
                sending.cancel()
                answering.cancel()
                await asyncio.gather(sending, answering, return_exceptions=True)
                exchange.cancel()
        finally:
            self._patience.end(proto)

    async def _send(self, asked: _Asked, payload: bytes) -> None:
        bodiless = asked.method == "HEAD"
        if not isinstance(payload, Streamed):
            answers.send(asked.proto, payload, bodiless=bodiless)
            return
        room, name = self._behind.room(asked.scope), asked.found.target.name
        await answers.stream(asked.proto, payload, room, name, bodiless=bodiless)

    # What was begun without a coroutine, and needs one after all.

    def told(self, asked: _Asked, future: asyncio.Future[bytes]) -> None:
        """The answer to a request that was posted has come."""
        self._patience.end(asked.proto)
        try:
            error = future.exception()
            if error is None:
                payload = future.result()
                if type(payload) is not bytes:
                    self._go_on(asked, self._streamed(asked, payload))
                    return
                answers.send(asked.proto, payload, bodiless=asked.method == "HEAD")
            elif isinstance(error, Lost | Unloaded):
                self._caller.missed(asked.found.target.where, asked.posted.line)
                if isinstance(error, Unloaded) or asked.method in _SAFE:
                    self._go_on(asked, self._answer(asked, again=isinstance(error, Unloaded)))
                    return
                self._fail(asked, error)
            elif isinstance(error, errors.Error):
                self._fail(asked, error)
            else:
                raise error
        except errors.Error as failure:
            self._fail(asked, failure)
        except Exception:
            log.exception("%s %s failed", asked.method, asked.path)
            self._fail(asked, _failed())
        asked.over()

    def give_up(self, asked: _Asked) -> None:
        """Nobody waits for the answer to a request that was posted, or may any more."""
        self._patience.end(asked.proto)
        asked.posted.line.abandon(asked.posted.number)
        self._fail(asked, _stopping())
        asked.over()

    def _go_on(self, asked: _Asked, coming: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._finish(asked, coming))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, asked: _Asked, coming: Coroutine[Any, Any, None]) -> None:
        try:
            await coming
        finally:
            asked.over()

    async def _streamed(self, asked: _Asked, payload: bytes) -> None:
        self._patience.begin(asked.proto)
        try:
            await self._send(asked, payload)
        except errors.Error as error:
            self._fail(asked, error)
        finally:
            self._patience.end(asked.proto)

    # Errors.

    async def _refuse(self, asked: _Asked, error: errors.Error) -> None:
        """Answer with an error, and read what is left of the body."""
        self._fail(asked, error)
        if asked.method not in _BODILESS and error.code != 408:
            await discard(asked.proto, asked.request)

    def _fail(self, asked: _Asked, error: errors.Error) -> None:
        if error.id == WALL and "micro-timeout" in asked.request:
            # Late by its client's own word, as of services.
            error = errors.DeadlineExceeded(WALL, "the function has not answered in time")
        if isinstance(error, answers.Bad):
            log.warning("%s cannot be answered: %s (%s)", asked.path, error.detail, asked.trace)
        elif (found := getattr(asked, "found", None)) is not None:
            where = found.target.where
            self._failed(where.namespace, where.name, where.number, error)
        answer.send_error(asked.proto, asked.request, error, {context.TRACE: asked.trace})


class _Asked:
    """One request.

    Attributes:
        scope: it.
        proto: its exchange.
        note: what travels beside it.
        pairs: its headers; names may come again.
        request: the same as a dict.
        method: its method.
        path: its path.
        trace: its trace.
        found: where it goes.
        head: what its function is told.
        timeout: seconds until its answer has begun.
        length: bytes of its body; -1 if that is long, or is not known.
        posted: what is under way of it.
    """

    __slots__ = (
        *("_door", "found", "head", "length", "method", "note", "pairs", "path", "posted"),
        *("proto", "request", "scope", "timeout", "trace"),
    )

    found: Found
    head: bytes
    timeout: float
    length: int
    posted: Posted

    def __init__(self, door: Door, scope: Any, proto: Any, note: Note | None) -> None:
        self._door = door
        self.scope = scope
        self.proto = proto
        self.note = note
        self.pairs = scope.headers.items()
        self.request: dict[str, str] = dict(self.pairs)
        self.method: str = scope.method
        self.path: str = scope.path
        self.trace = ""

    def told(self, future: asyncio.Future[bytes]) -> None:
        """Its answer has come."""
        self._door.told(self, future)

    def give_up(self) -> None:
        """Nobody waits for its answer."""
        self._door.give_up(self)

    def over(self) -> None:
        """It has been answered."""
        if self.note is not None:
            self.note.over()


def _stopping() -> errors.Error:
    return errors.Unavailable("gateway", "the gateway stopped before the answer came")


def _failed() -> errors.Error:
    return errors.InternalServerError("gateway", "the gateway failed; its log says why")
