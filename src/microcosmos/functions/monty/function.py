"""One loaded function: its requests and events, and what they use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from pydantic_monty import AsyncMonty, MontyError

from microcosmos.base import context, errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Unit

from . import answers
from .host import Host, encoded
from .pool import Pool, Shelf
from .sandbox import Ask, Died, Prints, Sandbox, open_sandbox

LOAD_CPU = 1.0
"""Seconds of the processor that a function may take to load."""

LOAD_WALL = 5.0
"""Seconds that it may take in all."""

LOG_LINES = 1000
"""Lines that one request may write to the log."""

LOG_LINE = 16 * 1024
"""Characters of a line of the log; what is longer is cut."""

PRELUDE = (Path(__file__).parent / "prelude.txt").read_text("utf-8")

_OWN = "<python-input-1>"
"""What Monty calls the function's file: the second thing that a sandbox is given."""

_HANDLERS = {"handler": "_handle(_said)", "consume": "_consume(_said)"}
_HANDLERS["scheduled"] = "_scheduled(_said)"

_ENV = "_env = _Env(_variables, _grants)\n_found = []\n" + "".join(
    f"try:\n    {name}\n    _found.append({name!r})\nexcept NameError:\n    pass\n"
    for name in _HANDLERS
)

_TRACE = context.TRACE.lower()

_LEVELS = {"stdout": "info", "stderr": "error"}


class _Asked(msgspec.Struct, frozen=True):
    """What the prelude's ``_asked`` makes."""

    url: str
    method: str
    headers: list[tuple[str, str]]
    body: bytes | None
    redirect: str


