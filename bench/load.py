"""The load of the RPC benches: callers that call one after another for a few seconds."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

Call = Callable[[], Awaitable[object]]


async def measure(call: Call, concurrency: int, warmup: float, seconds: float) -> None:
    """Print what `concurrency` callers reach, as one line of JSON, after a warm-up."""
    await _callers(call, concurrency, warmup)
    latencies, elapsed = await _callers(call, concurrency, seconds)
    per_second = len(latencies) / elapsed
    p50 = statistics.median(latencies) * 1000
    print(json.dumps({"per_second": per_second, "p50_ms": p50}), flush=True)


async def _callers(call: Call, concurrency: int, seconds: float) -> tuple[list[float], float]:
    latencies: list[float] = []
    start = time.perf_counter()
    end = start + seconds

    async def caller() -> None:
        before = time.perf_counter()
        while before < end:
            await call()
            after = time.perf_counter()
            latencies.append(after - before)
            before = after

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return latencies, time.perf_counter() - start


def arguments() -> tuple[int, float, float]:
    """Concurrency, seconds of warm-up and seconds of measurement, from the command line's end."""
    concurrency, warmup, seconds = sys.argv[-3:]
    return int(concurrency), float(warmup), float(seconds)


async def count(messages: AsyncIterator[object], warmup: float, seconds: float) -> None:
    """Read a stream for a while, and print how many messages came per second."""
    loop = asyncio.get_running_loop()
    end = loop.time() + warmup
    while loop.time() < end:
        await anext(messages)
    read, started = 0, loop.time()
    end = started + seconds
    while (now := loop.time()) < end:
        for _ in range(100):
            await anext(messages)
        read += 100
    print(json.dumps({"per_second": read / (now - started)}))
