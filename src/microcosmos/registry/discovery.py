"""Who is on NATS, by the NATS services protocol: ours after a restart, and foreign services.

A service of ours registers by itself, so its answers matter only to a core that has just started.
A foreign one (a Node service with `@nats-io/services`, say) is known by its answers alone: it is
asked every few seconds and forgotten when it has not answered for the TTL of the registry.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.base import errors, names
from microcosmos.base.schema import Value
from microcosmos.rpc import announce

from .interface import HOST, LANE, REPLICA, Endpoint, Node, Service
from .memory import MemoryRegistry
from .table import SUBJECT

log = logging.getLogger("microcosmos.registry")

EVERY = 10.0
"""Seconds between two questions to everyone."""

_AT_FIRST = 0.5
_QUIET = 0.1
_AT_MOST = 2.0
_OF_NODE = (LANE, HOST, REPLICA)

_info = msgspec.json.Decoder(announce.Info)
_value = msgspec.json.Decoder(Value)


async def discover(nc: NatsClient, registry: MemoryRegistry) -> None:
    """Ask everyone once, and register who answers, until nobody has for a tenth of a second."""
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox, cb=answers.put)
    try:
        await nc.publish("$SRV.INFO", reply=inbox)
        async with asyncio.timeout(_AT_MOST):
            while True:
                msg = await asyncio.wait_for(answers.get(), _QUIET)
                if (msg.headers or {}).get("Status") == "503":
                    return
                await _register(registry, msg.data)
    except TimeoutError:
        return
    finally:
        await subscription.unsubscribe()


async def keep_discovering(nc: NatsClient, registry: MemoryRegistry) -> None:
    """Ask everyone every few seconds, for ever.

    More often at first: the engine of a node that has just come may still be joining its cluster.
    """
    pause = _AT_FIRST
    while True:
        await asyncio.sleep(pause)
        pause = min(2 * pause, EVERY)
        registry.expire()
        if nc.is_connected:
            try:
                await discover(nc, registry)
            except nats.errors.Error as exc:
                log.warning("cannot ask who is on NATS: %s", exc)


async def _register(registry: MemoryRegistry, data: bytes) -> None:
    try:
        service = record(_info.decode(data))
        if service.metadata.get(announce.SERVICE) and await _known(registry, service):
            return
        await registry.register(service)
    except (msgspec.DecodeError, UnicodeDecodeError, errors.Error) as exc:
        log.warning("a service on NATS announces itself in a way that cannot be read: %s", exc)


async def _known(registry: MemoryRegistry, service: Service) -> bool:
    """Whether a service of ours has registered by itself: then its own word stands."""
    try:
        found = await registry.get_service(service.name)
    except errors.NotFound:
        return False
    known = {node.id for version in found for node in version.nodes}
    return all(node.id in known for node in service.nodes)


def record(info: announce.Info) -> Service:
    """The registry's record of a service that announced itself.

    Raises:
        errors.BadRequest: a name that cannot be one of ours.
    """
    about = info.metadata or {}
    name = names.check_service(about.get(announce.SERVICE) or info.name)
    of_node = {key: about[key] for key in _OF_NODE if key in about}
    return Service(
        name=name,
        version=about.get(announce.VERSION) or info.version,
        metadata={key: value for key, value in about.items() if key not in _OF_NODE},
        endpoints=[_endpoint(name, endpoint) for endpoint in info.endpoints or []],
        nodes=[Node(id=f"{name}-{info.id}", metadata={"protocol": "nats", **of_node})],
    )


def _endpoint(service: str, info: announce.EndpointInfo) -> Endpoint:
    about = dict(info.metadata or {})
    name = about.pop(announce.ENDPOINT, "") or names.endpoint_name(service, info.name)
    request, response = about.pop(announce.REQUEST, ""), about.pop(announce.RESPONSE, "")
    if info.subject != names.subject(service, name):
        about[SUBJECT] = info.subject
    return Endpoint(name=name, request=_shape(request), response=_shape(response), metadata=about)


def _shape(text: str) -> Value:
    return _value.decode(text) if text else Value()