class Function:
    """A function that is loaded.

    Attributes:
        slot: its number.
        unit: what it is.
        busy: how many requests and events are under way.

    Args:
        unit: what it is.
        slot: its number.
        monty: where processes come from.
        pool: counts and keeps its sandboxes.
        host: is asked for what it may not do itself.
    """

    def __init__(self, unit: Unit, slot: int, monty: AsyncMonty, pool: Pool, host: Host) -> None:
        self.unit = unit
        self.slot = slot
        self.busy = 0
        self._monty = monty
        self._pool = pool
        self._host = host
        self._state = b""
        self._handlers: frozenset[str] = frozenset()
        self._seen = 0
        self._shelf = Shelf(self._make)

    @property
    def heap(self) -> int:
        """Bytes of memory that it takes, as last seen."""
        return self._seen * (len(self._shelf.idle) + self.busy) + len(self._state)

    async def load(self) -> None:
        """Run its code, once, and keep what that has made.

        Raises:
            errors.InternalServerError: the code fails.
        """
        sandbox = await self._pool.take(self._shelf)
        self._pool.give(self._shelf, sandbox)
        self._host.counts(self.slot).cold_starts += 1
        self._host.count(self.slot, self.heap)

    async def _make(self) -> Sandbox:
        try:
            return await self._made()
        except Died:
            # A process may have died while it waited for work. Code that kills does so again.
            pass
        try:
            return await self._made()
        except Died:
            raise errors.Unavailable("functions.lost", "its sandbox dies of its code") from None

    async def _made(self) -> Sandbox:
        unit = self.unit
        sandbox = await open_sandbox(
            self._monty, name=unit.main, limit=unit.limits.cpu, heap=unit.limits.heap
        )
        try:
            if self._state:
                await sandbox.load(self._state)
            else:
                async with asyncio.timeout(LOAD_WALL):
                    await self._first(sandbox)
        except TimeoutError:
            await _thrown_away(sandbox)
            raise answers.limit("wall", f"more than {LOAD_WALL:g} s to load") from None
        except BaseException:
            await _thrown_away(sandbox)
            raise
        self._seen = sandbox.process.heap
        return sandbox

    async def _first(self, sandbox: Sandbox) -> None:
        unit = self.unit
        given = {"_variables": unit.env, "_grants": _words(unit.grants)}
        try:
            await sandbox.run(PRELUDE, limit=LOAD_CPU)
            with self._log("") as prints:
                await sandbox.run(unit.code, limit=LOAD_CPU, prints=prints)
            found = await sandbox.run(_ENV + "_found", limit=LOAD_CPU, inputs=given)
        except MontyError as error:
            said = answers.place(error, _OWN, unit.main)
            raise errors.InternalServerError("functions.load", said) from None
        if not found:
            raise errors.InternalServerError(
                "functions.load", f"{unit.main} has no handler(request, env), consume or scheduled"
            )
        self._handlers = frozenset(found)
        self._state = await sandbox.save()

    async def request(self, head: bytes, body: bytes) -> bytes:
        """Answer a request; returns the payload of the REPLY.

        Raises:
            errors.Error: it failed.
        """
        method, url, params, headers, path = head.decode("utf-8", "replace").split("\n", 4)
        pairs = wire.decode_headers(headers)
        said = {
            "method": method,
            "url": url,
            "headers": pairs,
            "path": path,
            "query": _query(url),
            "params": msgspec.json.decode(params) if params else {},
            "body": body,
        }
        trace = next((value for name, value in pairs if name.lower() == _TRACE), "")
        return await self._run("handler", said, trace)

    async def event(self, handler: str, event: Any) -> None:
        """Let it handle an event.

        Raises:
            errors.Error: it failed, or has no such handler.
        """
        await self._run(handler, event, "")

    def drop(self) -> None:
        """Let go of its sandboxes."""
        self._pool.close(self._shelf)

    async def _run(self, handler: str, said: Any, trace: str) -> bytes:
        limits = self.unit.limits
        if handler not in self._handlers:
            raise errors.Unimplemented(
                "functions.handler", f"{self.unit.main} has no {handler}(…) for this"
            )
        if self.busy >= limits.concurrency:
            raise answers.limit(
                "concurrency", f"more than {limits.concurrency:,} requests at a time"
            )
        meter = _Meter(self, self._host)
        self.busy += 1
        try:
            async with asyncio.timeout(limits.wall):
                sandbox = await self._pool.take(self._shelf)
                value = await self._lent(sandbox, handler, said, trace, meter)
            if handler != "handler":
                return b""
            reply, meter.body = answers.payload(value, limits.response)
            return reply
        except TimeoutError:
            meter.failed = True
            raise answers.limit("wall", f"more than {limits.wall:g} s until the answer") from None
        except errors.Error as error:
            meter.failed = True
            if error.id != "functions.exception":
                self._host.log(self.slot, "error", str(error), trace)
            raise
        except asyncio.CancelledError:
            meter.answered = False
            raise
        finally:
            self.busy -= 1
            meter.end()

    @contextmanager
    def _log(self, trace: str) -> Iterator[Prints]:
        """Takes what is printed in the meantime."""
        printer = _Printer(lambda level, text: self._host.log(self.slot, level, text, trace))
        try:
            yield printer.printed
        finally:
            printer.end()

    async def _lent(
        self, sandbox: Sandbox, handler: str, said: Any, trace: str, meter: _Meter
    ) -> Any:
        """Run a handler in a sandbox, and give that back if it may be used again."""
        good, before = False, sandbox.process.cpu
        asks = _Asks(self, meter, trace, self._host).by_name
        try:
            with self._log(trace) as prints:
                value = await sandbox.run(
                    f"await {_HANDLERS[handler]}",
                    limit=self.unit.limits.cpu,
                    inputs={"_said": said},
                    asks=asks,
                    prints=prints,
                )
            good = True
            return value
        except Died:
            raise errors.Unavailable("functions.lost", "the sandbox of the function died") from None
        except MontyError as error:
            failure = answers.failed(error)
            # What stopped at a limit may have stopped anywhere.
            good = failure.id == "functions.exception"
            if good:
                said = answers.trace(error, _OWN, self.unit.main)
                self._host.log(self.slot, "error", said, trace)
            raise failure from None
        finally:
            meter.cpu += sandbox.process.cpu - before
            if good:
                self._seen = sandbox.process.heap
                self._pool.give(self._shelf, sandbox)
            else:
                self._pool.discard(sandbox)


