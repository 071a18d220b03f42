"""The NATS transport: calls to any host, by request and reply over core NATS.

A service answers on ``rpc.<service>.*.*`` (a dot of its name is a ``~``) in a queue group, and
announces itself by the NATS services protocol (`announce`). Metadata travels as headers; an error
is a reply with the headers
``Nats-Service-Error`` and ``Nats-Service-Error-Code`` and the error's JSON as its body.

A stream is a request with the header ``Micro-Stream: open``. The replica that takes it answers
``ready`` with the subject on which it hears the caller; from then on messages go bare in both
directions, and what is no message has the header ``Micro-Stream`` with its kind. A caller that
knows no more of this than ``Micro-Stream: replies`` gets every message as a reply of its own, and
an empty one at the end, as is the custom of NATS; a foreign service may answer us likewise.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Iterable, Mapping

import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from microcosmos.base import context, errors, names

from . import foreign
from .announce import announce
from .connection import connect, settle, when_disconnected
from .deadlines import Deadlines
from .interface import Call, Resolver, Stream, Unreachable, check_size, too_large
from .nats_streams import (
    ERROR_CODE,
    KIND,
    OPEN,
    REPLIES,
    Opened,
    Served,
    cancel_subject,
    error_headers,
    error_of,
)
from .pending import Pending
from .server import Hosted, Server

log = logging.getLogger("microcosmos.nats")

__all__ = ["NatsTransport", "connect", "serve", "settle"]

QUEUE = "q"
_NANOSECONDS = 1_000_000_000
_LONGEST = 1e9
_DIGITS = 18
_LARGE = 32 * 1024


class NatsTransport:
    """Calls by NATS; see `interface.Transport`.

    Args:
        nc: a connection made by `connect`.
        resolver: knows the subjects of foreign services, and which services exist.
    """

    def __init__(self, nc: NatsClient, resolver: Resolver | None = None) -> None:
        self._nc = nc
        self._resolver = resolver
        self._inbox = nc.new_inbox() + "."
        self._pending = Pending(self._abandon)
        self._streams = Opened(nc, self._inbox)
        self._opening: asyncio.Task[None] | None = None
        self._open = False
        self._cancels: set[asyncio.Task[None]] = set()

    async def call(self, call: Call) -> bytes:
        """Carry one call; see `interface.Transport`."""
        check_size(call)
        if self._nc.is_closed:
            raise Unreachable(call.service)
        if not self._open:
            await self._listen()
        number, future = self._pending.begin(call)
        try:
            subject = await self._send(call, number, call.metadata)
        except BaseException:
            self._pending.forget(number)
            raise
        answer = await self._pending.wait(number, future)
        return answer if subject.startswith("rpc.") else foreign.checked(call, answer)

    async def open(self, call: Call) -> Stream:
        """Open a stream; see `interface.Transport`."""
        check_size(call)
        if self._nc.is_closed:
            raise Unreachable(call.service)
        if not self._open:
            await self._listen()
        number = self._pending.number()
        return await self._streams.open(
            number, call, lambda headers: self._send(call, number, headers)
        )

    async def _send(self, call: Call, number: int, headers: dict[str, str]) -> str:
        """Publish a request, to the subject that is returned; its answers come under its number."""
        subject = (
            self._resolver.subject(call.service, call.endpoint)
            if self._resolver
            else names.subject(call.service, call.endpoint)
        )
        if call.timeout is not None:
            left = str(int(min(call.timeout, _LONGEST) * _NANOSECONDS))
            headers = {**headers, context.TIMEOUT: left}
        if len(call.body) > _LARGE:
            _check_payload(call, headers, self._nc.max_payload)
        try:
            await self._nc.publish(subject, call.body, f"{self._inbox}{number}", headers)
        except (nats.errors.Error, ValueError) as exc:
            raise _cannot_send(call, exc) from None
        return subject

    def changed(self, service: str) -> None:
        """The resolver knows another thing of a service: who waits for the dead is told."""
        if len(self._pending) and self._resolver and self._resolver.lost(service):
            self._pending.fail_all("its last replica died", service)

    async def _listen(self) -> None:
        """Subscribe to the answers, once, however many calls are waiting for that."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._subscribe())
        try:
            await asyncio.shield(self._opening)
        except nats.errors.Error as exc:
            self._opening = None
            raise Unreachable(str(exc)) from None

    async def _subscribe(self) -> None:
        await self._nc.subscribe(self._inbox + "*", cb=self._replied)
        when_disconnected(self._nc, self._disconnected)
        self._open = True

    def _disconnected(self) -> None:
        self._pending.fail_all("the connection to NATS broke")
        self._streams.fail_all("the connection to NATS broke")

    async def _replied(self, msg: Msg) -> None:
        if (hear := self._streams.hear.get(msg.subject)) is not None:
            hear(msg)
            return
        number = int(msg.subject.rpartition(".")[2])
        headers = msg.headers
        if not headers:
            self._pending.resolve(number, msg.data)
        elif headers.get("Status") == "503" and not msg.data:
            self._pending.fail(number, Unreachable("nobody listens"))
        elif ERROR_CODE in headers:
            service = self._pending.service(number)
            self._pending.fail(number, error_of(msg.data, headers, service))
        else:
            self._pending.resolve(number, msg.data)

    def _abandon(self, number: int, call: Call) -> None:
        task = asyncio.create_task(self._cancel(call.service, f"{self._inbox}{number}"))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _cancel(self, service: str, reply: str) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._nc.publish(cancel_subject(service), reply.encode())

    async def close(self) -> None:
        """What waits for answers fails with `ConnectionLost`."""
        self._pending.close()
        self._streams.close()


