"""The sandboxes of a worker, lent to its functions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from .sandbox import Sandbox

SANDBOXES = 64
"""Sandboxes of one worker: so many requests of one owner's Python functions run at a time."""

IDLE = 4
"""Sandboxes of one function that are kept when nothing runs in them."""

Make = Callable[[], Awaitable[Sandbox]]
"""Makes a sandbox with a function in it."""


class Shelf:
    """The sandboxes of one function.

    Args:
        make: makes one more.
    """

    def __init__(self, make: Make) -> None:
        self.make = make
        self.idle: list[Sandbox] = []
        self.closed = False


class Pool:
    """Lends sandboxes, and makes no more than there may be.

    Who waits is served in turn. Where all are taken, one that is idle makes room: of the function
    that has not been asked for the longest.
    """

    def __init__(self, most: int = SANDBOXES) -> None:
        self._most = most
        self._live = 0
        self._shelves: dict[Shelf, None] = {}
        self._waiting: deque[tuple[Shelf, asyncio.Future[Sandbox | None]]] = deque()
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self, shelf: Shelf) -> Sandbox:
        """A sandbox of a function, until it is given back or thrown away."""
        self._shelves.pop(shelf, None)
        self._shelves[shelf] = None
        while shelf.idle:
            sandbox = shelf.idle.pop()
            if sandbox.process.lives:
                return sandbox
            self._end(sandbox)
        if not self._make_room():
            waiter: asyncio.Future[Sandbox | None]
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((shelf, waiter))
            try:
                if (given := await waiter) is not None:
                    return given
            except asyncio.CancelledError:
                self._unwait(shelf, waiter)
                raise
        try:
            return await shelf.make()
        except BaseException:
            self._freed()
            raise

    def give(self, shelf: Shelf, sandbox: Sandbox) -> None:
        """Give one back that is as it was."""
        while self._waiting:
            other, waiter = self._waiting[0]
            if waiter.done():
                self._waiting.popleft()
            elif other is shelf:
                self._waiting.popleft()
                waiter.set_result(sandbox)
                return
            else:
                self._end(sandbox)
                return
        if shelf.closed or len(shelf.idle) >= IDLE:
            self._end(sandbox)
        else:
            shelf.idle.append(sandbox)

    def discard(self, sandbox: Sandbox) -> None:
        """Throw one away that nobody knows the state of."""
        sandbox.process.kill()
        self._end(sandbox)

    def close(self, shelf: Shelf) -> None:
        """A function is no more; its sandboxes go as they come back."""
        shelf.closed = True
        self._shelves.pop(shelf, None)
        while shelf.idle:
            self._end(shelf.idle.pop())

    def end(self) -> None:
        """Kill what is idle: the worker ends."""
        for shelf in self._shelves:
            for sandbox in shelf.idle:
                sandbox.process.kill()

    def _make_room(self) -> bool:
        if self._live >= self._most:
            full = next((shelf for shelf in self._shelves if shelf.idle), None)
            if full is None:
                return False
            # Its process comes back to Monty before a new session asks for one.
            self._end(full.idle.pop())
        self._live += 1
        return True

    def _end(self, sandbox: Sandbox) -> None:
        task = asyncio.create_task(sandbox.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        self._freed()

    def _freed(self) -> None:
        """There is room for one more: whoever waits has it."""
        self._live -= 1
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                self._live += 1
                waiter.set_result(None)
                return

    def _unwait(self, shelf: Shelf, waiter: asyncio.Future[Sandbox | None]) -> None:
        """Nobody waits there any more, though something may have come already."""
        if waiter.cancelled() or not waiter.done():
            return
        if (sandbox := waiter.result()) is not None:
            self.give(shelf, sandbox)
        else:
            self._freed()
