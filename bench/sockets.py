"""Open idle WebSockets, and tell what each costs the processes that carry them.

    python sockets.py URL COUNT PID…

Each socket has said something and was answered, so that what is allotted with the first message
counts too; then all are silent, and the memory is read.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

AT_ONCE = 50


def main() -> None:
    """Print the figures as JSON."""
    url, count, *pids = sys.argv[1:]
    raise_open_files()
    print(json.dumps(asyncio.run(_measure(url, int(count), list(map(int, pids))))))


def raise_open_files() -> None:
    """Let this process, and those that it starts, have as many files as is allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _measure(url: str, count: int, pids: list[int]) -> dict[str, float]:
    sockets = [await _open(url) for _ in range(AT_ONCE)]
    # What the first ones need once for all is no cost of the others.
    before = _kib(pids)
    while len(sockets) < count + AT_ONCE:
        sockets += await asyncio.gather(*(_open(url) for _ in range(AT_ONCE)))
    after = _kib(pids)
    for socket in sockets:
        await _ask(socket)
    await asyncio.gather(*(socket.close() for socket in sockets))
    return {"KiB a socket": (after - before) / count}


async def _open(url: str) -> ClientConnection:
    socket = await connect(url, ping_interval=None, proxy=None, compression=None, open_timeout=30)
    await _ask(socket)
    return socket


async def _ask(socket: ClientConnection) -> None:
    await socket.send("1")
    answer = await asyncio.wait_for(socket.recv(), 30)
    assert answer == "1", answer


def _kib(pids: list[int]) -> int:
    """The resident memory of processes."""
    statuses = (Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in statuses)


if __name__ == "__main__":
    main()
