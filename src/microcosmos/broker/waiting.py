"""Messages that wait to be handled: so many at most, and those of one key one after another."""

from __future__ import annotations

from collections import deque

from .interface import Message

MAX_WAITING = 10_000
"""Messages that wait for one subscriber; further ones are dropped."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""The bytes that they may have; one message always may wait."""


class Waiting:
    """Messages in the order in which they may be handled.

    Args:
        ordered: the next message of a key is given only after `done` with the one before;
            messages without a key are of one key.
        most: of them.
        most_bytes: that their bodies have.
    """

    def __init__(
        self,
        *,
        ordered: bool = False,
        most: int = MAX_WAITING,
        most_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self.most = most
        self.most_bytes = most_bytes
        self._ready: deque[Message] = deque()
        # Of each key that is ready or being handled, what waits behind it.
        self._behind: dict[str, deque[Message]] | None = {} if ordered else None
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    @property
    def ready(self) -> int:
        """How many can be taken at once."""
        return len(self._ready)

    def put(self, message: Message) -> bool:
        """Let a message wait; False if too much does already."""
        size = self._bytes + len(message.body)
        if self._count >= self.most or (self._count and size > self.most_bytes):
            return False
        self._count += 1
        self._bytes = size
        if self._behind is None:
            self._ready.append(message)
        elif (behind := self._behind.get(message.key)) is not None:
            behind.append(message)
        else:
            self._behind[message.key] = deque()
            self._ready.append(message)
        return True

    def take(self) -> Message | None:
        """The next message that may be handled; None if there is none just now."""
        if not self._ready:
            return None
        message = self._ready.popleft()
        self._count -= 1
        self._bytes -= len(message.body)
        return message

    def done(self, message: Message) -> None:
        """A message that was taken is handled: the next one of its key may be."""
        if self._behind is None:
            return
        if behind := self._behind[message.key]:
            self._ready.append(behind.popleft())
        else:
            del self._behind[message.key]
