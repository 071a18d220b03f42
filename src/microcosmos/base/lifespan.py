"""A child's side of its life under the supervisor: say that it is ready, hear that it is alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

from .tasks import background

READY = "MICRO_READY_FD"
"""The descriptor on which a child says, once, that it is ready."""

LEAVE = signal.SIGUSR1
"""Asks a gateway to end, because another one now serves on its socket."""

LIFELINE = "MICRO_LIFELINE"
"""The descriptor whose end of file tells a child that the supervisor is gone."""


def report_ready() -> None:
    """Tell the supervisor that this process answers now; nothing happens without one."""
    # Taken out, so that this process' own children do not speak for it.
    descriptor = _descriptor(os.environ.pop(READY, ""))
    if descriptor is None:
        return
    with contextlib.suppress(OSError):
        os.write(descriptor, b"1")
    with contextlib.suppress(OSError):
        os.close(descriptor)


@contextlib.asynccontextmanager
async def stop_asked(*, interrupts: bool) -> AsyncIterator[asyncio.Event]:
    """The event of being asked to stop: by SIGTERM, or because the supervisor is gone.

    Args:
        interrupts: whether Ctrl-C asks too. It reaches every process of a terminal's group, so
            a child leaves it to the supervisor to say what it means.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    loop.add_signal_handler(signal.SIGINT, asked.set if interrupts else lambda: None)

    async def orphaned() -> None:
        await lifeline_closed()
        asked.set()

    async with background(orphaned(), "lifeline"):
        yield asked


async def lifeline_closed() -> None:
    """Return once the supervisor is gone; never, in a process that has none."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    descriptor = _descriptor(os.environ.get(LIFELINE, ""))
    if descriptor is None:
        await closed.wait()
        return
    try:
        # A descriptor of our own, so that several tasks may wait on one line.
        mine = os.dup(descriptor)
    except OSError:
        await closed.wait()
        return
    # Nobody writes to the line: it becomes readable when its other end has been closed.
    loop.add_reader(mine, closed.set)
    try:
        await closed.wait()
    finally:
        loop.remove_reader(mine)
        os.close(mine)


def _descriptor(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
