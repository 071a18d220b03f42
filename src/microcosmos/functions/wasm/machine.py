"""The guest on this machine: what its instances share, and the little that it may import."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import wasmtime

from . import guest
from .watch import Watch

_BAD_DESCRIPTOR = 8
_NO_HOST_FUNCTION = -1


class Current(Protocol):
    """What runs just now.

    Attributes:
        clock: nanoseconds since the epoch, as the guest sees them.
    """

    clock: Callable[[], int]

    def write(self, at: int, data: bytes) -> None:
        """Put bytes into its memory."""


class Machine:
    """The compiled guest.

    Attributes:
        engine: that it runs in.
        ready: the guest with its imports, to be instantiated.
        watch: looks on while it runs.
        current: the instance that runs.
        taken: bytes of the memories of all instances, but for what they share.
        shared: bytes of an instance that it shares with all others.

    Args:
        folder: where the compiled guest is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.engine = guest.engine()
        module = guest.module(self.engine, folder)
        self.ready = self._linked(module).instantiate_pre(module)
        self.watch = Watch(self.engine.increment_epoch)
        self.current: Current
        self.taken = self.shared = 0

    def _linked(self, module: wasmtime.Module) -> wasmtime.Linker:
        # No WASI of the library's: nothing of this system is to be had but time and randomness.
        linker = wasmtime.Linker(self.engine)
        imports: dict[str, Callable[..., int | None]] = {
            "clock_time_get": self._clock,
            "random_get": self._random,
            "environ_sizes_get": self._no_environment,
            "environ_get": lambda *_: 0,
            "proc_exit": _exit,
            "host_interrupt": lambda: 0,
            "host_call": lambda *_: _NO_HOST_FUNCTION,
            "host_module_normalize": lambda *_: 0,
            "host_module_load": lambda *_: 0,
        }
        for wanted in module.imports:
            kind = wanted.type
            assert isinstance(kind, wasmtime.FuncType)
            function = imports.get(wanted.name or "", lambda *_: _BAD_DESCRIPTOR)
            linker.define_func(wanted.module, wanted.name or "", kind, function)
        return linker

    def _clock(self, clock: int, precision: int, at: int) -> int:
        self.current.write(at, struct.pack("<Q", self.current.clock()))
        return 0

    def _random(self, at: int, size: int) -> int:
        # That of the guest itself; what functions see is theirs.
        self.current.write(at, os.urandom(size & 0xFFFF))
        return 0

    def _no_environment(self, count: int, size: int) -> int:
        self.current.write(count, bytes(4))
        self.current.write(size, bytes(4))
        return 0


def _exit(code: int) -> None:
    raise RuntimeError(f"the guest has ended itself: {code}")
