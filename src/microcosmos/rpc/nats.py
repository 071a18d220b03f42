"""The NATS transport: calls to any host, by request and reply over core NATS.

A service answers on ``rpc.<service>.*.*`` in a queue group, and announces itself by the NATS
services protocol (`announce`). Metadata travels as headers; an error is a reply with the headers
``Nats-Service-Error`` and ``Nats-Service-Error-Code`` and the error's JSON as its body.
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

from .announce import announce
from .connection import connect, settle
from .deadlines import Deadlines
from .interface import Call, Resolver, Unreachable, check_size, too_large
from .pending import Pending
from .server import Hosted, Server

log = logging.getLogger("microcosmos.nats")

__all__ = ["NatsTransport", "connect", "serve", "settle"]

ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"
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
        subject = (
            self._resolver.subject(call.service, call.endpoint)
            if self._resolver
            else names.subject(call.service, call.endpoint)
        )
        headers = call.metadata
        if call.timeout is not None:
            left = str(int(min(call.timeout, _LONGEST) * _NANOSECONDS))
            headers = {**headers, context.TIMEOUT: left}
        if len(call.body) > _LARGE:
            _check_payload(call, headers, self._nc.max_payload)
        number, future = self._pending.begin(call)
        try:
            await self._nc.publish(subject, call.body, f"{self._inbox}{number}", headers)
        except BaseException as exc:
            self._pending.forget(number)
            if isinstance(exc, nats.errors.Error | ValueError):
                raise _cannot_send(call, exc) from None
            raise
        return await self._pending.wait(number, future)

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
        lost = self._nc._disconnected_cb  # chained: the option is set at connect

        async def disconnected() -> None:
            self._pending.fail_all("the connection to NATS broke")
            if lost is not None:
                await lost()

        self._nc._disconnected_cb = disconnected
        self._open = True

    async def _replied(self, msg: Msg) -> None:
        number = int(msg.subject.rpartition(".")[2])
        headers = msg.headers
        if not headers:
            self._pending.resolve(number, msg.data)
        elif headers.get("Status") == "503" and not msg.data:
            self._pending.fail(number, Unreachable("nobody listens"))
        elif ERROR_CODE in headers:
            self._pending.fail(number, _error(msg.data, headers))
        else:
            self._pending.resolve(number, msg.data)

    def _abandon(self, number: int, call: Call) -> None:
        task = asyncio.create_task(self._cancel(call.service, f"{self._inbox}{number}"))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _cancel(self, service: str, reply: str) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._nc.publish(_cancel_subject(service), reply.encode())

    async def close(self) -> None:
        """What waits for answers fails with `ConnectionLost`."""
        self._pending.close()


def _cancel_subject(service: str) -> str:
    """Where every replica of a service hears which calls are given up, by their reply subjects.

    A token ``$`` is in no name, so no service's own subjects match it.
    """
    return f"rpc.{service}.$.$.cancel"


def _error(body: bytes, headers: dict[str, str]) -> errors.Error:
    """The error of an answer: its body, or of a foreign service the headers alone."""
    try:
        code = int(headers[ERROR_CODE])
    except ValueError:
        code = 500
    if body[:1] == b"{" and (error := errors.from_wire(body)).code == code:
        return error
    return errors.of_code(code, "nats", headers.get(ERROR, ""))


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
    served = [_Answers(nc, server, hosted) for hosted in services or server.services.values()]
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

    def __init__(self, nc: NatsClient, server: Server, hosted: Hosted) -> None:
        self.hosted = hosted
        self._nc = nc
        self._server = server
        self._skip = len(f"rpc.{hosted.name}.")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._deadlines: Deadlines[str] = Deadlines(self._cancel)
        self._subscriptions: list[Subscription] = []
        self._closing = False
        self._numbers = itertools.count()
        self._create = asyncio.get_running_loop().create_task

    async def listen(self) -> None:
        subscribe = self._nc.subscribe
        calls = await subscribe(f"rpc.{self.hosted.name}.*.*", QUEUE, self._received)
        cancels = await subscribe(_cancel_subject(self.hosted.name), cb=self._given_up)
        self._subscriptions = [calls, cancels]

    async def refuse_new(self) -> None:
        """Let new calls go elsewhere, and take those that NATS has sent here already."""
        calls, _ = self._subscriptions
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
        call = Call(self.hosted.name, endpoint, msg.data or b"{}", headers, timeout)
        key = msg.reply
        if not key or key in self._tasks:
            key = f"{key} {next(self._numbers)}"
        self._tasks[key] = self._create(self._answer(key, msg.reply, call))
        if timeout is not None:
            self._deadlines.add(key, timeout)

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
            del self._tasks[key]
            if call.timeout is not None:
                self._deadlines.discard(key)

    async def _refuse(self, reply: str, error: errors.Error) -> None:
        if reply:
            one_line = " ".join(error.detail[:500].split()).encode("utf-8", "replace").decode()
            headers = {ERROR: one_line or error.status, ERROR_CODE: str(error.code)}
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._nc.publish(reply, error.to_wire(), headers=headers)

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
