"""Whether a worker hangs: it does not answer, though it has used the processor for too long."""

from __future__ import annotations

import asyncio

from microcosmos.functions import cpu

from .worker import Worker

GRACE = 0.03
"""Seconds of the processor that a worker may use, beyond what a function may, before it has to
answer a BEAT."""

STUCK = 5.0
"""Seconds without an answer after which a worker hangs that uses no processor at all."""

_LOOK = 0.005


async def hangs(worker: Worker, burned: float) -> bool:
    """Whether a worker hangs. One that only waits for a busy machine is given all the time.

    Args:
        worker: that is suspected.
        burned: seconds of the processor that it has used unheard already.
    """
    loop = asyncio.get_running_loop()
    beat = worker.line.beat()
    began = loop.time()
    allowed = worker.patience + GRACE
    try:
        before = cpu.used(worker.pid) - burned
        last = before
        while not beat.done():
            now = cpu.used(worker.pid)
            if now - before >= allowed:
                return True
            if now - last >= _LOOK / 10:
                last, began = now, loop.time()
            elif loop.time() - began >= STUCK:
                return True
            await asyncio.wait((beat,), timeout=_LOOK)
    except ProcessLookupError:
        # It has died by itself.
        return False
    return False
