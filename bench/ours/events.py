"""Our events, as a service has them: published and pulled on the engine, checked by their schema.

`publish WARMUP SECONDS`: 1,000 published at once, again and again, each waited for.
`await CONCURRENCY WARMUP SECONDS`: publishers that wait for each event to be durable.
`consume SECONDS`: a group that reads each event into its type and acknowledges it.
`topics COUNT WARMUP SECONDS`: 64 publishers on so many topics that have events already.
`check`: what the check by a schema costs, at publish and at consume.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import uvloop
from load import arguments, measure

from microcosmos.base.recipient import Recipient
from microcosmos.events.consuming import Consumer
from microcosmos.events.events import Events
from microcosmos.events.interface import BEGINNING, Draft, Event, GroupSpec
from microcosmos.events.nats import EngineLog, NatsLog
from microcosmos.events.schema.local import LocalContracts
from microcosmos.events.schema.registry import TABLE, Registry
from microcosmos.rpc import nats
from microcosmos.store import PLATFORM, open_store

TOPIC = "orders"
LOADED = 150_000
AT_ONCE = 1000
CHECKS = 50_000


class Order(msgspec.Struct):
    id: str
    amount: float
    customer: str
    items: list[int]


ORDER = Order("order-1", 12.5, "jane", [1, 2, 3])
BODY = msgspec.json.encode(ORDER)


@asynccontextmanager
async def opened() -> AsyncIterator[EngineLog]:
    """The log of a service beside the core's, which is only asked to make groups."""
    async with (
        nats.connect(os.environ["NATS_URL"]) as core,
        nats.connect(os.environ["NATS_URL"]) as own,
        NatsLog(core, secret=b"bench") as control,
        EngineLog(own, control) as log,
    ):
        yield log


async def publish(warmup: float, seconds: float) -> None:
    async with opened() as log:
        events = Events(log)

        async def flood(seconds: float) -> float:
            done, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < seconds:
                await asyncio.gather(*(events.publish(TOPIC, ORDER) for _ in range(AT_ONCE)))
                done += AT_ONCE
            return done / elapsed

        await flood(warmup)
        print(json.dumps({"per_second": await flood(seconds)}))


async def awaited() -> None:
    async with opened() as log:
        events = Events(log)
        await measure(lambda: events.publish(TOPIC, ORDER), *arguments())


async def topics(count: int) -> None:
    async with opened() as log:
        events = Events(log)
        for first in range(0, count, AT_ONCE):
            names = range(first, min(first + AT_ONCE, count))
            await asyncio.gather(*(log.publish(Draft(f"topic.{n}", BODY)) for n in names))
        numbers = itertools.count()
        await measure(
            lambda: events.publish(f"topic.{next(numbers) * 7919 % count}", ORDER), *arguments()
        )


async def consume(seconds: float) -> None:
    async with opened() as log:
        for _ in range(0, LOADED, AT_ONCE):
            await asyncio.gather(*(log.publish(Draft(TOPIC, BODY)) for _ in range(AT_ONCE)))
        done = 0
        begun, ended = asyncio.Event(), asyncio.Event()

        async def handle(order: Order, event: Event) -> None:
            nonlocal done
            done += 1
            begun.set()
            if done == LOADED:
                ended.set()

        consumer = Consumer(Recipient(handle, Event), GroupSpec(TOPIC, "bench", BEGINNING))
        async with consumer.on(log):
            await begun.wait()
            started, before = time.perf_counter(), done
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), seconds)
            print(json.dumps({"per_second": (done - before) / (time.perf_counter() - started)}))


async def check() -> None:
    """What a check costs, encoding and decoding included, µs each."""
    async with open_store("memory://") as store:
        registry = Registry(store.table(TABLE, database=PLATFORM))
        contracts = LocalContracts(registry, "micro")
        plain = msgspec.to_builtins(ORDER)
        written, schema = await contracts.writing(TOPIC, ORDER)
        event = Event("1", TOPIC, payload=written, schema=schema)
        ways = {
            "typed µs": lambda: contracts.writing(TOPIC, ORDER),
            "plain µs": lambda: contracts.writing(TOPIC, plain),
            "consume µs": lambda: contracts.reading(event),
        }
        figures = {}
        for name, way in ways.items():
            await way()
            started = time.perf_counter()
            for _ in range(CHECKS):
                await way()
            figures[name] = (time.perf_counter() - started) / CHECKS * 1e6
        print(json.dumps(figures))
        await contracts.close()
        registry.close()


async def main() -> None:
    mode, *rest = sys.argv[1:]
    if mode == "publish":
        await publish(*map(float, rest))
    elif mode == "await":
        await awaited()
    elif mode == "topics":
        await topics(int(rest[0]))
    elif mode == "check":
        await check()
    else:
        await consume(float(rest[0]))


if __name__ == "__main__":
    uvloop.run(main())
