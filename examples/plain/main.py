"""A service in Python without a line of the platform: plain nats-py, and its `nats.micro`."""

import asyncio
import json
import os
import signal

import nats
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

NAME = os.environ.get("MICRO_SERVICE_NAME", "plain")

SHAPES = {
    "request": {"type": "object", "properties": {"name": {"type": "string"}}},
    "response": {"type": "object", "properties": {"msg": {"type": "string"}}},
}


async def call(request: Request) -> None:
    """Say hello."""
    name = json.loads(request.data or b"{}").get("name", "World")
    if not name:
        await request.respond_error("400", "name: it is empty")
        return
    await request.respond(json.dumps({"msg": f"Hello {name}"}).encode())


async def main() -> None:
    nc = await nats.connect(
        os.environ["NATS_URL"],
        user_credentials=os.environ.get("NATS_CREDS"),
        inbox_prefix=os.environ.get("NATS_INBOX_PREFIX", "_INBOX"),
        max_reconnect_attempts=-1,
    )
    # The protocol knows no dots in names; the true one stands in the metadata.
    name, about = NAME.replace(".", "-"), {"micro.service": NAME}
    config = ServiceConfig(name=name, version="1.0.0", metadata=about)
    service = await add_service(nc, config)
    shapes = {"micro.schema": json.dumps(SHAPES)}
    # The subjects begin with the service's name: the engine lets it listen to no others.
    await service.add_group(name=name).add_endpoint(name="call", handler=call, metadata=shapes)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await service.stop()
    await nc.drain()


if __name__ == "__main__":
    asyncio.run(main())
