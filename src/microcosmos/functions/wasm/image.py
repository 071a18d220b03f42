"""An image: the memory of an instance as it was, which others begin with.

They share its pages until they write to them. So a realm costs what it touches, and a fresh one
takes no longer than it takes to say where its memory comes from.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile

from .instance import Instance

_FIXED = 0x10
_NOTHING = bytes(mmap.PAGESIZE)
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_int64,
)


class Image:
    """What a memory holds.

    Attributes:
        size: bytes of it.

    Args:
        instance: whose memory it is.
    """

    def __init__(self, instance: Instance) -> None:
        instance.measure()
        self.size = instance.size
        self._file = _unnamed()
        try:
            os.truncate(self._file, self.size)
            memory = (ctypes.c_char * self.size).from_address(instance.address)
            self._fill(memoryview(memory).cast("B"))
        except BaseException:
            self.close()
            raise

    def _fill(self, memory: memoryview) -> None:
        # What nobody has written to is more than half of it, and takes no room.
        for at in range(0, self.size, mmap.PAGESIZE):
            page = memory[at : at + mmap.PAGESIZE]
            if page != _NOTHING:
                os.pwrite(self._file, page, at)

    def close(self) -> None:
        """Nobody begins with it any more; those who have, go on."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def into(self, instance: Instance) -> None:
        """Let an instance that was never used begin with it.

        Raises:
            OSError: there is no room.
        """
        instance.grow(self.size)
        mode, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _FIXED
        found = _mmap(instance.address, self.size, mode, kind, self._file, 0)
        if found == _FAILED:
            raise OSError(ctypes.get_errno(), "a memory cannot be mapped")

    def places(self, what: bytes) -> list[int]:
        """Where in it something is."""
        found = []
        with mmap.mmap(self._file, self.size, prot=mmap.PROT_READ) as memory:
            at = memory.find(what)
            while at >= 0:
                found.append(at)
                at = memory.find(what, at + 1)
        return found


def _unnamed() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("image", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
