"""Our streams: `serve WAY`, or `read WAY WARMUP SECONDS`; WAY is lane or nats."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import uvloop
from hello_rpc import NAME, listening, table
from load import count

from microcosmos import Service
from microcosmos.rpc import Client, Server
from microcosmos.rpc import lane as lanes
from microcosmos.rpc import nats as nats_rpc
from microcosmos.service.remote import remote

TEXT = "x" * 1022

helloworld = Service(NAME)


@helloworld.endpoint
async def pour() -> AsyncIterator[str]:
    """Texts of 1 KB as JSON, for ever."""
    while True:
        yield TEXT


async def serve(way: str) -> None:
    server = Server()
    server.add(helloworld.hosted())
    async with nats_rpc.connect(os.environ["NATS_URL"]) as nc, listening(way, nc, server):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def read(way: str) -> None:
    async with nats_rpc.connect(os.environ["NATS_URL"]) as nc:
        known = table()
        transport = (
            nats_rpc.NatsTransport(nc, known) if way == "nats" else lanes.LaneTransport(known)
        )
        client = Client([transport], known)
        service = remote(NAME, None, lambda: client)
        async with service.stream("Pour", type=str) as stream:
            await count(aiter(stream), float(sys.argv[3]), float(sys.argv[4]))
        await transport.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else read(sys.argv[2]))
