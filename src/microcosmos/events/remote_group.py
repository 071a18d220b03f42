"""A member of a group over rpc."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Sequence
from types import TracebackType

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc import Client
from microcosmos.rpc.interface import Stream

from . import wire
from .checks import check_delay
from .interface import MAX_PAYLOAD, Delivery, GroupSpec

LEAVING = 2.0
"""Seconds that who leaves a group waits until what it has said was heard."""

# One reply may have as many small deliveries as a pull, or one of the largest.
_LARGEST = (MAX_PAYLOAD + 4 * 1024 * 1024) * 4 // 3


class RemoteGroup:
    """See `interface.Group`; entered, it is a member.

    When the line to the core is lost, what is in its hands is lost too: it is given out again.
    The next pull is on a new line.

    Args:
        client: one that calls as the process itself.
        spec: the group.
    """

    def __init__(self, client: Client, spec: GroupSpec) -> None:
        self._client = client
        self._spec = spec
        self._line: _Line | None = None
        self._lines = 0

    @property
    def spec(self) -> GroupSpec:
        """See `interface.Group`."""
        return self._spec

    async def __aenter__(self) -> RemoteGroup:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._line is not None:
            await self._line.leave()

    async def _open(self) -> _Line:
        if self._line is None or self._line.over:
            self._lines += 1
            line = _Line(self._client, self._spec, f"{self._lines}:")
            await line.open()
            self._line = line
        return self._line

    async def pull(self, limit: int) -> Sequence[Delivery]:
        """See `interface.Group`."""
        if limit < 1:
            raise errors.BadRequest("events", f"limit is at least 1, not {limit}")
        return await (await self._open()).pull(limit)

    async def ack(self, delivery: Delivery) -> None:
        """See `interface.Group`."""
        await self._say(delivery, "ack")

    async def ack_sync(self, delivery: Delivery) -> None:
        """See `interface.Group`."""
        await self._say(delivery, "sync", answered=True)

    async def nack(self, delivery: Delivery, delay: float = 0) -> None:
        """See `interface.Group`."""
        await self._say(delivery, "nack", delay=check_delay(delay))

    async def working(self, delivery: Delivery) -> None:
        """See `interface.Group`."""
        await self._say(delivery, "working")

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """See `interface.Group`."""
        await self._say(delivery, "bury", answered=True, reason=reason)

    async def _say(
        self,
        delivery: Delivery,
        do: wire.Verb,
        *,
        answered: bool = False,
        delay: float = 0,
        reason: str = "",
    ) -> None:
        line = self._line
        if line is None or line.over or not delivery.token.startswith(line.name):
            detail = "the line on which this event came was lost; it is given out again"
            raise errors.Unavailable("events", detail)
        token = delivery.token.removeprefix(line.name)
        ask = wire.Ask(do=do, token=token, delay=delay, reason=reason)
        await (line.ask(ask) if answered else line.say(ask))


class _Line:
    """A stream to the core, on which a member asks.

    Args:
        client: opens it.
        spec: the group.
        name: what tokens of its deliveries begin with.

    Attributes:
        name: as given.
    """

    def __init__(self, client: Client, spec: GroupSpec, name: str) -> None:
        self._client = client
        self._spec = spec
        self.name = name
        self._stream: Stream | None = None
        self._number = 0
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._held: deque[Delivery] = deque()
        self._pulling: asyncio.Future[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._failure: errors.Error | None = None

    @property
    def over(self) -> bool:
        """Whether it was lost."""
        return self._failure is not None

    async def open(self) -> None:
        """Become a member.

        Raises:
            errors.Error: what keeps it from that.
        """
        began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A context of its own: it outlives the call that it may be opened in.
        self._reading = asyncio.create_task(
            self._read(began), name="member of a group", context=contextvars.Context()
        )
        try:
            await began
        except BaseException:
            self._reading.cancel()
            raise

    async def _read(self, began: asyncio.Future[None]) -> None:
        detail = "the core has ended the stream of the group"
        failure: errors.Error = errors.Unavailable("events", detail)
        try:
            request = codec.encode(wire.JoinRequest(self._spec))
            whole = wire.Whole(wire.Reply, _LARGEST)
            async with self._client.stream(wire.NAME, "Stream.Pull", request) as stream:
                async for message in stream:
                    reply = whole.add(codec.decode(message, wire.Piece, id=wire.NAME))
                    if reply is None:
                        continue
                    if reply.number:
                        self._take(reply)
                    elif not began.done():
                        self._stream = stream
                        began.set_result(None)
        except errors.ConnectionLost as error:
            failure = errors.Unavailable("events", error.detail)
        except errors.Unauthorized as error:
            # A token ends while it is a member; the next stream shows a new one.
            failure = errors.Unavailable("events", error.detail) if began.done() else error
        except errors.Error as error:
            failure = error
        finally:
            self._fail(failure, began)

    def _take(self, reply: wire.Reply) -> None:
        asked = self._asked.get(reply.number)
        if reply.deliveries:
            self._held.extend(
                msgspec.structs.replace(one, token=self.name + one.token)
                for one in reply.deliveries
            )
        if reply.more or asked is None:
            return
        del self._asked[reply.number]
        if asked.done():
            return
        if reply.error:
            asked.set_exception(errors.from_wire(reply.error))
        else:
            asked.set_result(None)

    def _fail(self, failure: errors.Error, began: asyncio.Future[None]) -> None:
        self._failure = failure
        self._held.clear()
        for future in (began, *self._asked.values()):
            if not future.done():
                future.set_exception(failure)
                # Nobody may be waiting for it any more.
                future.exception()
        self._asked.clear()

    async def pull(self, limit: int) -> list[Delivery]:
        """See `interface.Group`."""
        while not self._held:
            if self._pulling is None or self._pulling.done():
                self._pulling = await self._begin(wire.Ask(do="pull", limit=limit))
            try:
                await asyncio.shield(self._pulling)
            except asyncio.CancelledError:
                self._stop()
                raise
        return [self._held.popleft() for _ in range(min(limit, len(self._held)))]

    def _stop(self) -> None:
        """Let events go to others that nobody waits for here any more."""
        if not self.over:
            saying = asyncio.create_task(self._say_stop())
            self._stopping.add(saying)
            saying.add_done_callback(self._stopping.discard)

    async def _say_stop(self) -> None:
        with contextlib.suppress(errors.Error):
            await self.say(wire.Ask(do="stop"))

    async def ask(self, ask: wire.Ask) -> None:
        """Say something, and wait until it was done."""
        await (await self._begin(ask))

    async def _begin(self, ask: wire.Ask) -> asyncio.Future[None]:
        self._number += 1
        number = self._number
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            await self.say(msgspec.structs.replace(ask, number=number))
        except BaseException:
            self._asked.pop(number, None)
            raise
        return future

    async def say(self, ask: wire.Ask) -> None:
        """Say something.

        Raises:
            errors.Unavailable: the line was lost.
        """
        if self._failure is not None or self._stream is None:
            raise self._failure or errors.Unavailable("events", "the member has left")
        try:
            await self._stream.send(codec.encode(ask))
        except (errors.ConnectionLost, errors.Conflict) as error:
            raise errors.Unavailable("events", error.detail) from None

    async def leave(self) -> None:
        """Be a member no more; what was pulled for nobody is given to others."""
        if self._stream is not None and not self.over:
            with contextlib.suppress(errors.Error, TimeoutError):
                async with asyncio.timeout(LEAVING):
                    await self._stream.end()
                    await asyncio.wait([self._reading])
        self._reading.cancel()
        await asyncio.wait([self._reading])
