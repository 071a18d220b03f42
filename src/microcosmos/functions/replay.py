"""Replay: a world for functions that is the same again, in its randomness and in its time.

All randomness is the key stream of ChaCha20 (RFC 8439), whose key is the SHA-256 of the seed, with
a nonce of zeros and a counter from 0. ``crypto.getRandomValues`` and ``os.urandom`` take its bytes
as they come, ``crypto.randomUUID`` sixteen of them, and ``Math.random`` eight: the upper 53 bits of
a little-endian number, over 2 ** 53.

The clock begins at the same moment for each request. It goes on by a step whenever it is looked at,
and to the time of a timer when that is due, which is when nothing else is to come.
"""

from __future__ import annotations

import hashlib
import struct

import msgspec

from microcosmos.base import errors

from .interface import Replay

MARK = "~"
"""Between the key of a version and what names a replay of it."""

MAX_SEED = 1000
"""The most characters of a seed."""

EARLIEST, LATEST = -62_135_596_800_000.0, 253_402_300_799_000.0
"""Milliseconds since the epoch that a clock may begin at: the years 1 to 9999."""

MAX_STEP = 86_400_000.0
"""The most milliseconds that a look at the clock may take."""

_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_ROUNDS = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)
_WORD = 0xFFFFFFFF


def check(replay: Replay) -> None:
    """Refuse a replay that cannot be.

    Raises:
        errors.BadRequest: it is so; the detail says which part.
    """
    if len(replay.seed) > MAX_SEED:
        raise errors.BadRequest("functions", f"seed: at most {MAX_SEED:,} characters")
    # Written so that what is no number is refused too.
    if not EARLIEST <= replay.clock <= LATEST:
        raise errors.BadRequest("functions", "clock: a time from the year 1 to the year 9999")
    if not 0 <= replay.step <= MAX_STEP:
        raise errors.BadRequest("functions", "step: from 0 to 24 hours")


def key_of(key: str, replay: Replay) -> str:
    """What names a version in a replay.

    Args:
        key: as of `interface.Share`.
        replay: of it.
    """
    return f"{key}{MARK}{hashlib.sha256(msgspec.json.encode(replay)).hexdigest()[:16]}"


def is_replayed(key: str) -> bool:
    """Whether a key names a version in a replay."""
    return MARK in key


def stream_key(seed: str) -> bytes:
    """The key of a seed's stream."""
    return hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest()


class World:
    """The randomness and the time of one request.

    Attributes:
        clock: milliseconds since the epoch, as it is seen next.

    Args:
        replay: says what they are.
        clock: where its clock is, if not at the beginning.
        at: bytes of randomness that have been taken already.
    """

    def __init__(self, replay: Replay, clock: float | None = None, at: int = 0) -> None:
        self._replay = replay
        self.clock = replay.clock if clock is None else clock
        self._at = at
        self._key = struct.unpack("<8I", stream_key(replay.seed))

    def copy(self) -> World:
        """One that goes on from here."""
        return World(self._replay, self.clock, self._at)

    def look(self) -> float:
        """The time, in milliseconds since the epoch; it goes on by a step."""
        seen = self.clock
        self.clock += self._replay.step
        return seen

    def reached(self, clock: float) -> None:
        """So late it is at least."""
        self.clock = max(self.clock, clock)

    def random(self, size: int) -> bytes:
        """So many random bytes."""
        begin, self._at = self._at, self._at + size
        blocks = range(begin // 64, -(-self._at // 64))
        stream = b"".join(_block(self._key, number) for number in blocks)
        skipped = begin - 64 * blocks.start
        return stream[skipped : skipped + size]


def _block(key: tuple[int, ...], number: int) -> bytes:
    """One block of ChaCha20, with a nonce of zeros."""
    start = [*_CONSTANTS, *key, number & _WORD, number >> 32, 0, 0]
    words = [*start]
    for _ in range(10):
        for a, b, c, d in _ROUNDS:
            for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                words[x] = (words[x] + words[y]) & _WORD
                mixed = words[z] ^ words[x]
                words[z] = (mixed << turn | mixed >> (32 - turn)) & _WORD
    return struct.pack("<16I", *((a + b) & _WORD for a, b in zip(words, start, strict=True)))
