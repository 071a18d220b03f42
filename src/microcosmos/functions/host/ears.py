"""Ears: calls to functions by NATS, of which each has a subject, and all together one listener.

A subscription of nats-py has a queue and a task of its own. There may be ten thousand functions,
most of which nobody ever calls by NATS; so theirs have a few words each, and are made in slices.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from types import TracebackType
from typing import Any

import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.base import context, errors, names
from microcosmos.rpc import Call, Server
from microcosmos.rpc.connection import settle, when_disconnected
from microcosmos.rpc.deadlines import Deadlines
from microcosmos.rpc.interface import too_large
from microcosmos.rpc.nats import QUEUE, _timeout
from microcosmos.rpc.nats_streams import KIND, OPEN, REPLIES, Served, error_headers

log = logging.getLogger("microcosmos.nats")

SLICE = 250
"""Subjects that are listened on, or not any more, in one turn of the loop."""

_ROOT = len(f"{names.RPC}.")


class _Ear:
    """A subscription, as nats-py sees it.

    It is put where nats-py keeps its own, so that it is renewed after a break like these.
    """

    # What nats-py asks of a subscription that ends never, is no JetStream's and has no limits.
    _queue = QUEUE
    _cb = None
    _future = None
    _jsi = None
    _max_msgs = 0
    _closed = False
    _pending_bytes_limit = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    __slots__ = ("_id", "_pending_queue", "_pending_size", "_received", "_subject")

    def __init__(self, number: int, subject: str, takes: _Takes) -> None:
        self._id = number
        self._subject = subject
        self._pending_queue = takes
        self._pending_size = 0
        self._received = 0

    def _stop_processing(self) -> None:
        """Nothing of it runs."""


class _Takes:
    """Takes messages at once, in place of a queue."""

    def __init__(self, take: Any) -> None:
        self.put_nowait = take


class Ears:
    """Hears calls to the functions of a namespace; used as ``async with``.

    Args:
        nc: the connection in its account.
        server: answers.
        node: the id of this process among the replicas of its functions.
    """

    def __init__(self, nc: NatsClient, server: Server, node: str) -> None:
        self._nc = nc
        self._server = server
        self._node = node
        self._wanted: dict[str, bool] = {}
        self._ears: dict[str, _Ear] = {}
        self._leaving: list[_Ear] = []
        self._working: asyncio.Task[None] | None = None
        self._takes = _Takes(self._received)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._deadlines: Deadlines[str] = Deadlines(self._cancel)
        self._served: dict[str, Served] = {}
        self._numbers = itertools.count()
        self._closing = False
        self._other: list[Any] = []

    async def __aenter__(self) -> Ears:
        subscribe = self._nc.subscribe
        anybodys = f"{names.RPC}.*.$"
        self._other = [
            await subscribe(f"{anybodys}.$.cancel", cb=self._given_up),
            await subscribe(f"{anybodys}.{self._node}.*", cb=self._told),
        ]
        when_disconnected(self._nc, self._broken)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in [*self._ears]:
            self.listen(name, hear=False)
        await self.settled()
        await self._server.drain(_DRAIN)
        self._closing = True
        self._deadlines.close()
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        for served in self._served.values():
            served.close()
        for subscription in self._other:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    def listen(self, name: str, *, hear: bool = True) -> None:
        """Hear calls to a function soon, or no more."""
        self._wanted[name] = hear
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="ears")

    async def settled(self) -> None:
        """Wait until all is heard that is to be."""
        while self._working is not None and not self._working.done():
            await asyncio.wait([self._working])

    async def _work(self) -> None:
        while self._wanted:
            names_now = [*itertools.islice(self._wanted, SLICE)]
            for name in names_now:
                with contextlib.suppress(nats.errors.Error, OSError):
                    await self._change(name, hear=self._wanted.pop(name))
            await asyncio.sleep(0)
        await self._let_go()

    async def _change(self, name: str, *, hear: bool) -> None:
        ear = self._ears.get(name)
        nc = self._nc
        if hear and ear is None:
            nc._sid += 1
            ear = _Ear(nc._sid, f"{names.prefix(name)}*.*", self._takes)
            nc._subs[ear._id] = self._ears[name] = ear  # type: ignore[assignment]
            if nc.is_connected:
                await nc._send_subscribe(ear)  # type: ignore[arg-type]
        elif not hear and ear is not None:
            del self._ears[name]
            self._leaving.append(ear)
            if served := self._served.pop(name, None):
                served.close()
            if nc.is_connected:
                await nc._send_unsubscribe(ear._id)

    async def _let_go(self) -> None:
        """Forget those that hear no more, once what was sent to them has come."""
        leaving, self._leaving = self._leaving, []
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            if leaving and self._nc.is_connected:
                await settle(self._nc)
        for ear in leaving:
            self._nc._remove_sub(ear._id)

    def _received(self, msg: Msg) -> None:
        """A call; see `rpc.nats`, which says the same for services."""
        token, _, endpoint = msg.subject[_ROOT:].partition(".")
        headers = {context.title(name): value for name, value in (msg.headers or {}).items()}
        timeout = _timeout(headers.pop(context.TIMEOUT, None))
        opened = headers.pop(KIND, None)
        name = token.replace("~", ".")
        call = Call(name, endpoint, msg.data or b"{}", headers, timeout)
        key = msg.reply
        if not key or key in self._tasks:
            key = f"{key} {next(self._numbers)}"
        if opened is None:
            answering = self._answer(key, msg.reply, call)
        else:
            answering = self._stream(key, msg.reply, call, opened)
        self._tasks[key] = asyncio.create_task(answering)
        if call.timeout is not None:
            self._deadlines.add(key, call.timeout)

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
            if self._closing:
                detail = f"the host stopped before {call.service} {call.endpoint} answered"
                await self._refuse(reply, errors.InternalServerError(call.service, detail))
        finally:
            self._ended(key, call)

    async def _stream(self, key: str, reply: str, call: Call, kind: str) -> None:
        try:
            served = self._served.get(call.service)
            if served is None:
                made = Served(self._nc, self._server, call.service, self._node)
                served = self._served[call.service] = made
            if kind == OPEN:
                await served.answer(reply, call)
            elif kind == REPLIES:
                await served.tell(reply, call)
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

    async def _given_up(self, msg: Msg) -> None:
        """Somebody does not wait for an answer any more, perhaps one of somebody else's."""
        self._cancel(msg.data.decode("utf-8", "replace"))

    def _cancel(self, key: str) -> None:
        if task := self._tasks.get(key):
            task.cancel()

    async def _told(self, msg: Msg) -> None:
        """What the caller of a stream says."""
        name = msg.subject[_ROOT:].partition(".")[0].replace("~", ".")
        if served := self._served.get(name):
            await served.received(msg)

    def _broken(self) -> None:
        for served in self._served.values():
            served.fail_all()


_DRAIN = 10.0