def _check_payload(call: Call, headers: dict[str, str], limit: int) -> None:
    """Refuse what NATS would close the connection for: its limit counts the headers too."""
    size = len(call.body) + sum(len(k) + 4 * len(v) + 4 for k, v in headers.items()) + 16
    if size > limit:
        raise too_large(call, "request with its metadata", size, limit)


def _cannot_send(call: Call, exc: Exception) -> errors.Error:
    reason = str(exc) or type(exc).__name__
    if isinstance(exc, nats.errors.BadSubjectError | nats.errors.BadHeaderError | UnicodeError):
        return errors.BadRequest(call.service, f"NATS cannot carry the call: {reason}")
    return errors.ConnectionLost(call.service, f"cannot send by NATS: {reason}")


@contextlib.asynccontextmanager
async def serve(
    nc: NatsClient,
    server: Server,
    *,
    node: str,
    about: Mapping[str, str] | None = None,
    services: Iterable[Hosted] | None = None,
    drain: float = 10.0,
) -> AsyncIterator[None]:
    """Answer for every service of a server by NATS, until the block ends.

    Args:
        nc: a connection made by `connect`.
        server: what answers.
        about: what the announcements tell of this process.
        services: those to answer for; all of the server's unless said.
        node: the id of this process among the service's replicas.
        drain: seconds to wait at the end for the calls being handled.
    """
    served = [_Answers(nc, server, hosted, node) for hosted in services or server.services.values()]
    async with contextlib.AsyncExitStack() as stack:
        for answers in served:
            await answers.listen()
            await stack.enter_async_context(announce(nc, answers.hosted, node, about or {}))
        await settle(nc)
        try:
            yield
        finally:
            await asyncio.gather(*(answers.refuse_new() for answers in served))
            await server.drain(drain)
            await asyncio.gather(*(answers.close() for answers in served))
            with contextlib.suppress(nats.errors.Error, OSError):
                await settle(nc)


