"""Requests as they are handed from Granian to an application, and from one application to another.

An application of RSGI is a coroutine a request, in a task of its own. Ours may have `begin` beside
that: a plain function that gives such a coroutine, or None once it has seen to the answer itself.
A task, a coroutine and a future cost more than all that most requests need.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from granian._granian import CallbackScheduler

from microcosmos.base import context

from .request import Changed

TRACE = context.TRACE.lower()
"""The header of a request's trace."""


class Note(Protocol):
    """What travels beside a request that is begun.

    Attributes:
        trace: of the request; its header need not say so. Empty if that is all there is.
    """

    trace: str

    def over(self) -> None:
        """It has been answered; not called where there is a coroutine that ends then."""


Begin = Callable[[Any, Any, Note | None], Awaitable[None] | None]
"""Begins a request, given its scope and its exchange."""


def begin_of(app: Any) -> Begin:
    """How an application begins requests; one that knows nothing of it is a coroutine."""
    if (begin := getattr(app, "begin", None)) is not None:
        known: Begin = begin
        return known
    return partial(_told, app.__rsgi__)


def _told(answer: Any, scope: Any, proto: Any, note: Note | None) -> Any:
    return answer(traced(scope, note), proto)


def traced(scope: Any, note: Note | None) -> Any:
    """A scope whose headers say what a note does."""
    if note is None or not note.trace:
        return scope
    # The last one wins over one that is none.
    return Changed(scope, [*scope.headers.items(), (TRACE, note.trace)])


class Handing(CallbackScheduler):
    """Takes requests from Granian's threads to the loop's, all that have come in one turn of it.

    Args:
        loop: where they are answered.
        begin: begins one.
    """

    def __new__(cls, loop: asyncio.AbstractEventLoop, begin: Begin) -> Handing:
        # What else the base takes is for a way to run coroutines that is not used here.
        base: Any = super()
        made: Handing = base.__new__(cls, loop, begin, None, int, int)
        return made

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: Begin) -> None:
        super().__init__()
        self._schedule_fn = _schedule(loop, begin, self._ctx)


def _schedule(loop: asyncio.AbstractEventLoop, begin: Begin, where: Any) -> Callable[[Any], None]:
    waiting: deque[Any] = deque()
    woken = False
    call_soon = loop.call_soon_threadsafe

    def schedule(watcher: Any) -> None:
        nonlocal woken
        waiting.append(watcher)
        if not woken:
            woken = True
            call_soon(run, context=where)

    def run() -> None:
        nonlocal woken
        # Before they are counted: whoever comes now is counted, or wakes the loop again.
        woken = False
        for _ in range(len(waiting)):
            watcher = waiting.popleft()
            try:
                coming = begin(watcher.scope, watcher.proto, None)
            except BaseException as exc:  # noqa: BLE001 - whatever it is, it ends this request alone
                watcher.err(exc)
                continue
            if coming is not None:
                watcher.taskref(loop.create_task(_watched(coming, watcher)))
        if waiting and not woken:
            woken = True
            loop.call_soon(run, context=where)

    return schedule


async def _watched(coming: Awaitable[None], watcher: Any) -> None:
    try:
        await coming
    except BaseException as exc:  # noqa: BLE001 - Granian is told of all
        watcher.err(exc)
        return
    watcher.done()


def answers(task: asyncio.Task[Any]) -> bool:
    """Whether a task is one that was made for a request."""
    return getattr(task.get_coro(), "__qualname__", "") == _watched.__qualname__
