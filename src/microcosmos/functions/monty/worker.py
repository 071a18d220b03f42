"""The process that runs Python functions of one owner: frames in, sandboxes at work, frames out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import uvloop
from pydantic_monty import AsyncMonty

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.bodies import Inflow
from microcosmos.functions.interface import Unit
from microcosmos.rpc import frames
from microcosmos.rpc.line import Line

from .check import check
from .function import Function
from .host import Host
from .pool import SANDBOXES, Pool
from .program import program

_log = logging.getLogger(__name__)

_SPARE = 1
"""Processes of Monty beyond those that run functions, ready for the next."""

PATIENCE = 10.0
"""Seconds of silence after which a worker that leaves closes what lines are still open."""

LAST_WORDS = 1.0
"""Seconds that it has then to tell the host what that has not heard yet."""


def run(listener: socket.socket) -> None:
    """Work for whoever connects, until SIGTERM; ends the process."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(listener))
        # Threads of Monty may hold on to an interpreter that is being taken apart.
        os._exit(0)


async def _work(listener: socket.socket) -> None:
    most = SANDBOXES + _SPARE
    async with AsyncMonty(binary_path=program(), min_processes=_SPARE, max_processes=most) as monty:
        worker = Worker(monty)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.goaway.set)
        server = await loop.create_unix_server(worker.accept, sock=listener)
        telling = asyncio.create_task(worker.host.tell())
        await worker.goaway.wait()
        # A host that is started anew meanwhile may still come.
        await worker.leave()
        server.close()
        telling.cancel()


