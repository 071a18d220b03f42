"""What attacks by one owner's functions cost another owner's function, and a service.

functions_attacks.py API TOKEN ZYGOTE SECONDS

Both are called at a constant rate, first in peace, then while functions of another owner loop,
multiply, fill their memory and crash, on quickjs and deno, one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from functions_load import Api

PATHS = {"function": "/steady", "service": "/helloworld/call?name=John"}
RATE = 100
"""Calls a second of each."""

LANES = 4
"""Connections of each, so that one that waits does not keep others from being sent."""

HOLDS = "for (;;);"
ATTACKS = {
    "loop": HOLDS,
    "bigint": "let n = 3n; for (;;) n = n * n % (2n ** 100000n)",
    "memory": "const kept = []; for (;;) kept.push(new Array(10000).fill(0.5))",
    "crash": HOLDS,
}
ENGINES = ("quickjs", "deno")


class Calls:
    """Calls of one path, each sent at its own time, whatever became of those before."""

    def __init__(self, address: str, path: str) -> None:
        self.times: list[float] = []
        self.lost = 0
        self._address, self._path = address, path

    async def run(self, going: Callable[[], bool]) -> None:
        await asyncio.gather(*(self._lane(number, going) for number in range(LANES)))

    async def _lane(self, number: int, going: Callable[[], bool]) -> None:
        host, _, port = self._address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        due = time.perf_counter() + number / RATE
        while going():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(f"GET {self._path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(size)
            # From when it was to be sent: who waits in the queue waits, too.
            self.times.append((time.perf_counter() - due) * 1000)
            self.lost += not head.startswith(b"http/1.1 200 ")
            due += LANES / RATE
        writer.close()

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.times, n=100, method="inclusive")[98]


async def under_load(address: str, going: Callable[[], bool]) -> dict[str, Calls]:
    calls = {name: Calls(address, path) for name, path in PATHS.items()}
    await asyncio.gather(*(one.run(going) for one in calls.values()))
    return calls


async def main(address: str, token: str, zygote: str, seconds: str) -> dict[str, float]:
    admin = Api(address, token)
    admin.deploy("steady", "function handler() { return { msg: 'steady' } }")
    admin.get("/steady")
    own = _workers(int(zygote))
    secret = "a secret of mallory"
    admin.call("/auth/generate", {"id": "mallory", "secret": secret})
    granted = admin.call("/auth/token", {"id": "mallory", "secret": secret})
    mallory = Api(address, granted["token"]["access_token"])
    span = float(seconds)
    names = [(engine, name) for engine in ENGINES for name in ATTACKS]
    made = [0]

    def until(end: float) -> Callable[[], bool]:
        return lambda: time.perf_counter() < end

    await under_load(address, until(time.perf_counter() + 0.5))
    before = await under_load(address, until(time.perf_counter() + span))
    end = time.perf_counter() + span

    def attack() -> None:
        while time.perf_counter() < end:
            engine, name = names[made[0] % len(names)]
            _attack(mallory, address, int(zygote), own, engine, name, made[0])
            made[0] += 1

    attacking = asyncio.create_task(asyncio.to_thread(attack))
    during = await under_load(address, lambda: not attacking.done())
    await attacking
    figures: dict[str, float] = {}
    for name in PATHS:
        figures[f"{name}, p99 during / before"] = during[name].p99 / before[name].p99
        figures[f"{name}, p99 ms before"] = before[name].p99
        figures[f"{name}, p99 ms during"] = during[name].p99
    figures["lost"] = float(sum(calls.lost for calls in (*before.values(), *during.values())))
    figures["attacks"] = float(made[0])
    return figures


def _attack(
    api: Api, address: str, zygote: int, own: set[int], engine: str, name: str, number: int
) -> None:
    """A function that nobody has struck yet, so that it shares its owner's worker."""
    limits = {"cpu": 0.05 if name != "crash" else 5.0, "heap": 32 * 1024 * 1024}
    code = f"function handler() {{ {ATTACKS[name]} }}"
    api.deploy(f"attack{number}", code, engine=engine, limits=limits)
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", f"/attack{number}")
    if name == "crash":
        time.sleep(0.1)
        for pid in _workers(zygote) - own:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSEGV)
    if connection.getresponse().status != 503:
        raise SystemExit(f"{name} on {engine} was not ended")
    connection.close()


def _workers(zygote: int) -> set[int]:
    tasks = Path(f"/proc/{zygote}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
