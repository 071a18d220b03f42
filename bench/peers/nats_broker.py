"""Bare nats-py, what our broker stands beside.

`publish WARMUP SECONDS`: messages with the two headers that ours have, flushed at the end.
`fan_out WARMUP SECONDS`: a message to 1,000 subscriptions of one process, which decode it; the
next is published when all have it.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec
import nats
import uvloop

TOPIC = "broker.orders"
SUBSCRIBERS = 1000
HEADERS = {"Content-Type": "application/json", "Micro-Trace": "0af7651916cd43dd8448eb211c80319c"}
AT_ONCE = 1000


class Order(msgspec.Struct):
    id: str
    amount: float
    customer: str
    items: list[int]


BODY = msgspec.json.encode(Order("order-1", 12.5, "jane", [1, 2, 3]))


async def flood(
    publish: Callable[[], Awaitable[object]], flush: Callable[[], Awaitable[object]], seconds: float
) -> float:
    """How many a second are published, and taken in by NATS."""
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        for _ in range(AT_ONCE):
            await publish()
        await flush()
        done += AT_ONCE
    return done / elapsed


class Everybody:
    """Counts down until all subscribers have handled a message."""

    def __init__(self) -> None:
        self._left = 0
        self._all = asyncio.Event()

    def one(self) -> None:
        self._left -= 1
        if not self._left:
            self._all.set()

    async def rounds(self, publish: Callable[[], Awaitable[object]], seconds: float) -> float:
        """Milliseconds, in the median, from publishing to the last who has it."""
        times = []
        end = time.perf_counter() + seconds
        while (before := time.perf_counter()) < end:
            self._left = SUBSCRIBERS
            self._all.clear()
            await publish()
            await self._all.wait()
            times.append(time.perf_counter() - before)
        return statistics.median(times) * 1000


async def main() -> None:
    mode, warmup, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    publisher = await nats.connect(os.environ["NATS_URL"])

    async def publish() -> None:
        await publisher.publish(TOPIC, BODY, headers=HEADERS)

    if mode == "publish":
        await flood(publish, publisher.flush, warmup)
        print(json.dumps({"per_second": await flood(publish, publisher.flush, seconds)}))
    else:
        everybody = Everybody()
        decode = msgspec.json.Decoder(Order).decode

        async def handle(message) -> None:
            decode(message.data)
            everybody.one()

        subscriber = await nats.connect(os.environ["NATS_URL"])
        for _ in range(SUBSCRIBERS):
            await subscriber.subscribe(TOPIC, cb=handle)
        # Twice: the ping of a flush overtakes what waits to be written.
        await subscriber.flush()
        await subscriber.flush()
        await everybody.rounds(publish, warmup)
        print(json.dumps({"ms": await everybody.rounds(publish, seconds)}))
        await subscriber.close()
    await publisher.close()


if __name__ == "__main__":
    uvloop.run(main())
