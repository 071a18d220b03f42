"""Bare nats-py request and reply: `serve`, or `call [--headers] CONCURRENCY WARMUP SECONDS`."""

import asyncio
import os
import sys

import nats
import uvloop
from load import arguments, measure
from nats_headers import HEADERS


async def serve():
    client = await nats.connect(os.environ["NATS_URL"])

    async def echo(message):
        await message.respond(message.data)

    await client.subscribe("rpc.echo", "echo", echo)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def call():
    client = await nats.connect(os.environ["NATS_URL"])
    headers = HEADERS if "--headers" in sys.argv else None

    async def one():
        await client.request("rpc.echo", b'{"msg":"Hello John"}', timeout=5, headers=headers)

    await measure(one, *arguments())
    await client.close()


if __name__ == "__main__":
    uvloop.run(serve() if sys.argv[1] == "serve" else call())
