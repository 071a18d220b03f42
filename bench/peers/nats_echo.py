"""The service behind `granian_nats.py`: plain nats-py, JSON in and out."""

import asyncio
import os

import msgspec
import nats
import uvloop


async def main():
    client = await nats.connect(os.environ["NATS_URL"])

    async def hello(message):
        name = msgspec.json.decode(message.data)["name"]
        await message.respond(msgspec.json.encode({"msg": f"Hello {name}"}))

    await client.subscribe("rpc.helloworld", "helloworld", hello)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