class _Answers:
    """The calls that came by NATS to one service and are being handled."""

    def __init__(self, nc: NatsClient, server: Server, hosted: Hosted, node: str) -> None:
        self.hosted = hosted
        self._nc = nc
        self._server = server
        self._skip = len(names.prefix(hosted.name))
        self._streams = Served(nc, server, hosted.name, node)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._deadlines: Deadlines[str] = Deadlines(self._cancel)
        self._subscriptions: list[Subscription] = []
        self._closing = False
        self._numbers = itertools.count()
        self._create = asyncio.get_running_loop().create_task

    async def listen(self) -> None:
        subscribe = self._nc.subscribe
        calls = await subscribe(f"{names.prefix(self.hosted.name)}*.*", QUEUE, self._received)
        cancels = await subscribe(cancel_subject(self.hosted.name), cb=self._given_up)
        streams = await subscribe(self._streams.subject, cb=self._streams.received)
        self._subscriptions = [calls, cancels, streams]
        when_disconnected(self._nc, self._streams.fail_all)

    async def refuse_new(self) -> None:
        """Let new calls go elsewhere, and take those that NATS has sent here already."""
        calls = self._subscriptions[0]
        with contextlib.suppress(nats.errors.Error, OSError):
            if self._nc.is_connected:
                # `drain` of nats-py, but for its `flush`: see `settle`.
                await self._nc._send_unsubscribe(calls._id)
                await settle(self._nc)
                await calls._pending_queue.join()
            await calls.unsubscribe()

    async def _received(self, msg: Msg) -> None:
        # A caller in another language may have sent its names in any case.
        headers = {context.title(name): value for name, value in (msg.headers or {}).items()}
        timeout = _timeout(headers.pop(context.TIMEOUT, None))
        endpoint = msg.subject[self._skip :]
        opened = headers.pop(KIND, None)
        call = Call(self.hosted.name, endpoint, msg.data or b"{}", headers, timeout)
        key = msg.reply
        if not key or key in self._tasks:
            key = f"{key} {next(self._numbers)}"
        if opened is None:
            answering = self._answer(key, msg.reply, call)
        else:
            answering = self._stream(key, msg.reply, call, opened)
        self._tasks[key] = self._create(answering)
        if call.timeout is not None:
            self._deadlines.add(key, call.timeout)

    async def _given_up(self, msg: Msg) -> None:
        self._cancel(msg.data.decode("utf-8", "replace"))

    async def _answer(self, key: str, reply: str, call: Call) -> None:
        try:
            answer = await self._server.handle(call)
            if len(answer) > self._nc.max_payload:
                raise too_large(call, "answer", len(answer), self._nc.max_payload)
            if reply:
                await self._nc.publish(reply, answer)
        except errors.Error as error:
            await self._refuse(reply, error)
        except (nats.errors.Error, OSError) as exc:
            log.warning("cannot answer %s %s: %s", call.service, call.endpoint, exc)
        except asyncio.CancelledError:
            # Late or given up: its caller no longer waits. A server that stops tells its callers.
            if self._closing:
                detail = f"a replica stopped before {call.service} {call.endpoint} answered"
                await self._refuse(reply, errors.InternalServerError(call.service, detail))
        finally:
            self._ended(key, call)

    async def _stream(self, key: str, reply: str, call: Call, kind: str) -> None:
        try:
            if kind == OPEN:
                await self._streams.answer(reply, call)
            elif kind == REPLIES:
                await self._streams.tell(reply, call)
            else:
                raise errors.BadRequest(call.service, f"{KIND}: {kind[:40]!r} opens no stream")
        except errors.Error as error:
            await self._refuse(reply, error)
        except (nats.errors.Error, OSError) as exc:
            log.warning("cannot answer %s %s: %s", call.service, call.endpoint, exc)
        except asyncio.CancelledError:
            pass
        finally:
            self._ended(key, call)

    def _ended(self, key: str, call: Call) -> None:
        del self._tasks[key]
        if call.timeout is not None:
            self._deadlines.discard(key)

    async def _refuse(self, reply: str, error: errors.Error) -> None:
        if reply:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._nc.publish(reply, error.to_wire(), headers=error_headers(error))

    def _cancel(self, key: str) -> None:
        if task := self._tasks.get(key):
            task.cancel()

    async def close(self) -> None:
        """Cancel what is still being handled, and tell its callers."""
        self._closing = True
        self._deadlines.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        self._streams.close()
        for subscription in self._subscriptions[1:]:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()


def _timeout(text: str | None) -> float | None:
    """Seconds of a `Timeout` header, which has nanoseconds; None of one that makes no sense."""
    if text is None or len(text) > _DIGITS:
        return None
    try:
        return int(text) / _NANOSECONDS
    except ValueError:
        return None