class _Meter:
    """What one request has used."""

    def __init__(self, function: Function, host: Host) -> None:
        self._function = function
        self._host = host
        self._begun = time.perf_counter_ns()
        self.cpu = 0.0
        self.fetches = 0
        self.body = 0
        self.failed = False
        self.answered = True

    def end(self) -> None:
        """Count it."""
        slot, heap = self._function.slot, self._function.heap
        took = time.perf_counter_ns() - self._begun
        counts = self._host.counts(slot)
        counts.requests += self.answered
        counts.errors += self.failed
        counts.response_bytes += self.body
        counts.execution_ns += took
        counts.byte_ms += heap * took // 1_000_000
        counts.cpu_ns += int(self.cpu * 1e9)
        counts.fetches += self.fetches
        self._host.count(slot, heap)


class _Asks:
    """What a function may ask for while it handles one request.

    Attributes:
        by_name: as the prelude calls it.
    """

    def __init__(self, function: Function, meter: _Meter, trace: str, host: Host) -> None:
        self._slot = function.slot
        self._limits = function.unit.limits
        self._meter = meter
        self._trace = trace
        self._host = host
        self.by_name: Mapping[str, Ask] = {
            "_fetch": _told(self._fetch),
            "_fetch_async": _told(self._fetch),
            "_use": _told(self._use),
        }

    async def _fetch(self, said: Any) -> Any:
        self._count()
        asked = msgspec.convert(said, _Asked)
        fetch = wire.Fetch(
            url=asked.url,
            method=asked.method,
            headers=asked.headers,
            body=encoded(asked.body),
            redirect=asked.redirect,
            trace=self._trace,
        )
        return await self._host.fetch(self._slot, fetch, self._limits.response)

    async def _use(self, binding: str, verb: str, arguments: str) -> Any:
        self._count()
        given = msgspec.json.decode(arguments)
        use = wire.Use(binding=binding, verb=verb, arguments=given, trace=self._trace)
        return await self._host.use(self._slot, use, self._limits.response)

    def _count(self) -> None:
        most = self._limits.fetches
        if self._meter.fetches >= most:
            raise answers.limit(
                "fetches", f"more than {most} sub-requests and uses of bindings in one request"
            )
        self._meter.fetches += 1


def _told(ask: Ask) -> Ask:
    """The same, but an error is told in a form that the prelude's ``_taken`` knows."""

    async def told(*arguments: Any) -> dict[str, Any]:
        try:
            return {"value": await ask(*arguments)}
        except errors.Error as error:
            fields = ("code", "id", "detail", "status")
            return {name: getattr(error, name) for name in fields}

    return told


class _Printer:
    """Makes lines of what is printed; it comes in pieces, and in any thread."""

    def __init__(self, log: Callable[[str, str], None]) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._begun = ""
        self._left = LOG_LINES

    def printed(self, stream: str, text: str) -> None:
        """Something was printed."""
        self._loop.call_soon_threadsafe(self._take, _LEVELS.get(stream, "info"), text)

    def end(self) -> None:
        """Nothing more is printed; what has no end of line yet is a line."""
        self._loop.call_soon(self._take, "info", "\n" if self._begun else "")

    def _take(self, level: str, text: str) -> None:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines[: max(self._left, 0)]:
            self._log(level, line[:LOG_LINE])
        if 0 <= self._left < len(lines):
            self._log("warn", f"one request may log {LOG_LINES:,} lines; the rest is left out")
            self._left = 0
        self._left -= len(lines)
        self._begun = self._begun[:LOG_LINE]


async def _thrown_away(sandbox: Sandbox) -> None:
    sandbox.process.kill()
    await sandbox.close()


def _words(grants: list[str]) -> list[str]:
    """The grants without what narrows them: ``call:users`` is ``call``."""
    return [grant.partition(":")[0] for grant in grants]


def _query(url: str) -> dict[str, Any]:
    """The parameters of a URL: a text each, of those that are repeated a list."""
    text = url.partition("#")[0].partition("?")[2]
    query: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True) if text else ():
        if name not in query:
            query[name] = value
        elif isinstance(known := query[name], list):
            known.append(value)
        else:
            query[name] = [known, value]
    return query
