"""The host's end of the zygote's socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from microcosmos.base import codec, errors, lifespan
from microcosmos.base.home import Home
from microcosmos.functions.page import Running
from microcosmos.functions.walls.names import VARIABLE

from .messages import LONGEST, Command, Exit, Said, Worker, decode_said, encode

_AGAIN = 0.02
"""Seconds between two attempts to reach a zygote that is away."""

_PATIENCE = 5.0
"""Seconds that a command waits for one that is being started again."""

_ATTEMPTS = 3
"""How often a command is given to zygotes that end before they have answered."""

_TIMEOUT = 15.0
"""Seconds for the answer to a command: longer than a worker may take to start."""

READY_LIMIT = 10.0
"""Seconds for a zygote of `open_zygote` to become ready."""


class ZygoteClient:
    """Asks for workers; entering connects, and from then on it connects again by itself.

    Args:
        path: the zygote's socket.
        ahead: what is done before a worker of a kind is asked for, as it would take the zygote, or
            the worker, too long.
    """

    def __init__(
        self, path: Path, ahead: Mapping[str, Callable[[], Awaitable[None]]] | None = None
    ) -> None:
        self._path = path
        self._ahead = ahead or {}
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Said | None]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._exited: Callable[[Exit], None] = lambda _: None
        self._lost: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    def listen(self, exited: Callable[[Exit], None], lost: Callable[[], None]) -> None:
        """Call back when a worker has ended, and when the zygote has, with all of its workers."""
        self._exited = exited
        self._lost = lost

    async def __aenter__(self) -> ZygoteClient:
        self._task = asyncio.create_task(self._stay(), name="zygote")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def start(self, kind: str, name: str, heap: int = 0) -> Worker:
        """Start a worker; it listens when this returns.

        Args:
            kind: see `kinds`.
            name: whom it serves.
            heap: bytes that it may use, if its kind can be told.

        Raises:
            errors.Unavailable: it could not be started, or there is no zygote.
        """
        if kind in self._ahead:
            await self._ahead[kind]()
        said = await self._ask(Command(0, "start", kind=kind, name=name, heap=heap))
        assert said.worker is not None
        return said.worker

    async def kill(self, pid: int, signal: int = 9) -> None:
        """Send a signal to a worker; one that has ended is no error.

        Raises:
            errors.Unavailable: there is no zygote.
        """
        await self._ask(Command(0, "kill", pid=pid, signal=signal))

    async def look(self, pid: int) -> Running:
        """What a worker runs at this moment.

        Raises:
            errors.Unavailable: there is no zygote.
        """
        return (await self._ask(Command(0, "look", pid=pid))).running or Running()

    async def living(self) -> list[Worker]:
        """The workers that live.

        Raises:
            errors.Unavailable: there is no zygote.
        """
        return (await self._ask(Command(0, "list"))).workers or []

    async def _ask(self, command: Command) -> Said:
        for _ in range(_ATTEMPTS):
            said = await self._say(command)
            if said is not None:
                break
        else:
            raise errors.Unavailable(
                "functions", "the zygote ends again and again; its log says why"
            )
        if said.error:
            raise errors.Unavailable(said.error_id or "functions", said.error)
        return said

    async def _say(self, command: Command) -> Said | None:
        """Give a command; None if the zygote ended before it had answered, with its workers."""
        id = next(self._ids)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._connected.wait()
            assert self._writer is not None
            future: asyncio.Future[Said | None] = asyncio.get_running_loop().create_future()
            self._waiting[id] = future
            self._writer.write(encode(msgspec.structs.replace(command, id=id)) + b"\n")
            async with asyncio.timeout(_TIMEOUT):
                return await future
        except TimeoutError:
            detail = "no worker can be had: the zygote is away; try again"
            raise errors.Unavailable("functions", detail) from None
        finally:
            self._waiting.pop(id, None)

    async def _stay(self) -> None:
        """Be connected."""
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(
                    self._path, limit=64 * LONGEST
                )
            except OSError:
                await asyncio.sleep(_AGAIN)
                continue
            self._connected.set()
            try:
                await self._read(reader)
            finally:
                self._connected.clear()
                self._writer.close()
                for future in self._waiting.values():
                    if not future.done():
                        future.set_result(None)
            self._lost()
            await asyncio.sleep(_AGAIN)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError, ValueError, *codec.DECODE_ERRORS):
            while line := await reader.readline():
                said = decode_said(line)
                if said.exit is not None:
                    self._exited(said.exit)
                elif (future := self._waiting.get(said.id)) and not future.done():
                    future.set_result(said)


@contextlib.asynccontextmanager
async def open_zygote(home: Home, *argv: str) -> AsyncIterator[ZygoteClient]:
    """Run a zygote while the block runs, and give its client; for who has no supervisor.

    Args:
        home: where its socket is; its folders exist.
        argv: what it is started with; this interpreter and the module unless said.

    Raises:
        errors.Unavailable: it did not become ready.
    """
    mine, theirs = os.pipe()
    lifeline, held = os.pipe()
    env = {
        "MICRO_HOME": os.fspath(home.path),
        "PATH": os.environ.get("PATH", os.defpath),
        lifespan.READY: str(theirs),
        lifespan.LIFELINE: str(lifeline),
        VARIABLE: os.environ.get(VARIABLE, ""),
    }
    command = argv or (sys.executable, "-m", __package__)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs, lifeline),
            start_new_session=True,
        )
    finally:
        os.close(theirs)
        os.close(lifeline)
    try:
        await _ready(mine)
        async with ZygoteClient(home.zygote_socket) as client:
            yield client
    finally:
        # Closing this end asks it to end, as the death of a supervisor does.
        os.close(held)
        await process.wait()


async def _ready(descriptor: int) -> None:
    """Wait for a byte."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        async with asyncio.timeout(READY_LIMIT):
            await readable.wait()
        word = os.read(descriptor, 1)
    except TimeoutError:
        word = b""
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    if not word:
        raise errors.Unavailable("functions", "the zygote could not start; its output says why")
