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
from microcosmos.functions.ended import ended, logs_cut
from microcosmos.functions.failing import kind_of
from microcosmos.functions.interface import Limits, Unit
from microcosmos.functions.replay import World

from . import answers
from .host import Host, encoded
from .pool import Pool, Shelf
from .sandbox import Ask, Died, Prints, Sandbox, open_sandbox
from .timeless import Timeless, policy

LOAD_CPU = 1.0
"""Seconds of the processor that a function may take to load."""

LOAD_WALL = 5.0
"""Seconds that it may take in all."""

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
        # As the code has left it when it was loaded, if it is replayed.
        self._world: World | None = None

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
            self._monty,
            name=unit.main,
            limits=unit.limits,
            policy=None if unit.replay is None else policy(unit.replay),
        )
        try:
            if self._state:
                await sandbox.load(self._state, seeded=unit.replay is not None)
            else:
                async with asyncio.timeout(LOAD_WALL):
                    await self._first(sandbox)
        except TimeoutError:
            await _thrown_away(sandbox)
            raise self._fails_to_load(f"it takes more than {LOAD_WALL:g} s") from None
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
                # A new one: what died of it may have begun to look at the one before.
                self._world = None if unit.replay is None else World(unit.replay)
                world = None if self._world is None else Timeless(self._world)
                await sandbox.run(unit.code, limit=LOAD_CPU, prints=prints, world=world)
            found = await sandbox.run(_ENV + "_found", limit=LOAD_CPU, inputs=given)
        except MontyError as error:
            said = answers.place(error, _OWN, unit.main)
            raise errors.InternalServerError("functions.load", said) from None
        except errors.Unavailable:
            why = f"it takes more than {LOAD_CPU:g} s of the processor"
            raise self._fails_to_load(why) from None
        if not found:
            raise errors.InternalServerError(
                "functions.load", f"{unit.main} has no handler(request, env), consume or scheduled"
            )
        self._handlers = frozenset(found)
        self._state = await sandbox.save()

    def _fails_to_load(self, why: str) -> errors.InternalServerError:
        detail = f"{self.unit.main} fails when it is loaded: {why}"
        return errors.InternalServerError("functions.load", detail)

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
        return await self._run("handler", said, trace, len(body))

    def refused(self, error: errors.Error) -> None:
        """A request was refused before it had come wholly."""
        meter = _Meter(self, self._host, 0)
        meter.failed = error.id
        meter.end()

    async def event(self, handler: str, event: Any, size: int) -> None:
        """Let it handle an event, whose JSON has so many bytes.

        Raises:
            errors.Error: it failed, or has no such handler.
        """
        await self._run(handler, event, "", size)

    def drop(self) -> None:
        """Let go of its sandboxes."""
        self._pool.close(self._shelf)

    async def _run(self, handler: str, said: Any, trace: str, size: int) -> bytes:
        limits = self.unit.limits
        meter = _Meter(self, self._host, size)
        if (refusal := self._refusal(handler)) is not None:
            meter.failed = refusal.id
            meter.end()
            self._host.log(self.slot, "error", str(refusal), trace)
            raise refusal
        self.busy += 1
        try:
            async with asyncio.timeout(limits.wall):
                sandbox = await self._pool.take(self._shelf)
                value = await self._lent(sandbox, handler, said, trace, meter)
            if handler != "handler":
                return b""
            reply, meter.body = answers.payload(value, limits)
            return reply
        except TimeoutError:
            late = ended("wall", limits)
            meter.failed = late.id
            self._host.log(self.slot, "error", str(late), trace)
            raise late from None
        except errors.Error as error:
            meter.failed = error.id
            if error.id != "functions.exception":
                self._host.log(self.slot, "error", str(error), trace)
            raise
        finally:
            self.busy -= 1
            meter.end()

    def _refusal(self, handler: str) -> errors.Error | None:
        """What keeps a request or an event from being begun."""
        if handler not in self._handlers:
            detail = f"{self.unit.main} has no {handler}(…) for this"
            return errors.Unimplemented("functions.handler", detail)
        if self.busy >= self.unit.limits.concurrency:
            return ended("concurrency", self.unit.limits)
        return None

    @contextmanager
    def _log(self, trace: str) -> Iterator[Prints]:
        """Takes what is printed in the meantime."""
        log = self._host.log
        printer = _Printer(self.unit.limits, lambda level, text: log(self.slot, level, text, trace))
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
                    world=None if self._world is None else Timeless(self._world.copy()),
                )
            # In a replay the next one begins anew.
            good = self._world is None
            return value
        except Died:
            raise errors.Unavailable("functions.lost", "the sandbox of the function died") from None
        except MontyError as error:
            failure = answers.failed(error, self.unit.limits)
            # What stopped at a limit may have stopped anywhere.
            thrown = failure.id == "functions.exception"
            good = thrown and self._world is None
            if thrown:
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

    def __init__(self, function: Function, host: Host, size: int) -> None:
        self._function = function
        self._host = host
        self._begun = time.perf_counter_ns()
        self._size = size
        self.cpu = 0.0
        self.fetches = 0
        self.body = 0
        self.failed = ""

    def end(self) -> None:
        """Count it."""
        slot, heap = self._function.slot, self._function.heap
        took = time.perf_counter_ns() - self._begun
        counts = self._host.counts(slot)
        counts.requests += 1
        if self.failed:
            counts.fail(kind_of(self.failed))
        counts.request_bytes += self._size
        counts.response_bytes += self.body
        counts.execution_ns += took
        counts.heap = max(counts.heap, heap)
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
        self._under_way = asyncio.Semaphore(self._limits.at_once)
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
        async with self._under_way:
            return await self._host.fetch(self._slot, fetch, self._limits.response)

    async def _use(self, binding: str, verb: str, arguments: str) -> Any:
        self._count()
        given = msgspec.json.decode(arguments)
        use = wire.Use(binding=binding, verb=verb, arguments=given, trace=self._trace)
        async with self._under_way:
            return await self._host.use(self._slot, use, self._limits.response)

    def _count(self) -> None:
        if self._meter.fetches >= self._limits.fetches:
            raise ended("fetches", self._limits)
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

    def __init__(self, limits: Limits, log: Callable[[str, str], None]) -> None:
        self._limits = limits
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._begun = ""
        self._left = limits.logs

    def printed(self, stream: str, text: str) -> None:
        """Something was printed."""
        self._loop.call_soon_threadsafe(self._take, _LEVELS.get(stream, "info"), text)

    def end(self) -> None:
        """Nothing more is printed; what has no end of line yet is a line."""
        self._loop.call_soon(self._take, "info", "\n" if self._begun else "")

    def _take(self, level: str, text: str) -> None:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._line(level, line[:LOG_LINE])
        self._begun = self._begun[:LOG_LINE]

    def _line(self, level: str, line: str) -> None:
        before, self._left = self._left, self._left - len(line.encode("utf-8", "replace"))
        if self._left >= 0:
            self._log(level, line)
        elif before >= 0:
            self._log("warn", logs_cut(self._limits))


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
