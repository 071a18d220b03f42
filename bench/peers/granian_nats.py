"""A bare HTTP gateway in 20 lines: Granian in front, one nats-py request behind each GET."""

import os
from urllib.parse import parse_qsl

import msgspec
import nats
from granian import Granian
from nats_headers import HEADERS


class App:
    def __rsgi_init__(self, loop):
        self.nats = loop.run_until_complete(nats.connect(os.environ["NATS_URL"]))

    async def __rsgi__(self, scope, protocol):
        body = msgspec.json.encode(dict(parse_qsl(scope.query_string)))
        reply = await self.nats.request("rpc.helloworld", body, timeout=5, headers=HEADERS)
        protocol.response_bytes(200, [("content-type", "application/json")], reply.data)


app = App()

if __name__ == "__main__":
    port = int(os.environ["PORT"])
    Granian("granian_nats:app", port=port, interface="rsgi", workers=1, log_enabled=False).serve()
