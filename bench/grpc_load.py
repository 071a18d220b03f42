"""The load of the gRPC benches: `HOST:PORT CONCURRENCY WARMUP SECONDS`, JSON in and out."""

import sys

import uvloop
from grpc import aio
from load import arguments, measure

PATH = "/helloworld.Helloworld/Call"
HELLO = b'{"msg":"Hello John"}'


async def main():
    async with aio.insecure_channel(sys.argv[1]) as channel:
        send = channel.unary_unary(PATH)

        async def one():
            answer = await send(b'{"name":"John"}', timeout=10)
            assert answer == HELLO, answer

        await measure(one, *arguments())


if __name__ == "__main__":
    uvloop.run(main())
