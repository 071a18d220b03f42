"""Streams by NATS: what `nats` says of them, as the two ends of channels.

Messages are bare, so that they cost no more than any message of NATS. Everything else has the
header ``Micro-Stream`` with its kind, and in its body a number: of messages sent so far (``end``,
``beat``) or of bytes granted (``grant``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from functools import partial

import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.base import errors, names

from . import foreign
from .frames import BEAT, CANCEL, END, ERROR, GRANT, ITEM
from .interface import DEFAULT_TIMEOUT, MAX_BODY, Call, Unreachable, late
from .server import Server
from .stream import Channel, Pulse, answer, nothing
from .streams import Streams

KIND = "Micro-Stream"
OPEN = "open"
REPLIES = "replies"
READY = "ready"
_KINDS = {"end": END, "grant": GRANT, "cancel": CANCEL, "beat": BEAT}
_HEADERS = {kind: {KIND: name} for name, kind in _KINDS.items()}

PLAIN_TIMEOUT = 60.0
"""Seconds that a stream of plain replies lasts at most: nobody tells whether they are read."""

ERROR_NAME = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"

Send = Callable[[dict[str, str]], Awaitable[object]]
Hear = Callable[[Msg], None]


def cancel_subject(service: str) -> str:
    """Where every replica of a service hears which calls are given up, by their reply subjects.

    A token ``$`` is in no name, so no service's own subjects match it.
    """
    return f"{names.prefix(service)}$.$.cancel"


def error_headers(error: errors.Error) -> dict[str, str]:
    """The headers of an answer that is an error."""
    one_line = " ".join(error.detail[:500].split()).encode("utf-8", "replace").decode()
    return {ERROR_NAME: one_line or error.status, ERROR_CODE: str(error.code)}


def error_of(body: bytes, headers: dict[str, str], service: str = "nats") -> errors.Error:
    """The error of a service's answer: its body, or of a foreign one the headers alone."""
    try:
        code = int(headers[ERROR_CODE])
    except ValueError:
        code = 500
    # A foreign service may send any data along: it is an error's JSON only with a code in it.
    if body[:1] == b"{" and b'"code"' in body.lower():
        error = errors.from_wire(body)
        if error.code == code and error.id:
            return error
    return errors.of_code(code, service, headers.get(ERROR_NAME, ""))


class _End:
    """Says what one end of a stream has to say, once it is known where.

    Args:
        nc: the connection.
        call: what opened the stream.
        subject: where the other end hears.
        here: where this end does, if the other may only answer: NATS forgets after a while whom it
            may, and each message that says so lets it go on.
    """

    def __init__(self, nc: NatsClient, call: Call, subject: str = "", here: str = "") -> None:
        self._publish = nc.publish
        self._call = call
        self._here = here
        self.subject = subject

    async def say(self, kind: int, payload: bytes) -> None:
        if not self.subject:
            raise errors.Unimplemented(
                self._call.service, f"{self._call.endpoint} takes no stream of messages"
            )
        try:
            if kind == ITEM:
                await self._publish(self.subject, payload, self._here)
            elif kind == ERROR:
                headers = error_headers(errors.from_wire(payload))
                await self._publish(self.subject, payload, self._here, headers)
            else:
                await self._publish(self.subject, payload, self._here, _HEADERS[kind])
        except (nats.errors.Error, OSError) as exc:
            reason = str(exc) or type(exc).__name__
            detail = f"the stream cannot go on by NATS: {reason}"
            raise errors.ConnectionLost(self._call.service, detail) from None


def _hear(channel: Channel, msg: Msg) -> None:
    """Hand a message of NATS to an end of a stream."""
    headers = msg.headers
    if not headers:
        if msg.data:
            channel.take(msg.data)
        else:
            channel.received(END, b"")
    elif kind := _KINDS.get(headers.get(KIND, "")):
        channel.received(kind, msg.data)
    elif ERROR_CODE in headers:
        channel.fail(error_of(msg.data, headers))
    elif headers.get(KIND) != READY:
        # Of a foreign service; that of nats-py answers with the headers it was asked with.
        channel.received(ITEM if msg.data else END, msg.data)


def _hear_foreign(channel: Channel, call: Call, msg: Msg) -> None:
    """Hand a message of a foreign service to an end of a stream, if it is JSON."""
    if msg.data and ERROR_CODE not in (msg.headers or {}):
        try:
            foreign.checked(call, msg.data)
        except errors.BadGateway as error:
            channel.fail(error)
    _hear(channel, msg)


def _settle(ready: asyncio.Future[str], outcome: str | Exception) -> None:
    if ready.done():
        return
    if isinstance(outcome, str):
        ready.set_result(outcome)
    else:
        ready.set_exception(outcome)