class Worker:
    """Functions by their slots, and the lines on which they are asked for.

    Attributes:
        host: the host's line, and what is told on it.
        goaway: set when the worker shall leave.

    Args:
        monty: where processes come from.
    """

    def __init__(self, monty: AsyncMonty) -> None:
        self.host = Host()
        self.goaway = asyncio.Event()
        self._monty = monty
        self._pool = Pool()
        self._slots = itertools.count(1)
        self._functions: dict[int, Function] = {}
        self._loading: dict[str, asyncio.Task[Function]] = {}
        self._lines: dict[Line, dict[int, _Task]] = {}
        self._leaving = False
        self._change = asyncio.Event()
        self._verbs: dict[str, Callable[[Line, bytes], Coroutine[Any, Any, bytes]]] = {
            wire.LOAD: self._load,
            wire.DROP: self._drop,
            wire.CHECK: self._check,
            wire.HOST: self._host,
            wire.EVENT: self._event,
        }

    def accept(self) -> Line:
        """A line for whoever connects."""
        line = Line(self._received, self._lost)
        self._lines[line] = {}
        if self._leaving:
            line.send(frames.GOAWAY, 0, b"")
        return line

    async def leave(self) -> None:
        """Ask for no new requests; returns when all lines have been closed, the host's by itself.

        What comes nevertheless is answered. Lines that nobody closes or uses are closed here.
        """
        self._leaving = True
        for line in self._lines:
            line.send(frames.GOAWAY, 0, b"")
        while not self._alone():
            self._change.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._change.wait()
                    continue
            if not any(self._lines.values()):
                break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self.host.last_told()
        for line in list(self._lines):
            line.close()
        self._pool.end()

    def _alone(self) -> bool:
        """Whether nobody can ask for anything any more, and nothing is under way."""
        return all(self.host.on(line) and not tasks for line, tasks in self._lines.items())

    def _lost(self, line: Line) -> None:
        for task in self._lines.pop(line).values():
            task.cancel()
        self._change.set()
        self.host.lost(line)

    def _received(self, line: Line, kind: int, number: int, payload: bytes) -> None:
        if number >= wire.ASKED:
            self.host.received(kind, number, payload)
        elif kind == frames.BEAT:
            line.send(frames.BEAT, number, payload)
        elif kind == frames.GOAWAY:
            self.goaway.set()
        elif kind in (frames.REQUEST, frames.OPEN):
            tasks = self._lines[line]
            if number in tasks:
                line.abort()
                return
            inflow = None
            if kind == frames.OPEN:
                inflow = Inflow(lambda kind, said: line.send(kind, number, said), lambda: None)
            task = asyncio.create_task(self._answer(line, number, payload, inflow))
            tasks[number] = _Task(task, inflow)
        elif known := self._lines[line].get(number):
            known.received(kind, payload)

    async def _answer(self, line: Line, number: int, payload: bytes, inflow: Inflow | None) -> None:
        """Answer one request, whatever happens."""
        try:
            said = await self._said(line, payload, inflow)
            kind = frames.REPLY
        except errors.Error as error:
            kind, said = frames.ERROR, error.to_wire()
        except asyncio.CancelledError:
            return
        except (msgspec.DecodeError, ValueError) as error:
            kind, said = frames.ERROR, errors.BadRequest("functions", str(error)).to_wire()
        except Exception as error:  # noqa: BLE001 - the others go on
            _log.exception("a request failed in the worker")
            kind, said = frames.ERROR, errors.from_exception(error, "functions").to_wire()
        finally:
            if tasks := self._lines.get(line):
                tasks.pop(number, None)
            self._change.set()
        if line.open:
            line.send(kind, number, said)

    async def _said(self, line: Line, payload: bytes, inflow: Inflow | None) -> bytes:
        slot, head, body = wire.unpack_request(payload)
        if not slot:
            word = head.decode("utf-8", "replace")
            if (verb := self._verbs.get(word)) is None:
                raise errors.BadRequest("functions", f"a worker knows no {word!r}")
            return wire.pack_reply(200, wire.JSON, b"", await verb(line, body))
        function = self._function(slot)
        try:
            body = await _whole(body, inflow, function.unit.limits.request)
        except errors.TooLarge as error:
            function.refused(error)
            raise
        return await function.request(head, body)

    def _function(self, slot: int) -> Function:
        if (function := self._functions.get(slot)) is None:
            raise errors.Unavailable("functions.unloaded", f"nothing is loaded as {slot}")
        return function

    async def _host(self, line: Line, body: bytes) -> bytes:
        self.host.found(line)
        return wire.encode([self._loaded(function) for function in self._functions.values()])

    async def _load(self, line: Line, body: bytes) -> bytes:
        unit = wire.decode_unit(body)
        task = self._loading.get(unit.key)
        if task is None:
            task = self._loading[unit.key] = asyncio.create_task(self._made(unit))
        # Others wait for the same; one who goes does not stop it.
        return wire.encode(self._loaded(await asyncio.shield(task)))

    async def _made(self, unit: Unit) -> Function:
        function = Function(unit, next(self._slots), self._monty, self._pool, self.host)
        try:
            await function.load()
        except BaseException:
            self._loading.pop(unit.key, None)
            raise
        self._functions[function.slot] = function
        return function

    async def _drop(self, line: Line, body: bytes) -> bytes:
        slot = msgspec.json.decode(body, type=wire.Slot).slot
        if function := self._functions.pop(slot, None):
            self._loading.pop(function.unit.key, None)
            function.drop()
        return b"null"

    async def _check(self, line: Line, body: bytes) -> bytes:
        return wire.encode(await check(self._monty, msgspec.json.decode(body, type=wire.Source)))

    async def _event(self, line: Line, body: bytes) -> bytes:
        event = msgspec.json.decode(body, type=wire.Event)
        function = self._function(event.slot)
        given = bytes(event.event)
        await function.event(event.handler, msgspec.json.decode(given), len(given))
        return b"null"

    @staticmethod
    def _loaded(function: Function) -> wire.Loaded:
        unit = function.unit
        return wire.Loaded(
            key=unit.key,
            slot=function.slot,
            heap=function.heap,
            namespace=unit.namespace,
            name=unit.name,
            number=unit.number,
        )


class _Task:
    """A request that is being answered."""

    def __init__(self, task: asyncio.Task[None], inflow: Inflow | None) -> None:
        self._task = task
        self._inflow = inflow

    def cancel(self) -> None:
        self._task.cancel()

    def received(self, kind: int, payload: bytes) -> None:
        """More of it, or a word on its answer, has come."""
        if kind == frames.CANCEL:
            self._task.cancel()
        elif self._inflow is None:
            return
        elif kind == frames.ITEM:
            self._inflow.take(payload)
        elif kind == frames.END:
            self._inflow.end()
        elif kind == frames.ERROR:
            self._inflow.end(errors.from_wire(payload))


async def _whole(body: bytes, inflow: Inflow | None, most: int) -> bytes:
    """The whole body of a request.

    Raises:
        errors.TooLarge: it has more than so many bytes.
    """
    parts, size = [body], len(body)
    if inflow is not None and size <= most:
        async for part in inflow:
            parts.append(part)
            size += len(part)
            if size > most:
                break
    if size > most:
        raise errors.TooLarge("functions.body", f"a body of more than {most:,} bytes")
    return b"".join(parts) if len(parts) > 1 else body
