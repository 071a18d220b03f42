"""A question to everyone who listens on a subject, and all their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

_QUIET = 0.1
_AT_MOST = 2.0


async def ask(
    nc: NatsClient,
    subject: str,
    body: bytes = b"",
    *,
    enough: Callable[[Msg], bool] = lambda _: False,
) -> list[Msg]:
    """The answers, until there has been none for a tenth of a second.

    Args:
        nc: the engine.
        subject: where they listen.
        body: what is asked.
        enough: tells of an answer that no other need follow.

    Raises:
        nats.errors.Error: nothing could be sent.
    """
    found: list[Msg] = []
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox, cb=answers.put)
    try:
        await nc.publish(subject, body, reply=inbox)
        async with asyncio.timeout(_AT_MOST):
            while True:
                msg = await asyncio.wait_for(answers.get(), _QUIET)
                if (msg.headers or {}).get("Status") == "503":
                    return found
                found.append(msg)
                if enough(msg):
                    return found
    except TimeoutError:
        return found
    finally:
        await subscription.unsubscribe()
