"""What a killed server leaves behind, cleared away by the next one, which holds the lock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import Iterable

import msgspec

from microcosmos.base.home import WORKERS, Home, ServerInfo

# The guard kills what outlived its supervisor within milliseconds; its ports are free then.
_LIMIT = 2.0
_POLL = 0.01


async def recover(home: Home) -> None:
    """Wait until the children of the last server are gone, and remove its traces."""
    stale = home.running / "server.json"
    try:
        last = msgspec.json.decode(stale.read_bytes(), type=ServerInfo)
    except FileNotFoundError:
        pass
    except (OSError, ValueError):
        home.forget_server_info()
    else:
        await _gone(pid for name, pid in last.pids.items() if name != "server")
        home.forget_server_info()
    _sweep(home)


async def _gone(pids: Iterable[int]) -> None:
    waiting = {pid for pid in pids if pid not in {0, os.getpid()}}
    # A number may be another process' by now: it is waited for a while, never signalled.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LIMIT):
            # Not our children: nothing tells of their end but a look.
            while waiting := {pid for pid in waiting if _lives(pid)}:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)


def _lives(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, ValueError, OverflowError):
        return False


def _sweep(home: Home) -> None:
    """Remove the sockets that nobody listens on; a program run by hand may still serve its own."""
    for path in home.lanes.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.setblocking(False)
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue
    # Workers that make their sockets themselves did so in there; they ended with their zygote.
    for folder in home.lanes.glob(f"*{WORKERS}"):
        shutil.rmtree(folder, ignore_errors=True)
