"""Whether a worker hangs: it does not answer, though it has used the processor for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from microcosmos.base import errors
from microcosmos.functions import cpu
from microcosmos.functions.page import Running
from microcosmos.functions.watch import BLOCKED

from .faults import Hang
from .worker import Worker

GRACE = 0.03
"""Seconds of the processor that a worker may use, beyond what a function may, before it has to
answer a BEAT."""

STUCK = 5.0
"""Seconds without an answer after which a worker hangs that uses no processor at all."""

CHANCES = 3
"""How often a worker that does not answer may be seen to run something else than before, which
has as much of the processor of its own."""

_LOOK = 0.005

Look = Callable[[int], Awaitable[Running]]
"""Gives what a worker runs at this moment."""


async def hangs(
    worker: Worker, burned: float, since: float, owed: Iterable[str], look: Look
) -> Hang | None:
    """What keeps a worker from answering; None if it answers.

    One that only waits for a busy machine is given all the time.

    Args:
        worker: that is suspected.
        burned: seconds of the processor that it has used unheard already.
        since: seconds of the processor that it had used in its life when it was last heard.
        owed: keys of what is under way in it; more may come.
        look: gives what it runs.
    """
    loop = asyncio.get_running_loop()
    beat = worker.line.beat()
    began, chances = loop.time(), CHANCES
    try:
        before = cpu.used(worker.pid) - burned
        last = before
        now = await _look(look, worker.pid)
        allowed = await worker.patience(now, owed)
        while not beat.done():
            used = cpu.used(worker.pid)
            if used - before >= allowed + GRACE:
                then, now = now, await _look(look, worker.pid)
                if now == then or not chances:
                    return Hang(allowed, since or before)
                before, chances = used, chances - 1
                allowed = await worker.patience(now, owed)
            if used - last >= _LOOK / 10:
                last, began = used, loop.time()
            elif _still(worker.pid, loop.time() - began):
                return Hang(0.0, since or before)
            await asyncio.wait((beat,), timeout=_LOOK)
    except ProcessLookupError:
        # It has died by itself.
        return None
    return None


def _still(pid: int, silent: float) -> bool:
    """Whether a worker that has used no processor for so long will never answer by itself."""
    return silent >= STUCK or (silent >= BLOCKED and cpu.asleep(pid))


async def _look(look: Look, pid: int) -> Running:
    try:
        return await look(pid)
    except errors.Error:
        # The zygote is away, and the worker with it.
        return Running()
