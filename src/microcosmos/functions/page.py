"""The page: what a worker leaves behind about what it runs, should it not live to tell.

Memory that a worker shares with the zygote alone, which makes it before the fork. To write to it
costs some 20 ns, so the worker can say before each entry into its engine whose that is. When it
hangs or has died, the zygote reads who was at work.
"""

from __future__ import annotations

import mmap

import msgspec

SIZE = 4096
"""Bytes of a page."""

LOADING = 1 << 63
"""The slot of a version that is being loaded: it has none yet, and its key stands in the page."""

LONGEST_KEY = 128
"""Bytes of a key that are kept."""

_TELLS = 1
_LENGTH = 2
_KEY = 64


class Running(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker runs, or ran when it ended.

    Attributes:
        slot: of the version; 0 is none, `LOADING` one that has no slot yet, -1 is not known.
        key: of a version that is being loaded.
    """

    slot: int = -1
    key: str = ""

    @property
    def known(self) -> bool:
        """Whether the worker tells at all."""
        return self.slot >= 0


class Page:
    """One page.

    Attributes:
        mark: its first word is the slot of the version that runs; 0 is none.

    Args:
        memory: `SIZE` bytes.
    """

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory
        self.mark = memoryview(memory).cast("Q")

    def tell(self) -> None:
        """From now on what is marked is what runs."""
        self.mark[_TELLS] = 1

    def loading(self, key: str) -> None:
        """A version is being loaded, until something else is marked."""
        text = key.encode()[:LONGEST_KEY]
        self._memory[_KEY : _KEY + len(text)] = text
        self.mark[_LENGTH] = len(text)
        self.mark[0] = LOADING

    def read(self) -> Running:
        """What runs. The worker may have written anything: nobody takes it for more than a word."""
        if self.mark[_TELLS] != 1:
            return Running()
        slot = self.mark[0]
        if slot != LOADING:
            return Running(slot)
        size = min(self.mark[_LENGTH], LONGEST_KEY)
        return Running(slot, bytes(self._memory[_KEY : _KEY + size]).decode("utf-8", "replace"))

    def close(self) -> None:
        """Let go of it."""
        self.mark.release()
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()


def shared() -> Page:
    """A page that children of this process have too."""
    return Page(mmap.mmap(-1, SIZE))


_own: list[Page] = []


def take(page: Page) -> None:
    """A page is this process' own from now on."""
    _own[:] = [page]


def mine() -> Page:
    """The page of this process; one that nobody reads, where no zygote has made it."""
    if not _own:
        _own.append(Page(bytearray(SIZE)))
    return _own[0]
