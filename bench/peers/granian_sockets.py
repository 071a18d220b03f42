"""Bare Granian, RSGI: WebSockets that give back what they are told."""

import os

from granian import Granian


async def app(scope, protocol):
    if scope.proto == "http":
        protocol.response_str(200, [("content-type", "application/json")], '{"msg":"Hello John"}')
        return
    socket = await protocol.accept()
    while (message := await socket.receive()).kind:
        await socket.send_str(message.data)
    protocol.close()


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    Granian(
        "granian_sockets:app", port=port, interface="rsgi", workers=1, log_enabled=False
    ).serve()
