"""One process of Monty: what runs in it, what it may use, and what it asks for on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

import pydantic_monty as monty
from pydantic_monty import AsyncMontySession, MontyComplete

from microcosmos.functions.ended import ended
from microcosmos.functions.interface import Limits

from .process import Process

LOOK = 0.005
"""Seconds, at least, between two looks at the processor time of a sandbox."""

OVERTIME = 1.0
"""Seconds beyond four times its limit after which a sandbox stops itself, if its worker is gone."""

CALL = 512
"""Bytes of the stack that a call within a call counts."""

RANDOM = 64 * 1024
"""Bytes that ``os.urandom`` gives at once."""

_SUSPENSIONS = 2**31

Ask = Callable[..., Awaitable[Any]]
"""Does for a sandbox what it asks for; TypeError and ValueError are raised in there."""

Prints = Callable[[str, str], None]
"""Takes the name of a stream and what was printed to it; called in any thread."""


class Timed(Protocol):
    """A world with randomness and time of its own; see `timeless.Timeless`.

    Attributes:
        asks: what Monty asks of it on behalf of its own modules.
        awaited: those of them that are sleep to be awaited.
    """

    asks: Mapping[str, Ask]
    awaited: frozenset[str]

    def sleep(self, number: int, seconds: float) -> None:
        """Let an awaited sleep begin."""

    async def some(
        self, waiting: dict[int, asyncio.Task[Any]], pending: list[int]
    ) -> dict[int, Any]:
        """Results by number, as soon as there is one of those that are wanted."""


class Died(Exception):
    """The process of a sandbox is no more."""


class Sandbox:
    """A session of Monty in a process of its own; runs one thing at a time.

    Attributes:
        process: that it is in.

    Args:
        session: entered already.
    """

    def __init__(self, session: AsyncMontySession) -> None:
        self._session = session
        self.process = Process(session.worker_pid or 0)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._seen = 0.0
        self._overran = False

    async def load(self, state: bytes, *, seeded: bool = False) -> None:
        """Put a saved state in; its limits are those that it was saved with.

        Args:
            state: as of `save`.
            seeded: whether its randomness goes on as it was.

        Raises:
            Died: its process ended.
        """
        try:
            await self._session.load_session(state)
            if not seeded:
                # Else every sandbox that was made of this state would draw the same numbers.
                await self._session.feed_run("import random as _random\n_random.seed()")
        except monty.MontyCrashedError:
            raise Died from None

    async def save(self) -> bytes:
        """The state that it is in."""
        return await self._session.dump()

    async def run(
        self,
        code: str,
        *,
        limit: float,
        inputs: Mapping[str, Any] | None = None,
        asks: Mapping[str, Ask] | None = None,
        prints: Prints = lambda stream, text: None,
        world: Timed | None = None,
    ) -> Any:
        """Run code and return the value of its last expression.

        A plain call of one of ``asks`` waits in there; one whose name has ``async`` in it gives
        something to be awaited.

        Args:
            code: of Monty's Python.
            limit: seconds of the processor between two waits.
            inputs: names and values that the code finds.
            asks: what it may call.
            prints: takes what it prints.
            world: has randomness and time of its own.

        Raises:
            errors.Unavailable: it used too much of something.
            monty.MontyError: it failed.
            Died: its process ended.
        """
        known = {**_SYSTEM, **(asks or {}), **(world.asks if world is not None else {})}
        some = _some if world is None else world.some
        waiting: dict[int, asyncio.Task[Any]] = {}
        self._watch(limit)
        try:
            # What is no ask is answered by Monty itself: an unknown name, a module, a file.
            snapshot = await self._session.feed_start(
                code, inputs=dict(inputs or {}), external_lookup={}, print_callback=prints
            )
            while not isinstance(snapshot, MontyComplete):
                if isinstance(snapshot, monty.AsyncFutureSnapshot):
                    self._rest()
                    settled = await self._while_alive(some(waiting, snapshot.pending_call_ids))
                    self._watch(limit)
                    snapshot = await snapshot.resume(settled)
                elif not isinstance(snapshot, monty.AsyncFunctionSnapshot) or not (
                    ask := known.get(snapshot.function_name)
                ):
                    snapshot = await snapshot.resume_auto()
                elif "async" in snapshot.function_name:
                    if world is not None and snapshot.function_name in world.awaited:
                        world.sleep(snapshot.call_id, *snapshot.args)
                    else:
                        call = _result(ask, snapshot.args)
                        waiting[snapshot.call_id] = asyncio.create_task(call)
                    snapshot = await snapshot.resume({"future": ...})
                else:
                    self._rest()
                    result = await self._while_alive(_result(ask, snapshot.args))
                    self._watch(limit)
                    snapshot = await snapshot.resume(result)
            return snapshot.output
        except monty.MontyCrashedError:
            if self._overran:
                used = self._seen - (self._until - limit)
                raise ended("cpu", Limits(cpu=limit), used) from None
            raise Died from None
        finally:
            self._rest()
            for task in waiting.values():
                task.cancel()

    async def close(self) -> None:
        """Let go of it; its process, if it lives, is used again."""
        self._rest()
        # A session that was cut off says so once more.
        with contextlib.suppress(monty.MontyError, RuntimeError):
            await self._session.__aexit__(None, None, None)
        self.process.close()

    async def _while_alive(self, answer: Coroutine[Any, Any, Any]) -> Any:
        """An answer for the sandbox, unless that dies meanwhile."""
        task = asyncio.create_task(answer)
        try:
            await asyncio.wait((task, self.process.death), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Died
            return task.result()
        finally:
            task.cancel()

    def _watch(self, limit: float) -> None:
        self._until = self.process.cpu + limit
        self._timer = self._loop.call_later(limit, self._look)

    def _look(self) -> None:
        self._seen = self.process.cpu
        if (left := self._until - self._seen) > 0:
            self._timer = self._loop.call_later(max(left, LOOK), self._look)
        else:
            self._overran = True
            self.process.kill()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def open_sandbox(
    pool: monty.AsyncMonty, *, name: str, limits: Limits, policy: Any = None
) -> Sandbox:
    """A new sandbox.

    Args:
        pool: where processes come from.
        name: of the file that runs, for errors.
        limits: of what runs in it.
        policy: where its randomness and its time come from; from the system unless said.

    Raises:
        Died: the process ended before it could be used.
    """
    session = pool.checkout(
        script_name=name,
        limits={
            "max_memory": limits.heap,
            "max_recursion_depth": limits.stack // CALL,
            "max_suspensions": _SUSPENSIONS,
            # Its processor time is watched from outside. This is for one whose worker died.
            "max_turn_duration_secs": 4 * limits.cpu + OVERTIME,
        },
        assert_message_annotations=False,
        os_policy=policy,
    )
    try:
        await session.__aenter__()
        return Sandbox(session)
    except (monty.MontyCrashedError, ProcessLookupError):
        raise Died from None


async def _result(ask: Ask, arguments: tuple[Any, ...]) -> Any:
    """What a sandbox is told about something that it asked for."""
    try:
        return {"return_value": await ask(*arguments)}
    except TypeError as error:
        return {"exc_type": "TypeError", "message": str(error)}
    except ValueError as error:
        return {"exc_type": "ValueError", "message": str(error)}


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def _random(size: int) -> bytes:
    if not 0 <= size <= RANDOM:
        raise ValueError(f"os.urandom gives {RANDOM} bytes at once, no more")
    return os.urandom(size)


_SYSTEM: dict[str, Ask] = {
    "system.sleep": _sleep,
    "system.async_sleep": _sleep,
    "os.urandom": _random,
}
"""What Monty asks for on behalf of its own modules."""


async def _some(waiting: dict[int, asyncio.Task[Any]], pending: list[int]) -> dict[int, Any]:
    """Results by number, as soon as there is one of those that are wanted."""
    tasks = [waiting[number] for number in pending]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    done = [number for number in pending if waiting[number].done()]
    return {number: waiting.pop(number).result() for number in done}
