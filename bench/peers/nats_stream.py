"""Bare nats-py publish and subscribe with a window: `serve`, or `read WARMUP SECONDS`.

The publisher is at most `WINDOW` bytes ahead; the reader acknowledges each half of it.
"""

import asyncio
import os
import sys

import nats
import uvloop
from load import count

WINDOW = 256 * 1024
WEIGHT = 64
MESSAGE = b'"' + b"x" * 1022 + b'"'


async def serve():
    client = await nats.connect(os.environ["NATS_URL"])
    tasks = set()

    async def opened(message):
        credit = WINDOW
        room = asyncio.Event()

        async def granted(grant):
            nonlocal credit
            credit += int(grant.data)
            room.set()

        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=granted)
        await client.publish(message.reply, b"ready", reply=inbox)

        async def pour():
            nonlocal credit
            while True:
                while credit <= 0:
                    room.clear()
                    await room.wait()
                credit -= len(MESSAGE) + WEIGHT
                await client.publish(message.reply, MESSAGE)

        tasks.add(asyncio.create_task(pour()))

    await client.subscribe("stream.open", cb=opened)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def read():
    client = await nats.connect(os.environ["NATS_URL"])
    messages = asyncio.Queue()
    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=messages.put)
    await client.publish("stream.open", b"", reply=inbox)
    publisher = (await messages.get()).reply

    async def stream():
        owed = 0
        while True:
            message = await messages.get()
            owed += len(message.data) + WEIGHT
            if owed >= WINDOW // 2:
                await client.publish(publisher, b"%d" % owed)
                owed = 0
            yield message.data

    await count(stream(), float(sys.argv[2]), float(sys.argv[3]))
    await client.close()


if __name__ == "__main__":
    uvloop.run(serve() if sys.argv[1] == "serve" else read())
