"""Who is on NATS, by the NATS services protocol: ours after a restart, and foreign services.

A service of ours registers by itself, so its answers matter only to a core that has just started.
A foreign one (a Node service with `@nats-io/services`, say) is known by its answers alone. Everyone
is asked every few seconds, and a foreign node that nobody listens for any more is gone; a busy one
is still listened for, so it is slow, not gone. One that is not heard of at all is forgotten after
the TTL of the registry.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import time
from collections.abc import Collection

import msgspec
import nats.errors
from nats.aio.client import Client as NatsClient

from microcosmos.base import errors, names
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.rpc import announce

from . import foreign
from .connections import tags_of
from .interface import HOST, LANE, REPLICA, Endpoint, Node, Service
from .memory import MemoryRegistry, placed
from .question import ask
from .table import SUBJECT

log = logging.getLogger("microcosmos.registry")

EVERY = 10.0
"""Seconds between two questions to everyone."""

CHECK = 1.0
"""Seconds between two looks whether the known foreign nodes are still there."""

MISSES = 2
"""How many looks in a row a foreign node is missing in until it is gone."""

_AT_FIRST = 0.5
_PATIENCE = 1.0
# The same question is not asked more often than this, in seconds, whoever wants an answer.
_PAUSE = 0.2
# After a break everyone connects again in their own time, and is not missed meanwhile.
_GRACE = 10.0
# How many nodes one look asks for.
_AT_ONCE = 100
_MOST_TOLD = 1000
_OF_NODE = (LANE, HOST, REPLICA)
_TOKEN = re.compile(r"[^\s.*>]+")

_info = msgspec.json.Decoder(announce.Info)


class _Foreign:
    """A foreign node.

    Attributes:
        service: as it is registered.
        said: its announcement, so that the same one need not be read again.
        ping: the subject that it alone listens on.
        subjects: what its endpoints listen on.
        misses: how often in a row it was not there.
    """

    __slots__ = ("misses", "ping", "said", "service", "subjects")

    def __init__(self, service: Service, said: bytes, ping: str) -> None:
        self.service = service
        self.said = said
        self.ping = ping
        self.subjects = {one.metadata.get(SUBJECT, "") for one in service.endpoints} - {""}
        self.misses = 0


class Discovery:
    """Keeps a registry told of who is on NATS.

    Args:
        nc: the engine.
        registry: who is told; `MemoryRegistry.look` asks at once from now on.
        reserved: names that no foreign service may take.
        namespace: the one whose account the connection is in.
    """

    def __init__(
        self,
        nc: NatsClient,
        registry: MemoryRegistry,
        reserved: Collection[str] = (),
        namespace: str = DEFAULT_NAMESPACE,
    ) -> None:
        self._nc = nc
        self._registry = registry
        self._reserved = reserved
        self._namespace = namespace
        self._foreign: dict[str, _Foreign] = {}
        self._bare: set[str] = set()
        self._told: set[str] = set()
        self._asked: dict[str, float] = {}
        self._news = asyncio.Event()
        self._turn = itertools.count()
        registry.finders[namespace] = self.look

    async def look(self, name: str = "") -> None:
        """Ask everyone, or all of a name, and register who answers.

        It is over once nobody has answered for a tenth of a second, or somebody else has just asked
        the same.
        """
        now = time.monotonic()
        if now - self._asked.get(name, -_PAUSE) < _PAUSE:
            return
        self._asked = {key: at for key, at in self._asked.items() if now - at < _PAUSE}
        self._asked[name] = now
        subject = f"$SRV.INFO.{names.announced(name)}" if name else "$SRV.INFO"
        try:
            answers = await ask(self._nc, subject)
        except (nats.errors.Error, OSError) as exc:
            log.warning("cannot ask who is on NATS: %s", exc)
            return
        for msg in answers:
            await self._register(msg.data)

    async def keep(self) -> None:
        """Ask everyone every few seconds, and look after the foreign nodes, for ever."""
        await asyncio.gather(self._rounds(), self._checks())

    async def _rounds(self) -> None:
        """More often at first: a cluster may still be joining, a service adding its endpoints."""
        pause = _AT_FIRST
        while True:
            try:
                await asyncio.wait_for(self._news.wait(), pause)
            except TimeoutError:
                pause = min(2 * pause, EVERY)
            else:
                self._news.clear()
                pause = _AT_FIRST
                continue
            self._registry.expire()
            if self._nc.is_connected:
                await self.look()

    async def _checks(self) -> None:
        breaks, calm = self._nc.stats["reconnects"], 0.0
        while True:
            await asyncio.sleep(CHECK)
            if breaks != self._nc.stats["reconnects"]:
                breaks, calm = self._nc.stats["reconnects"], time.monotonic() + _GRACE
            if self._nc.is_connected and time.monotonic() >= calm:
                await self._check()

    async def _check(self) -> None:
        """Ask for some of the foreign nodes, each at its own subject."""
        ids = list(self._foreign)
        start = next(self._turn) * _AT_ONCE % max(1, len(ids))
        chosen = (ids[start:] + ids[:start])[:_AT_ONCE]
        await asyncio.gather(*(self._ask_for(id) for id in chosen))

    async def _ask_for(self, id: str) -> None:
        known = self._foreign[id]
        try:
            await self._nc.request(known.ping, timeout=_PATIENCE)
            known.misses = 0
        except nats.errors.NoRespondersError:
            known.misses += 1
        except (nats.errors.Error, TimeoutError, OSError):
            return  # it may be busy
        if known.misses >= MISSES and id in self._foreign:
            del self._foreign[id]
            await self._registry.miss(known.service)

    async def _register(self, said: bytes) -> None:
        try:
            info = _info.decode(said)
            if (known := self._foreign.get(info.id)) and known.said == said:
                await self._renew(info.id, known.service)
            elif _is_ours(info):
                await self._register_ours(info)
            elif (own := await self._own_word(info)) is not None:
                await self._register_foreign(_info.decode(own), own)
        except (msgspec.DecodeError, UnicodeDecodeError, errors.Error) as exc:
            self._warn(f"a service on NATS announces itself in a way that cannot be read: {exc}")

    async def _own_word(self, info: announce.Info) -> bytes | None:
        """What a node says where it alone may listen; None if it says nothing there.

        Anybody may answer a question to everyone, and say there what he likes of others.
        """
        claimed = _claimed(info)
        if names.announced(claimed) != info.name:
            self._warn(
                f"a service on NATS is announced as {info.name!r} and calls itself {claimed!r}"
            )
            return None
        if not (_TOKEN.fullmatch(info.name) and _TOKEN.fullmatch(info.id)):
            self._warn(
                f"a service on NATS has a name or an id that cannot be asked: {info.id!r:.80}"
            )
            return None
        subject = f"$SRV.INFO.{info.name}.{info.id}"
        try:
            answer = await self._nc.request(subject, timeout=_PATIENCE)
        except (nats.errors.Error, TimeoutError, OSError):
            return None
        own = _info.decode(answer.data)
        same = (own.name, own.id) == (info.name, info.id)
        return answer.data if same and _claimed(own) == claimed else None

    async def _register_ours(self, info: announce.Info) -> None:
        if await self._registered(info) or self._registry.left(self._record(info)):
            return
        own = await self._own_word(info)
        if own is not None and not await self._registered(info):
            service = self._record(_info.decode(own))
            if not self._registry.left(service):
                await self._registry.register(service)

    async def _renew(self, id: str, service: Service) -> None:
        if REPLICA in service.nodes[0].metadata and not self._registry.has(service):
            # Its process has just ended; if not, it is new to us the next time.
            del self._foreign[id]
        else:
            await self._registry.register(service)

    async def _registered(self, info: announce.Info) -> bool:
        """Whether a replica of ours has registered by itself: then its own word stands."""
        name = (info.metadata or {})[announce.SERVICE]
        try:
            found = await self._registry.get_service(name, domain=self._namespace)
        except errors.NotFound:
            return False
        return any(node.id == f"{name}-{info.id}" for one in found for node in one.nodes)

    async def _register_foreign(self, info: announce.Info, said: bytes) -> None:
        name = _claimed(info)
        if name in self._reserved:
            self._warn(f"a foreign service calls itself {name}, which is the platform's own")
            return
        if not info.endpoints and info.id not in self._bare:
            # It may be about to add some: if it has none the next time, it has none.
            self._bare.add(info.id)
            self._news.set()
            return
        service = self._record(info)
        ping = f"$SRV.PING.{info.name}.{info.id}"
        known = self._foreign.get(info.id)
        if known is None:
            (node,) = service.nodes
            owner = await tags_of(self._nc, ping)
            nodes = [msgspec.structs.replace(node, metadata={**node.metadata, **owner})]
            self._news.set()
        else:
            nodes = known.service.nodes
        service = msgspec.structs.replace(service, nodes=nodes)
        await self._registry.register(service)
        self._bare.discard(info.id)
        self._foreign[info.id] = _Foreign(service, said, ping)
        self._warn_of_shared(self._foreign[info.id])

    def _record(self, info: announce.Info) -> Service:
        return placed(record(info), self._namespace)

    def _warn_of_shared(self, new: _Foreign) -> None:
        """Tell of subjects that two services listen on: each gets the calls of the other."""
        for other in self._foreign.values():
            shared = new.subjects & other.subjects
            if shared and other.service.name != new.service.name:
                one, two = sorted((new.service.name, other.service.name))
                self._warn(
                    f"{one} and {two} both listen on {min(shared)}, so that each gets calls of the "
                    "other; let each add its endpoints to a group called like itself"
                )

    def _warn(self, text: str) -> None:
        """Say something once: who is asked every few seconds answers the same."""
        if text not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(text)
            log.warning("%s", text)


def _is_ours(info: announce.Info) -> bool:
    """Whether it was written with our package: a foreign one tells no version but its own."""
    about = info.metadata or {}
    return bool(about.get(announce.SERVICE) and about.get(announce.VERSION))


def _claimed(info: announce.Info) -> str:
    """The name that a service gives itself."""
    return (info.metadata or {}).get(announce.SERVICE) or info.name


def record(info: announce.Info) -> Service:
    """The registry's record of a service that announced itself.

    Raises:
        errors.BadRequest: a name that cannot be one of ours.
    """
    about = info.metadata or {}
    name = names.check_service(about.get(announce.SERVICE) or info.name)
    of_node = {key: about[key] for key in _OF_NODE if key in about}
    found = dict(foreign.endpoints(name, info))
    return Service(
        name=name,
        version=about.get(announce.VERSION) or info.version,
        metadata={key: value for key, value in about.items() if key not in _OF_NODE},
        endpoints=[_endpoint(name, endpoint, info) for endpoint, info in found.items()],
        schemas=_schemas(found),
        nodes=[Node(id=f"{name}-{info.id}", metadata={"protocol": "nats", **of_node})],
    )


def _endpoint(service: str, name: str, info: announce.EndpointInfo) -> Endpoint:
    about = dict(info.metadata or {})
    request, response = foreign.shapes(name, about)
    for key in (announce.ENDPOINT, announce.SCHEMA, announce.REQUEST, announce.RESPONSE):
        about.pop(key, None)
    if info.subject != names.subject(service, name):
        about[SUBJECT] = info.subject
    return Endpoint(name=name, request=request, response=response, metadata=about)


def _schemas(found: dict[str, announce.EndpointInfo]) -> dict[str, msgspec.Raw]:
    return {
        name: msgspec.Raw(endpoint.metadata[announce.SCHEMA].encode())
        for name, endpoint in found.items()
        if endpoint.metadata and foreign.schema_of(endpoint.metadata) is not None
    }
