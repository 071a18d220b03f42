"""Running functions for others than gateways: for calls, and for events."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from microcosmos.base import codec, errors
from microcosmos.functions import wire
from microcosmos.functions.calling import Caller, Streamed
from microcosmos.functions.counting import Failed, unheard
from microcosmos.functions.interface import Live, Share
from microcosmos.functions.spending import check_spent
from microcosmos.functions.workers import Where
from microcosmos.rpc.interface import MAX_BODY

Find = Callable[[str, str], Live | None]
"""Gives a function by namespace and name; `following.Known.get`."""


class Answer(NamedTuple):
    """What a function answered.

    Attributes:
        status: its code.
        kind: of the body, as of `wire`.
        headers: pairs.
        body: whole.
    """

    status: int
    kind: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def content_type(self) -> str:
        """What the body is, in small letters without parameters, or empty."""
        for name, value in self.headers:
            if name.lower() == "content-type":
                return value.partition(";")[0].strip().lower()
        if self.kind < wire.GIVEN:
            return wire.CONTENT_TYPES[self.kind].partition(";")[0]
        return ""


class Runner:
    """Runs functions.

    Args:
        caller: sends requests to workers.
        find: knows the functions.
        failed: is told of requests and events that were answered by an error.
    """

    def __init__(self, caller: Caller, find: Find, failed: Failed = unheard) -> None:
        self._caller = caller
        self._find = find
        self._failed = failed

    async def post(
        self,
        namespace: str,
        name: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeout: float | None = None,
    ) -> Answer:
        """Send a POST to the top of a function's family.

        Args:
            namespace: where it lives.
            name: of the function.
            headers: pairs.
            body: the request's.
            timeout: seconds to wait at most; the function has its own limit.

        Raises:
            errors.NotFound: there is none.
            errors.TooLarge: the answer is over `MAX_BODY`.
            errors.Error: what became of it.
        """
        live = self._live(namespace, name)
        share = _drawn(live.shares)
        url = f"http://localhost/{name.replace('.', '/')}"
        head = b"\n".join((b"POST", url.encode(), b"", wire.encode(headers), b""))
        limit = share.wall if timeout is None else min(timeout, share.wall)
        with self._counted(live, share):
            payload = await self._caller.run(_where(live, share), head, body, timeout=limit)
        return await whole(payload, name)

    async def event(
        self, namespace: str, name: str, on: str, handler: str, event: dict[str, Any]
    ) -> None:
        """Let a function handle an event; returns when it has.

        Args:
            namespace: where it lives.
            name: of the function.
            on: what it is run by, as of `interface.Draft.on`: a version that is not is left out.
            handler: ``consume`` or ``scheduled``.
            event: its argument.

        Raises:
            errors.NotFound: there is no such function.
            errors.Error: what became of it.
        """
        live = self._live(namespace, name)
        shares = [share for share in live.shares if on in share.on]
        if not shares:
            raise errors.NotFound("functions", f"{name} is not run by {on} any more")
        share = _drawn(shares)
        argument = codec.encode(event)

        def body(slot: int) -> bytes:
            return wire.encode(wire.Event(slot=slot, handler=handler, event=msgspec.Raw(argument)))

        where = _where(live, share)
        with self._counted(live, share):
            await self._caller.ask(where, wire.EVENT, body, timeout=share.wall)

    def _live(self, namespace: str, name: str) -> Live:
        live = self._find(namespace, name)
        if live is None or not live.shares:
            raise errors.NotFound("functions", f"there is no function {name}")
        try:
            check_spent(live)
        except errors.Error as error:
            self._failed(live.namespace, live.name, 0, error)
            raise
        return live

    @contextlib.contextmanager
    def _counted(self, live: Live, share: Share) -> Iterator[None]:
        """See that what fails is counted, if no worker can."""
        try:
            yield
        except errors.Error as error:
            self._failed(live.namespace, live.name, share.number, error)
            raise


def _drawn(shares: Sequence[Share]) -> Share:
    """One of several versions, by their weights."""
    if len(shares) == 1:
        return shares[0]
    return random.choices(shares, [max(share.weight, 0) or 0.001 for share in shares])[0]


def _where(live: Live, share: Share) -> Where:
    return Where(live.namespace, live.name, share.number, share.key)


async def whole(payload: bytes, name: str) -> Answer:
    """An answer whose body is read to its end.

    Raises:
        errors.TooLarge: it is too long.
    """
    status, kind, head, body = wire.unpack_reply(payload)
    if isinstance(payload, Streamed):
        parts, size = [body], len(body)
        try:
            async for part in payload.body:
                parts.append(part)
                size += len(part)
                if size > MAX_BODY:
                    detail = f"{name} answers with more than the {MAX_BODY} bytes of one call"
                    raise errors.TooLarge("functions", detail)
        except BaseException:
            payload.body.cancel()
            raise
        body = b"".join(parts)
    headers = wire.decode_headers(head) if head else []
    return Answer(status, kind & ~wire.STREAMED, headers, body)
