"""Bare Granian, RSGI: what an HTTP gateway in Python could reach if it did nothing."""

import os

from granian import Granian

HEADERS = [("content-type", "application/json")]


async def app(scope, protocol):
    protocol.response_bytes(200, HEADERS, b'{"msg":"Hello John"}')


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    Granian("granian_hello:app", port=port, interface="rsgi", workers=1, log_enabled=False).serve()
