"""Our RPC: `serve WAY`, or `call WAY CONCURRENCY WARMUP SECONDS`; WAY is lane or nats."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import uvloop
from load import arguments, measure

from microcosmos import Service
from microcosmos.base.context import Context, Metadata, set_current
from microcosmos.registry import Node, Result, Table, this_host
from microcosmos.registry import Service as Record
from microcosmos.registry.interface import HOST, LANE
from microcosmos.rpc import Client, Server
from microcosmos.rpc import lane as lanes
from microcosmos.rpc import nats as nats_rpc
from microcosmos.service.remote import remote

NAME = "helloworld"
METADATA = {"Micro-Namespace": "micro"}
"""What a caller that is a service inherits; with the trace and the timeout, which the client adds,
these are the peer's three headers."""

helloworld = Service(NAME)


class Greeting(msgspec.Struct):
    msg: str


@helloworld.endpoint
async def call(name: str = "World") -> Greeting:
    """Say hello."""
    return Greeting(msg=f"Hello {name}")


class Helloworld:
    """What the caller knows of the service."""

    async def call(self, name: str) -> Greeting: ...


async def serve(way: str) -> None:
    server = Server()
    server.add(helloworld.hosted())
    async with nats_rpc.connect(os.environ["NATS_URL"]) as nc, listening(way, nc, server):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def load(way: str) -> None:
    set_current(Context(Metadata(METADATA)))
    async with nats_rpc.connect(os.environ["NATS_URL"]) as nc:
        known = table()
        by_nats = nats_rpc.NatsTransport(nc, known)
        transports = [by_nats] if way == "nats" else [lanes.LaneTransport(known), by_nats]
        client = Client(transports, known)
        service = remote(NAME, Helloworld, lambda: client)

        async def one() -> None:
            await service.call(name="John")

        await measure(one, *arguments())
        for transport in transports:
            await transport.close()


def listening(
    way: str, nc: nats_rpc.NatsClient, server: Server
) -> AbstractAsyncContextManager[None]:
    """Answer by the lane, or by NATS."""
    return (
        lanes.listen(_socket(), server) if way == "lane" else nats_rpc.serve(nc, server, node="1")
    )


def _socket() -> Path:
    return Path(os.environ["MICRO_HOME"] + ".sock")


def table() -> Table:
    """What the registry would tell every process of the service."""
    known = Table()
    node = Node(id="1", metadata={LANE: str(_socket()), HOST: this_host()})
    service = Record(name=NAME, nodes=[node])
    known.apply(Result(action="create", service=service, timestamp=0))
    return known


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else load(sys.argv[2]))
