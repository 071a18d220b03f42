"""What was said of topics: a message for each in a stream of their own, and what members know."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec
import nats.errors
from nats.aio.msg import Msg

from microcosmos.base import errors
from microcosmos.rpc.connection import settle

from .api import BATCH, Api, request, unavailable
from .layout import TOPIC_SUBJECT, TOPICS
from .link import Link

log = logging.getLogger("microcosmos.events")

_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class TopicSettings(msgspec.Struct, frozen=True):
    """What was said of a topic.

    Attributes:
        ttl: seconds that its events are kept, 0 for ever.
        gone: it was deleted.
    """

    ttl: float = 0
    gone: bool = False


_decode = msgspec.json.Decoder(TopicSettings).decode


class Settings:
    """The settings of a namespace's topics, for the core.

    Args:
        api: the engine.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    async def write(self, topic: str, settings: TopicSettings) -> None:
        """Say something of a topic; publishers hear it."""
        answer = await request(self._api.nc, TOPIC_SUBJECT + topic, msgspec.json.encode(settings))
        said = msgspec.json.decode(answer.data)
        if "error" in said:
            raise errors.Unavailable("events", str(said["error"].get("description")))

    async def remove(self, topic: str) -> None:
        """Say nothing of a topic any more."""
        await self.write(topic, TopicSettings(gone=True))
        await self._api.ask(f"STREAM.PURGE.{TOPICS}", {"filter": TOPIC_SUBJECT + topic})

    async def read(self, pattern: str = ">") -> dict[str, TopicSettings]:
        """What is said of the topics that a pattern stands for."""
        found: dict[str, TopicSettings] = {}
        after = 0
        while page := await self._api.read(TOPICS, after, BATCH, TOPIC_SUBJECT + pattern):
            after = page[-1].sequence
            for one in page:
                with contextlib.suppress(msgspec.DecodeError):
                    found[one.subject.removeprefix(TOPIC_SUBJECT)] = _decode(one.payload)
        return {topic: said for topic, said in found.items() if not said.gone}

    async def ttls(self) -> dict[str, float]:
        """See `engine.Control.ttls`."""
        return {topic: said.ttl for topic, said in (await self.read()).items() if said.ttl}


class Ttls:
    """How long the events of topics are kept, as publishers know it.

    They hear of changes. What they could not hear they ask for when the connection is back.

    Args:
        link: the connection.
        load: asks for all.
    """

    def __init__(self, link: Link, load: Callable[[], Awaitable[dict[str, float]]]) -> None:
        self._link = link
        self._load = load
        self._known: dict[str, float] = {}
        self._news: dict[str, float] = {}
        self._loading: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    def __call__(self, topic: str) -> float:
        """Seconds, 0 for ever."""
        return self._known.get(topic, 0)

    def set(self, topic: str, ttl: float) -> None:
        """Know it of a topic."""
        self._news[topic] = ttl
        if ttl:
            self._known[topic] = ttl
        else:
            self._known.pop(topic, None)

    async def open(self) -> None:
        """Listen to changes, and ask for all; who cannot be reached is asked later."""
        try:
            self._changes = await self._link.nc.subscribe(f"{TOPIC_SUBJECT}>", cb=self._heard)
        except nats.errors.Error as exc:
            raise unavailable(exc) from None
        self._link.add(self)
        self._begin()

    async def close(self) -> None:
        """Listen no more."""
        self._link.remove(self)
        if self._loading is not None:
            self._loading.cancel()
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._changes.unsubscribe()

    @property
    def asked(self) -> bool:
        """Whether it was asked for once."""
        return self._asked.is_set()

    async def known(self) -> None:
        """Return once it was asked for the first time."""
        await self._asked.wait()

    def broken(self) -> None:
        """See `link.Listener`."""

    def restored(self) -> None:
        """See `link.Listener`."""
        self._begin()

    def _begin(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        self._loading = asyncio.create_task(self._ask(), name="settings of topics")

    async def _ask(self) -> None:
        pause = _PAUSE
        while True:
            self._news.clear()
            try:
                # What is said from now on is heard; what was said before is loaded.
                await settle(self._link.nc)
                loaded = await self._load()
            except (errors.Error, nats.errors.Error, OSError, TimeoutError) as error:
                # Until then events are kept for longer than was said, not for less.
                log.debug("settings of topics: %s", error)
                self._asked.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                # What was heard meanwhile may be newer.
                self._known = {topic: ttl for topic, ttl in {**loaded, **self._news}.items() if ttl}
                self._asked.set()
                return

    async def _heard(self, msg: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            said = _decode(msg.data)
            self.set(msg.subject.removeprefix(TOPIC_SUBJECT), 0 if said.gone else said.ttl)
