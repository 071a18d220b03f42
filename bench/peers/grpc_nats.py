"""A bare gRPC gateway: grpcio's asyncio server in front, one nats-py request behind each call."""

import os

import grpc
import nats
import uvloop
from grpc import aio
from nats_headers import HEADERS


async def main():
    client = await nats.connect(os.environ["NATS_URL"])

    async def call(request, context):
        reply = await client.request("rpc.helloworld", request, timeout=5, headers=HEADERS)
        return reply.data

    class Paths(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(call)

    server = aio.server()
    server.add_generic_rpc_handlers((Paths(),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
