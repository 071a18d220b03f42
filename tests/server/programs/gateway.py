"""A gateway that answers every connection with its PID, on the socket it inherited."""

import asyncio
import os
import signal
import socket

from journal import note

from microcosmos.base import lifespan


async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(str(os.getpid()).encode())
    writer.close()


async def main() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    listener = socket.socket(fileno=int(os.environ["MICRO_GATEWAY_FD"]))
    async with await asyncio.start_server(answer, sock=listener):
        lifespan.report_ready()
        await stopped.wait()
    note("gateway-stopped")


asyncio.run(main())
