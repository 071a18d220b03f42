"""Bare Granian, RSGI: JSON read, and written again."""

import os

import msgspec
from granian import Granian

HEADERS = [("content-type", "application/json")]


async def app(scope, protocol):
    sent = msgspec.json.decode(await protocol())
    protocol.response_bytes(200, HEADERS, msgspec.json.encode(sent))


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    Granian("granian_echo:app", port=port, interface="rsgi", workers=1, log_enabled=False).serve()