class Opened:
    """The streams that were opened by one connection.

    Args:
        nc: the connection.
        inbox: the subject under which the answers to numbers come.

    Attributes:
        hear: what a message to a subject is handed to.
    """

    def __init__(self, nc: NatsClient, inbox: str) -> None:
        self._nc = nc
        self._inbox = inbox
        self._pulse = Pulse()
        self.hear: dict[str, Hear] = {}
        self._streams = Streams(self._pulse, lambda number: self.hear.pop(f"{inbox}{number}", None))

    async def open(self, number: int, call: Call, send: Send) -> Channel:
        """Open a stream, and wait for the replica that takes it.

        Args:
            number: what its answers come under.
            call: the request.
            send: sends it with these headers.
        """
        limit = min(MAX_BODY, self._nc.max_payload)
        reply = f"{self._inbox}{number}"
        end = _Caller(self._nc, call, reply)
        channel = self._streams.begin(number, call, end.say, limit=limit)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def first(msg: Msg) -> None:
            headers = msg.headers or {}
            if headers.get(KIND) == READY:
                self.hear[reply] = partial(_hear, channel)
                _settle(ready, msg.reply)
            elif headers.get("Status") == "503" and not msg.data:
                _settle(ready, Unreachable("nobody listens"))
            else:
                # A foreign service: it says nothing of where it could be told more, nor beats.
                self.hear[reply] = partial(_hear_foreign, channel, call)
                self._pulse.discard(channel)
                _settle(ready, "")
                self.hear[reply](msg)

        self.hear[reply] = first
        patience = min(DEFAULT_TIMEOUT, call.timeout or DEFAULT_TIMEOUT)
        try:
            await send({**call.metadata, KIND: OPEN})
            end.subject = await asyncio.wait_for(ready, patience)
        except BaseException as exc:
            await channel.close()
            if isinstance(exc, TimeoutError) and not isinstance(exc, errors.Error):
                raise late(call, patience) from None
            raise
        return channel

    def fail_all(self, reason: str) -> None:
        """The connection broke: what was under way may have been lost."""
        self._streams.fail_all(reason)

    def close(self) -> None:
        """End all of them."""
        self._streams.close()
        self._pulse.close()


class _Caller(_End):
    """The caller's end: a stream is given up even where no replica has taken it yet."""

    def __init__(self, nc: NatsClient, call: Call, reply: str) -> None:
        super().__init__(nc, call, here=reply)

    async def say(self, kind: int, payload: bytes) -> None:
        if kind != CANCEL and (self.subject or kind == ITEM):
            await super().say(kind, payload)
        elif kind == CANCEL:
            # By its reply, as calls are: the replica may have taken it without having said so.
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._publish(cancel_subject(self._call.service), self._here.encode())


class Served:
    """The streams that one service answers by NATS.

    Args:
        nc: the connection.
        server: what answers.
        service: its name.
        node: the id of this process among the service's replicas.
    """

    def __init__(self, nc: NatsClient, server: Server, service: str, node: str) -> None:
        self._nc = nc
        self._server = server
        self._prefix = f"{names.prefix(service)}$.{node}."
        self._channels: dict[int, Channel] = {}
        self._pulse = Pulse()
        self._numbers = itertools.count(1)

    @property
    def subject(self) -> str:
        """Where callers of streams are heard."""
        return self._prefix + "*"

    async def answer(self, reply: str, call: Call) -> None:
        """Answer a stream; its messages go to a subject."""
        number = next(self._numbers)
        end = _End(self._nc, call, reply)
        limit = min(MAX_BODY, self._nc.max_payload)
        task = asyncio.current_task()
        assert task is not None
        channel = Channel(call, end.say, serving=True, done=lambda: stop(), limit=limit)
        stop = task.cancel
        self._channels[number] = channel
        self._pulse.add(channel)
        try:
            mine = f"{self._prefix}{number}"
            await self._nc.publish(reply, b"", mine, headers={KIND: READY})
            await answer(self._server, call, channel)
        finally:
            self._pulse.discard(channel)
            del self._channels[number]

    async def tell(self, reply: str, call: Call) -> None:
        """Send each message of a stream as a reply, and an empty one at the end."""
        call.timeout = min(call.timeout or PLAIN_TIMEOUT, PLAIN_TIMEOUT)
        try:
            async with asyncio.timeout(call.timeout):
                await self._server.stream(call, nothing(), partial(self._nc.publish, reply))
        except TimeoutError as exc:
            raise exc if isinstance(exc, errors.Error) else late(call) from None
        await self._nc.publish(reply, b"")

    async def received(self, msg: Msg) -> None:
        """Take in what a caller says."""
        token = msg.subject[len(self._prefix) :]
        if token.isdecimal() and (channel := self._channels.get(int(token))):
            _hear(channel, msg)

    def fail_all(self) -> None:
        """The connection broke: what was under way may have been lost."""
        for channel in list(self._channels.values()):
            channel.fail(errors.ConnectionLost("nats", "the connection to NATS broke"))

    def close(self) -> None:
        """Beat no more."""
        self._pulse.close()
