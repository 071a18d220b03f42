"""Bare nats-py on JetStream.

`publish WARMUP SECONDS`: `publish_async`, with an id for each message, as many unacknowledged as
nats-py lets through. `await CONCURRENCY WARMUP SECONDS`: publishers that wait for each
acknowledgement. `consume SECONDS`: a durable pull consumer that fetches 100 and acknowledges each.
"""

import itertools
import json
import os
import sys
import time
import uuid

import nats
import uvloop
from load import arguments, measure
from nats.js.api import ConsumerConfig, StreamConfig

BODY = json.dumps(
    {"id": "order-1", "amount": 12.5, "customer": "jane", "items": [1, 2, 3]}
).encode()
SUBJECT = "events.log.0.orders"
LOADED = 150_000


async def main() -> None:
    mode, *rest = sys.argv[1:]
    nc = await nats.connect(os.environ["NATS_URL"])
    js = nc.jetstream(publish_async_max_pending=4000)
    await js.add_stream(
        StreamConfig(name="events", subjects=["events.log.>"], duplicate_window=120)
    )
    prefix = uuid.uuid4().hex
    ids = (f"{prefix}{number}" for number in itertools.count())

    if mode == "publish":
        warmup, seconds = map(float, rest)
        await flood(js, ids, warmup)
        print(json.dumps({"per_second": await flood(js, ids, seconds)}))
    elif mode == "await":

        async def one() -> None:
            await js.publish(SUBJECT, BODY, headers={"Nats-Msg-Id": next(ids)})

        await measure(one, *arguments())
    else:
        await load(js, ids)
        config = ConsumerConfig(max_ack_pending=1000)
        subscription = await js.pull_subscribe("events.log.*.orders", "bench", config=config)
        seconds = float(rest[0])
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            for message in await subscription.fetch(100):
                json.loads(message.data)
                await message.ack()
                done += 1
        print(json.dumps({"per_second": done / elapsed}))
    await nc.close()


async def flood(js, ids, seconds: float) -> float:
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(1000):
            await js.publish_async(SUBJECT, BODY, headers={"Nats-Msg-Id": next(ids)}, wait_stall=30)
        done += 1000
    await js.publish_async_completed()
    return done / (time.perf_counter() - started)


async def load(js, ids) -> None:
    for _ in range(LOADED):
        await js.publish_async(SUBJECT, BODY, headers={"Nats-Msg-Id": next(ids)}, wait_stall=60)
    await js.publish_async_completed()


uvloop.run(main())
