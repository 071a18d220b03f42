"""Functions on a running server, or without one: see `main` for what can be measured.

cold API TOKEN FILE COUNT        first requests of functions whose owner's worker runs
start API TOKEN FILE COUNT       first requests of functions whose owner has no worker yet
deploy API TOKEN COUNT           from a deploy to the first answer of the new version
fetches API TOKEN COUNT          requests at once that wait for another server
warm API TOKEN FILE COUNT        functions that have been called once
compute URL COUNT                requests for each piece of the compute set
lookup COUNT                     paths among so many functions
fill HOME COUNT                  so many functions in a home whose server does not run
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from microcosmos.functions.interface import Live, Share
from microcosmos.functions.routing import Routing

HERE = Path(__file__).parent / "functions"
LOOKUPS = 100_000
WAIT = 1.0
"""Seconds that the other server takes to answer."""

PIECES = ("fib", "sort", "matrix", "words", "json", "patterns")


class Api:
    """A server's gateway, over one connection that is kept."""

    def __init__(self, address: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60)
        self._token = token

    def get(self, path: str) -> bytes:
        """An answer, which must be a good one."""
        return self._ask("GET", path, None, {})

    def call(self, path: str, request: Any) -> Any:
        """Call an endpoint."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        return json.loads(self._ask("POST", path, json.dumps(request), headers) or b"null")

    def deploy(self, name: str, code: str, **more: Any) -> None:
        """Deploy a function of one file."""
        self.call("/functions/deploy", {"name": name, "files": {"index.js": code}, **more})

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> bytes:
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"{method} {path}: {response.status} {answer[:500]!r}")
        return answer


def cold(address: str, token: str, file: str, count: str) -> dict[str, float]:
    api, code = Api(address, token), (HERE / file).read_text()
    api.deploy("first", code)
    api.get("/first")
    for number in range(int(count)):
        api.deploy(f"cold{number}", code)
    return _percentiles(_times(lambda number: api.get(f"/cold{number}"), int(count)))


def start(address: str, token: str, file: str, count: str) -> dict[str, float]:
    api, code = Api(address, token), (HERE / file).read_text()
    for number in range(int(count)):
        id, secret = f"owner{number}", f"a secret of owner {number}"
        api.call("/auth/generate", {"id": id, "secret": secret})
        granted = api.call("/auth/token", {"id": id, "secret": secret})
        owner = Api(address, granted["token"]["access_token"])
        owner.deploy(f"start{number}", code)
    return _percentiles(_times(lambda number: api.get(f"/start{number}"), int(count)))


def deploy(address: str, token: str, count: str) -> dict[str, float]:
    api, other = Api(address, token), Api(address, token)

    def once(number: int) -> None:
        api.deploy("changing", f'const handler = () => "version {number}"')
        while other.get("/changing") != f"version {number}".encode():
            pass

    once(-1)
    return _percentiles(_times(once, int(count)))


def fetches(address: str, token: str, count: str) -> dict[str, float]:
    return asyncio.run(_fetches(address, token, int(count)))


async def _fetches(address: str, token: str, count: int) -> dict[str, float]:
    most = now = 0

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, now
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                now += 1
                most = max(most, now)
                await asyncio.sleep(WAIT)
                now -= 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0, backlog=2048) as server:
        port = server.sockets[0].getsockname()[1]
        code, at = (HERE / "fetches.js").read_text(), f"127.0.0.1:{port}"

        def prepare() -> None:
            api = Api(address, token)
            api.deploy("fetches", code, hosts=[at], env={"URL": f"http://{at}/"})
            api.get("/fetches")

        await asyncio.to_thread(prepare)
        async with _connections(address, count) as connections:
            most, began = 0, time.perf_counter()
            await asyncio.gather(*(_get(*each, "/fetches", b"done") for each in connections))
            return {"seconds": time.perf_counter() - began, "at once": float(most)}


@contextlib.asynccontextmanager
async def _connections(
    address: str, count: int
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    host, _, port = address.rpartition(":")
    made = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    try:
        yield made
    finally:
        for _, writer in made:
            writer.close()


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, expected: bytes
) -> None:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or await reader.readexactly(4) != expected:
        raise SystemExit(f"{path} was answered by {head[:500]!r}")


def warm(address: str, token: str, file: str, count: str) -> dict[str, float]:
    api, code = Api(address, token), (HERE / file).read_text()
    for number in range(int(count)):
        api.deploy(f"warm{number}", code)
        api.get(f"/warm{number}")
    return {"functions": float(count)}


def compute(url: str, count: str) -> dict[str, float]:
    """The sum of the medians of all pieces, as a client sees them."""
    address, _, path = url.removeprefix("http://").partition("/")
    api = Api(address, "")
    medians = []
    for piece in PIECES:
        for _ in range(10):
            api.get(f"/{path}{piece}")
        times = _times(lambda _, piece=piece: api.get(f"/{path}{piece}"), int(count))
        medians.append(statistics.median(times))
    return {"ms of the set": sum(medians)}


def lookup(count: str) -> dict[str, float]:
    routing = Routing()
    for number in range(int(count)):
        share = Share(number=1, key=str(number), engine="quickjs")
        name = f"function{number}"
        routing.put(Live(namespace="micro", name=name, owner="admin", shares=[share]))
    paths = [f"/function{random.randrange(int(count))}/a/b" for _ in range(LOOKUPS)]
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for path in paths:
            routing.find(path)
        rounds.append((time.perf_counter() - began) / LOOKUPS * 1e6)
    return {"lookup µs": statistics.median(rounds)}


def fill(home: str, count: str) -> dict[str, float]:
    from functions_fill import fill as filled

    asyncio.run(filled(Path(home), int(count)))
    return {"functions": float(count)}


def _times(once: Callable[[int], object], count: int) -> list[float]:
    """Milliseconds of each."""
    times = []
    for number in range(count):
        began = time.perf_counter()
        once(number)
        times.append((time.perf_counter() - began) * 1000)
    return times


def _percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50 ms": cuts[49], "p99 ms": cuts[98]}


if __name__ == "__main__":
    verbs = (cold, start, deploy, fetches, warm, compute, lookup, fill)
    verb = {one.__name__: one for one in verbs}[sys.argv[1]]
    print(json.dumps(verb(*sys.argv[2:])))
