"""A gateway that answers every connection with its PID, on the socket it inherited."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from journal import note

from microcosmos.base import lifespan


async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(str(os.getpid()).encode())
    writer.close()


async def main() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, lifespan.LEAVE):
        loop.add_signal_handler(number, stopped.set)
    if Path(os.environ["JOURNAL"] + ".broken").exists():
        sys.exit("the gateway has lost its way")
    listener = socket.socket(fileno=int(os.environ["MICRO_GATEWAY_FD"]))
    async with await asyncio.start_server(answer, sock=listener):
        lifespan.report_ready()
        await stopped.wait()
    note("gateway-stopped")


asyncio.run(main())
