"""The NATS transport: calls to any host, by request and reply over core NATS.

A service answers on ``rpc.<service>.*.*`` in a queue group, and announces itself by the NATS
services protocol (`announce`). Metadata travels as headers; an error is a reply with the headers
``Nats-Service-Error`` and ``Nats-Service-Error-Code`` and the error's JSON as its body.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.base import context, errors

from .announce import announce
from .deadlines import Deadlines
from .interface import Call, Resolver
from .pending import Pending
from .server import Hosted, Server, check_size

log = logging.getLogger("microcosmos.nats")

ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"
QUEUE = "q"
_NANOSECONDS = 1_000_000_000


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
        self._pending = Pending(lambda number: None)
        self._subscribed: asyncio.Future[None] | None = None

    def reaches(self, service: str) -> bool:
        """NATS reaches everyone who listens, so it is worth a try."""
        return not self._nc.is_closed

    async def call(self, call: Call) -> bytes:
        """Carry one call; see `interface.Transport`."""
        if self._subscribed is None or not self._subscribed.done():
            await self._subscribe()
        check_size(call)
        subject = (
            self._resolver.subject(call.service, call.endpoint)
            if self._resolver
            else f"rpc.{call.service}.{call.endpoint}"
        )
        headers = call.metadata
        if call.timeout is not None:
            headers[context.TIMEOUT] = str(int(call.timeout * _NANOSECONDS))
        number, future = self._pending.begin(call)
        try:
            await self._nc.publish(subject, call.body, f"{self._inbox}{number}", headers)
        except (nats.errors.Error, ValueError) as exc:
            future.cancel()
            self._pending.fail(number, exc)
            raise _cannot_send(call, exc) from None
        return await self._pending.wait(number, future)

    async def _subscribe(self) -> None:
        if self._subscribed is None:
            self._subscribed = asyncio.get_running_loop().create_future()
            await self._nc.subscribe(self._inbox + "*", cb=self._replied)
            lost = self._nc._disconnected_cb  # chained: the option is set at connect

            async def disconnected() -> None:
                self._pending.fail_all("the connection to NATS broke")
                if lost is not None:
                    await lost()

            self._nc._disconnected_cb = disconnected
            self._subscribed.set_result(None)
        await self._subscribed

    async def _replied(self, msg: Msg) -> None:
        number = int(msg.subject.rpartition(".")[2])
        headers = msg.headers
        if not headers:
            self._pending.resolve(number, msg.data)
        elif headers.get("Status") == "503":
            self._pending.fail(number, errors.Unavailable("nats", "nobody listens"))
        elif ERROR_CODE in headers:
            self._pending.fail(number, _error(msg.data, headers))
        else:
            self._pending.resolve(number, msg.data)

    async def close(self) -> None:
        """What waits for answers fails with `ConnectionLost`."""
        self._pending.close()


def _error(body: bytes, headers: dict[str, str]) -> errors.Error:
    if body[:1] == b"{":
        return errors.from_wire(body)
    # A foreign service sends only the headers.
    try:
        code = int(headers[ERROR_CODE])
    except ValueError:
        code = 500
    return errors.of_code(code if 400 <= code < 600 else 500, "nats", headers.get(ERROR, ""))


def _cannot_send(call: Call, exc: Exception) -> errors.Error:
    if isinstance(exc, nats.errors.MaxPayloadError):
        return errors.TooLarge(call.service, "the request is over the size limit of NATS")
    return errors.ConnectionLost(
        call.service, f"cannot send by NATS: {str(exc) or type(exc).__name__}"
    )


@contextlib.asynccontextmanager
async def connect(
    url: str,
    credentials: Path | str | None = None,
    name: str = "",
    *,
    inbox_prefix: str = "",
    patience: float = 2.0,
) -> AsyncIterator[NatsClient]:
    """A connection that comes back by itself for as long as the block lasts.

    Args:
        url: where.
        credentials: a ``.creds`` file.
        name: what NATS shows this connection as.
        inbox_prefix: where replies come, if the credentials allow nothing else.
        patience: seconds to go on trying at first.

    Raises:
        errors.Unavailable: nobody answers at ``url``, or the credentials are refused.
    """
    said: list[str] = []

    async def failed(exc: Exception) -> None:
        said.append(str(exc) or type(exc).__name__)
        log.log(logging.WARNING if nc.is_connected else logging.DEBUG, "nats: %s", said[-1])
        del said[:-1]

    nc = NatsClient()
    try:
        async with asyncio.timeout(patience):
            await nc.connect(
                url,
                name=name or None,
                user_credentials=str(credentials) if credentials else None,
                inbox_prefix=inbox_prefix or "_INBOX",
                error_cb=failed,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.05,  # type: ignore[arg-type]  # seconds; floats work
            )
    except (OSError, TimeoutError, nats.errors.Error) as exc:
        reason = str(exc) or (said[-1] if said else type(exc).__name__)
        raise errors.Unavailable("nats", f"cannot connect to {url}: {reason}") from None
    try:
        yield nc
    finally:
        with contextlib.suppress(nats.errors.Error, OSError):
            await nc.close()


@contextlib.asynccontextmanager
async def serve(
    nc: NatsClient, server: Server, *, node: str, drain: float = 10.0
) -> AsyncIterator[None]:
    """Answer for every service of a server by NATS, until the block ends.

    Args:
        nc: a connection made by `connect`.
        server: what answers.
        node: the id of this process among the service's replicas.
        drain: seconds to wait at the end for the calls being handled.
    """
    subscriptions = []
    async with contextlib.AsyncExitStack() as stack:
        for hosted in server.services.values():
            answers = _Answers(nc, server, hosted)
            stack.callback(answers.close)
            subject = f"rpc.{hosted.name}.*.*"
            subscriptions.append(await nc.subscribe(subject, QUEUE, answers.received))
            await stack.enter_async_context(announce(nc, hosted, node=node))
        await nc.flush()
        try:
            yield
        finally:
            for subscription in subscriptions:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()
            await server.drain(drain)
            with contextlib.suppress(nats.errors.Error, OSError):
                await nc.flush(timeout=2)


class _Answers:
    """The calls that came by NATS to one service and are being handled."""

    def __init__(self, nc: NatsClient, server: Server, hosted: Hosted) -> None:
        self._nc = nc
        self._server = server
        self._service = hosted.name
        self._skip = len(f"rpc.{hosted.name}.")
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._deadlines = Deadlines(self._expire)
        self._late: set[int] = set()
        self._number = 0
        self._create = asyncio.get_running_loop().create_task

    async def received(self, msg: Msg) -> None:
        headers = msg.headers or {}
        timeout = _timeout(headers)
        call = Call(self._service, msg.subject[self._skip :], msg.data or b"{}", headers, timeout)
        self._number = number = self._number + 1
        self._tasks[number] = self._create(self._answer(number, msg.reply, call))
        if timeout is not None:
            self._deadlines.add(number, timeout)

    async def _answer(self, number: int, reply: str, call: Call) -> None:
        try:
            answer = await self._server.handle(call)
            if reply:
                await self._nc.publish(reply, answer)
        except errors.Error as error:
            await self._refuse(reply, error)
        except (nats.errors.Error, OSError) as exc:
            log.warning("cannot answer %s %s: %s", call.service, call.endpoint, exc)
        except asyncio.CancelledError:
            # Late: the caller has its 504 already, from its own clock.
            pass
        finally:
            del self._tasks[number]
            if call.timeout is not None:
                self._deadlines.discard(number)

    async def _refuse(self, reply: str, error: errors.Error) -> None:
        if reply:
            one_line = " ".join(error.detail.split())
            headers = {ERROR: one_line or error.status, ERROR_CODE: str(error.code)}
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._nc.publish(reply, error.to_wire(), headers=headers)

    def _expire(self, number: int) -> None:
        if task := self._tasks.get(number):
            task.cancel()

    def close(self) -> None:
        self._deadlines.close()
        for task in list(self._tasks.values()):
            task.cancel()


def _timeout(headers: dict[str, str]) -> float | None:
    text = headers.get(context.TIMEOUT)
    if text is None:
        return None
    try:
        return int(text) / _NANOSECONDS
    except ValueError:
        return None
