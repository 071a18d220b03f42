"""The contract of the broker: messages on topics, for whoever listens just now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from microcosmos.base import codec

from .failures import Failure, Failures

MAX_BODY = 8 * 1024 * 1024
"""The largest body of a message, in bytes; larger things are blobs."""

KEY = "Micro-Key"
"""The header with the key of a message: those of one key may be handled in order."""


class Message(msgspec.Struct, gc=False):
    """What subscribers get.

    Attributes:
        topic: what it was published under.
        body: what was published; JSON unless the publisher sent bytes.
        headers: the publisher's metadata, Title-Cased, its ``Content-Type`` among them.
        report: where failures of subscribers are told of, or empty: a subject of the publisher's.
    """

    topic: str
    body: bytes
    headers: dict[str, str] = {}
    report: str = ""

    @property
    def key(self) -> str:
        """Messages of one key may be handled in order; empty when it has none."""
        return self.headers.get(KEY, "")

    def unmarshal(self, type: Any = Any) -> Any:
        """The body's JSON as a type.

        Raises:
            errors.BadRequest: it is not of that type.
        """
        return codec.decode(self.body, type, id="broker")


Sink = Callable[[Message], None]
"""Takes a message at once; it never blocks, waits or raises."""

FailureSink = Callable[[Failure], None]
"""Takes what failed at once; it never blocks, waits or raises."""


class Subscription(Protocol):
    """A sink that is being filled."""

    async def close(self) -> None:
        """Fill it no more; what it was given stays given."""


class Reports(Protocol):
    """An address that failures of subscribers are told to, until it is closed."""

    @property
    def address(self) -> str:
        """What publishers give as ``report``."""

    async def close(self) -> None:
        """Be told no more."""


class Broker(Protocol):
    """Carries messages from publishers to subscribers; nobody remembers them.

    At most once: who does not listen when a message is published never gets it. No order is
    promised between publishers.
    """

    @property
    def failures(self) -> Failures:
        """What went wrong here, counted."""

    async def publish(
        self,
        topic: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        report: str = "",
    ) -> None:
        """Send a message to all who listen: every subscriber, and one of each queue.

        Args:
            topic: what it is published under.
            body: JSON, or whatever ``Content-Type`` says.
            headers: its metadata.
            report: where subscribers tell of their failures; this process unless said.

        Raises:
            errors.BadRequest: no topic, or headers that cannot be sent.
            errors.TooLarge: the body is over `MAX_BODY`.
            errors.Unavailable: the engine cannot be reached.
        """

    async def subscribe(self, pattern: str, sink: Sink, *, queue: str = "") -> Subscription:
        """Listen; what is published after this has returned is heard.

        Args:
            pattern: a topic or a pattern of topics, as of `base.topics`.
            sink: gets the messages.
            queue: those who give the same name share the messages: each goes to one of them.

        Raises:
            errors.BadRequest: no pattern, or no name of a queue.
            errors.Forbidden: this process may not listen there.
            errors.Unavailable: the engine cannot be reached.
        """

    async def report(self, message: Message, subscriber: str, reason: str) -> None:
        """Tell a message's publisher, in its log and counters, that a subscriber failed.

        A message that came without an address to report to is not reported.
        """

    async def reports(self, sink: FailureSink) -> Reports:
        """Be told of failures under an address of one's own."""

    async def close(self) -> None:
        """Give back what it has of the engine; its subscriptions are closed by who has them."""
