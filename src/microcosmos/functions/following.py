"""The functions that run, in memory, kept current by a stream: for gateways and the host."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterator
from types import TracebackType

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc import Client

from .interface import Live, News, Spent
from .requests import NAME, FollowRequest, Heard
from .spent import Key, by_key, of

PAUSE = 0.1
"""Seconds until functions that could not be followed are asked for again; they double."""

LONGEST_PAUSE = 0.2
"""The longest such pause, in seconds."""

Listener = Callable[[str, str, Live | None], None]
"""Is told the namespace and the name of a function, and the function unless it is no more."""

log = logging.getLogger("microcosmos.functions")

_news = msgspec.json.Decoder(News)

_Key = tuple[str, str]


class Known:
    """All functions of all namespaces, as the core tells them.

        async with Known(client) as known:
            await known.settle(5)
            known.get("micro", "shop")

    While the core is away what was known last stands. A list that is told anew takes the place of
    the one before when all of it has come: nobody sees half of it.

    Attributes:
        ready: set once everything is known.

    Args:
        client: calls as a process of the platform.
    """

    def __init__(self, client: Client) -> None:
        self._client = client.own()
        self._functions: dict[_Key, Live] = {}
        self._coming: dict[_Key, Live] | None = None
        self._spent: dict[Key, Spent] = {}
        self._since = FollowRequest()
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    async def __aenter__(self) -> Known:
        # A context of its own: the stream outlives a call that it may be opened in.
        self._task = asyncio.create_task(
            self._follow(), name="functions", context=contextvars.Context()
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._functions)

    def __iter__(self) -> Iterator[Live]:
        return iter([*self._functions.values()])

    def get(self, namespace: str, name: str) -> Live | None:
        """A function; None if there is none of that name."""
        return self._functions.get((namespace, name))

    def listen(self, listener: Listener) -> None:
        """Tell of what is known, and then of each change, as it comes; listeners do not wait."""
        self._listeners.append(listener)
        for (namespace, name), live in [*self._functions.items()]:
            self._call(listener, namespace, name, live)

    async def settle(self, patience: float) -> None:
        """Wait until everything is known.

        Raises:
            errors.Unavailable: it is not within so many seconds.
        """
        try:
            await asyncio.wait_for(self.ready.wait(), patience)
        except TimeoutError:
            detail = "the core has not told yet which functions there are; try again"
            raise errors.Unavailable(NAME, detail) from None

    async def _follow(self) -> None:
        pause = PAUSE
        while True:
            self._coming = None
            body = codec.encode(self._since)
            try:
                async with self._client.stream(NAME, "Functions.Follow", body) as stream:
                    async for message in stream:
                        news = _news.decode(message)
                        self.apply(news)
                        pause = PAUSE
                        if not news.more:
                            await stream.send(codec.encode(Heard(news.sequence)))
            except errors.Error as error:
                log.debug("functions cannot be followed: %s", error)
            except msgspec.MsgspecError as error:
                log.warning("the core tells functions in another form: %s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def apply(self, news: News) -> None:
        """Take over what the core has told."""
        if news.fresh:
            self._coming = {}
        live = {(one.namespace, one.name): one for one in news.live}
        if news.spent is not None:
            self._spent = by_key(news.spent)
            if self._coming is None:
                live = {**self._functions, **live}
        live = {key: self._limited(one) for key, one in live.items()}
        changes: list[tuple[_Key, Live | None]] = []
        if self._coming is None:
            changes = self._changed(live, news.gone)
        else:
            self._coming.update(live)
            if not news.more:
                before, self._functions, self._coming = self._functions, self._coming, None
                changes = _differences(before, self._functions)
        if not news.more:
            self._since = FollowRequest(news.epoch, news.sequence)
            self.ready.set()
        for (namespace, name), now in changes:
            for listener in self._listeners:
                self._call(listener, namespace, name, now)

    def _limited(self, live: Live) -> Live:
        """A function with what its quotas say."""
        spent = of(live, self._spent)
        return live if spent == live.spent else msgspec.structs.replace(live, spent=spent)

    def _changed(self, live: dict[_Key, Live], gone: list[_Key]) -> list[tuple[_Key, Live | None]]:
        """Take over changes, and return those that are some."""
        known = self._functions
        changes: list[tuple[_Key, Live | None]] = [(key, None) for key in gone if key in known]
        changes += [(key, one) for key, one in live.items() if known.get(key) != one]
        for key in gone:
            known.pop(key, None)
        known.update(live)
        return changes

    def _call(self, listener: Listener, namespace: str, name: str, live: Live | None) -> None:
        try:
            listener(namespace, name, live)
        except Exception:
            log.exception("what follows functions failed at %s of %s", name, namespace)


def _differences(
    before: dict[_Key, Live], after: dict[_Key, Live]
) -> list[tuple[_Key, Live | None]]:
    """What is new, different or gone; gone first, so that what took its place is told after it."""
    return [
        *((key, None) for key in before if key not in after),
        *((key, live) for key, live in after.items() if before.get(key) != live),
    ]
