"""Our store.

`serve WAY` and `call WAY CONCURRENCY WARMUP SECONDS`: gets over rpc, WAY is lane or nats.
`write WRITERS WARMUP SECONDS`: durable writes into SQLite in this process.
`get ours|raw SECONDS`: gets of one key from SQLite in this process.
`page KEYS`: a page of 100 by prefix, beside so many keys.
`check`: who may call, on the hot path.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from load import arguments, measure

from microcosmos.auth.access import Access
from microcosmos.auth.interface import DEFAULT_RULE, Account, Policy
from microcosmos.auth.tokens import Signer
from microcosmos.base.context import AUTHORIZATION
from microcosmos.registry import Node, Result, Service, Table, this_host
from microcosmos.registry.interface import HOST, LANE
from microcosmos.rpc import Call, Client, Endpoint, Server
from microcosmos.rpc import lane as lanes
from microcosmos.rpc import nats as nats_rpc
from microcosmos.store import Store, Write, open_store
from microcosmos.store.client import RemoteBackend, RpcCaller, ServiceStore
from microcosmos.store.service import StoreService

SERVICE = "shop"
VALUE = b'{"name":"Jane","class":"firstGrade"}'
CHECKS = 200_000
PAGES = 300


def signer() -> Signer:
    """The same key in both processes."""
    return Signer("bench", Ed25519PrivateKey.from_private_bytes(bytes(32)))


def header() -> str:
    """What the service shows."""
    account = Account(id=SERVICE, type="service", scopes=("service",))
    return "Bearer " + signer().sign(account, "", time.time(), 3600)


def access() -> Access:
    """What a process decides by."""
    decides = Access()
    decides.follow(Policy(keys={"bench": signer().public}, rules={"micro": [DEFAULT_RULE]}))
    return decides


def socket() -> Path:
    return Path(os.environ["MICRO_HOME"] + ".sock")


async def serve(way: str) -> None:
    path = Path(os.environ["MICRO_HOME"] + ".db")
    async with open_store(f"sqlite://{path}") as store:
        server = Server(verifier=access())
        server.add(StoreService(store).hosted())
        async with nats_rpc.connect(os.environ["NATS_URL"]) as nc:
            listening = (
                lanes.listen(socket(), server)
                if way == "lane"
                else nats_rpc.serve(nc, server, node="1")
            )
            async with listening:
                print("ready", flush=True)
                await asyncio.Event().wait()


async def call(way: str) -> None:
    known = Table()
    node = Node(id="1", metadata={LANE: str(socket()), HOST: this_host()})
    record = Service(name="store", nodes=[node])
    known.apply(Result(action="create", service=record, timestamp=0))
    shown = header()
    async with nats_rpc.connect(os.environ["NATS_URL"]) as nc:
        transport = (
            nats_rpc.NatsTransport(nc, known) if way == "nats" else lanes.LaneTransport(known)
        )
        client = Client([transport], known, identity=lambda: shown)
        store = ServiceStore(RemoteBackend(RpcCaller(client)), SERVICE, "micro")
        await store.write("id1", VALUE)

        async def one() -> None:
            record = await store.read("id1")
            assert record.value == VALUE

        await measure(one, *arguments())
        await transport.close()


@asynccontextmanager
async def own() -> AsyncIterator[Store]:
    """A store of this process in a new file, on the disk that /var is on."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        async with open_store(f"sqlite://{folder}/store.db") as store:
            yield store


async def write() -> None:
    numbers = itertools.count()
    async with own() as store:
        await measure(lambda: store.write(f"key{next(numbers)}", VALUE), *arguments())


async def get(whose: str, seconds: float) -> None:
    async with own() as store:
        await store.write("id1", VALUE)
        read = raw(store) if whose == "raw" else None
        calls, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            if read is not None:
                for _ in range(100):
                    read()
            else:
                for _ in range(100):
                    await store.read("id1")
            calls += 100
        print(json.dumps({"gets/s": calls / elapsed}))


def raw(store: Any) -> Callable[[], Any]:
    """The same row by sqlite3 alone."""
    path = str(store._backend.path)
    connection = sqlite3.connect(path)
    sql = "SELECT value, metadata, expires, version FROM records"
    sql += " WHERE database = ? AND tbl = ? AND key = ?"
    place = ("micro", "micro", b"id1")
    assert connection.execute(sql, place).fetchall()[0][0] == VALUE
    return lambda: connection.execute(sql, place).fetchall()


async def page(count: int) -> None:
    async with own() as store:
        keys = iter(range(count))
        while group := list(itertools.islice(keys, 10_000)):
            await store.batch([Write(f"{number:09}", VALUE) for number in group])
        prefixes = [f"{random.randrange(count):09}"[:7] for _ in range(PAGES)]
        times = []
        for prefix in prefixes:
            start = time.perf_counter()
            found = await store.read(prefix=prefix, limit=100)
            times.append(time.perf_counter() - start)
            assert len(found) == 100
        print(json.dumps({"page ms": statistics.median(times) * 1000}))


def check() -> None:
    async def function(body: bytes) -> bytes:
        return body

    decides, endpoint = access(), Endpoint("Helloworld.Call", function)
    shown = header()
    calls = [
        Call("helloworld", "Helloworld.Call", b"{}", {AUTHORIZATION: (shown + " ")[:-1]}, 1.0)
        for _ in range(CHECKS)
    ]
    start = time.perf_counter()
    for one in calls:
        decides(one, endpoint)
    print(json.dumps({"check µs": (time.perf_counter() - start) / CHECKS * 1e6}))


if __name__ == "__main__":
    match sys.argv[1]:
        case "serve":
            uvloop.run(serve(sys.argv[2]))
        case "call":
            uvloop.run(call(sys.argv[2]))
        case "write":
            uvloop.run(write())
        case "get":
            uvloop.run(get(sys.argv[2], float(sys.argv[3])))
        case "page":
            uvloop.run(page(int(sys.argv[2])))
        case _:
            check()
