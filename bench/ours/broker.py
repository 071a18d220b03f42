"""Our broker, as a service has it: typed messages with a trace, checked, and typed handlers.

`publish WARMUP SECONDS` and `fan_out WARMUP SECONDS`, as `peers/nats_broker.py` does.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

sys.path.append(str(Path(__file__).parents[1] / "peers"))
from nats_broker import SUBSCRIBERS, Everybody, Order, flood

from microcosmos.broker import Messages, Subscriber
from microcosmos.broker.nats import NatsBroker
from microcosmos.rpc import nats

ORDER = Order("order-1", 12.5, "jane", [1, 2, 3])


async def main() -> None:
    mode, warmup, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    url = os.environ["NATS_URL"]
    async with nats.connect(url) as one, nats.connect(url) as other, AsyncExitStack() as stack:
        messages = Messages(NatsBroker(one), "publisher")

        async def publish() -> None:
            await messages.publish("orders", ORDER)

        if mode == "publish":
            await flood(publish, one.flush, warmup)
            print(json.dumps({"per_second": await flood(publish, one.flush, seconds)}))
            return
        everybody = Everybody()

        async def handle(order: Order) -> None:
            everybody.one()

        broker = NatsBroker(other)
        for number in range(SUBSCRIBERS):
            subscriber = Subscriber(handle, "orders").on(broker, service=f"s{number}")
            await stack.enter_async_context(subscriber)
        await everybody.rounds(publish, warmup)
        print(json.dumps({"ms": await everybody.rounds(publish, seconds)}))


if __name__ == "__main__":
    uvloop.run(main())
