"""Registries of a cluster tell each other what their own services told them.

Each core keeps a registry, and a service speaks with the nearest one. What it says there is
published once; every other core takes it over, with an expiry, because only the runtime of a
node's own host knows whether its process lives. A word that was missed heals with the next
registration or the next round of `discovery`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE

from .interface import Service
from .memory import MemoryRegistry, Verb, placed

log = logging.getLogger("microcosmos.registry")

SUBJECT = "registry.said"


class Said(msgspec.Struct, frozen=True):
    """What one registry was told.

    Attributes:
        origin: the epoch of that registry.
        verb: what to do.
        service: with which.
    """

    origin: str
    verb: Literal["register", "deregister", "lose"]
    service: Service


_said = msgspec.json.Decoder(Said)


@contextlib.asynccontextmanager
async def gossip(
    nc: NatsClient, registry: MemoryRegistry, namespace: str = DEFAULT_NAMESPACE
) -> AsyncIterator[None]:
    """Tell the other cores, and hear them, until the block ends.

    Args:
        nc: a connection in the account of a namespace.
        registry: what tells and hears.
        namespace: that one: nothing of another is told or believed here.
    """

    async def tell(verb: Verb, service: Service) -> None:
        said = msgspec.json.encode(Said(registry.epoch, verb, service))
        await nc.publish(SUBJECT, said)

    async def hear(msg: Msg) -> None:
        try:
            said = _said.decode(msg.data)
            if said.origin != registry.epoch:
                await registry.hear(said.verb, placed(said.service, namespace))
        except (msgspec.DecodeError, UnicodeDecodeError, errors.Error) as exc:
            log.warning("another core said what cannot be understood: %s", exc)

    subscription = await nc.subscribe(SUBJECT, cb=hear)
    registry.tellers[namespace] = tell
    try:
        yield
    finally:
        registry.tellers.pop(namespace, None)
        with contextlib.suppress(Exception):  # the connection may have gone before us
            await subscription.unsubscribe()
