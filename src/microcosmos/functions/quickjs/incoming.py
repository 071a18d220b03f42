"""A body that comes from a line, until the function has read it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from microcosmos.base import errors


class Incoming:
    """A body that comes.

    Args:
        most: bytes that may be read whole.
        grant: lets its sender send so many more bytes.
        stop: tells its sender that nobody wants the rest.
        large: the error of what is too large.
    """

    def __init__(
        self,
        most: int,
        grant: Callable[[int], None],
        stop: Callable[[], None],
        large: Callable[[], errors.Error],
    ) -> None:
        self._most = most
        self._grant = grant
        self._stop = stop
        self._large = large
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: errors.Error | None = None
        self._piece: Callable[[bytes | errors.Error | None], None] | None = None
        self._whole: Callable[[bytes | errors.Error | None], None] | None = None

    def take(self, part: bytes) -> None:
        """A part has come."""
        if self._ended or not part:
            return
        self._parts.append(part)
        self._size += len(part)
        self._go_on()

    def end(self, failure: errors.Error | None = None) -> None:
        """That was all, or something is wrong with it."""
        if not self._ended:
            self._ended = True
            self._failure = failure
            self._go_on()

    def discard(self) -> None:
        """Nobody reads it any more."""
        self._piece = self._whole = None
        self._parts.clear()
        if not self._ended:
            self._ended = True
            self._stop()

    def piece(self, then: Callable[[bytes | errors.Error | None], None]) -> None:
        """Give the next part, as soon as there is one; None at the end."""
        self._piece = then
        self._go_on()

    def whole(self, then: Callable[[bytes | errors.Error | None], None]) -> None:
        """Give everything, once it is there."""
        self._whole = then
        if self._size and not self._ended:
            self._grant(self._size)
        self._granted = self._size
        self._go_on()

    def _go_on(self) -> None:
        if (whole := self._whole) is not None:
            if self._size > self._most:
                self._whole = None
                self.discard()
                whole(self._large())
            elif self._ended:
                self._whole = None
                whole(self._failure or b"".join(self._parts))
            elif self._size > self._granted:
                self._grant(self._size - self._granted)
                self._granted = self._size
        elif (piece := self._piece) is not None:
            if self._parts:
                self._piece = None
                part = self._parts.popleft()
                if not self._ended:
                    self._grant(len(part))
                piece(part)
            elif self._ended:
                self._piece = None
                piece(self._failure)
