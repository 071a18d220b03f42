"""The process: as that of quickjs, but for where functions run."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Unit
from microcosmos.functions.quickjs import worker
from microcosmos.rpc.line import Line

from .instance import Instance
from .limits import MIB
from .machine import Machine
from .origin import Origin
from .program import Loaded

_prepared: list[Machine] = []


def prepare(folder: Path) -> tuple[int, ...]:
    """Get the compiled guest, before the walls go up; starts no thread.

    Args:
        folder: where it is kept.

    Returns:
        Descriptors that are to stay open: those of the files that memories begin with.

    Raises:
        errors.Unavailable: it cannot be compiled.
    """
    before = _descriptors()
    machine = Machine(folder)
    # Whatever the library opens for the first one is opened now.
    Instance(machine, MIB * 64).close()
    _prepared[:] = [machine]
    return tuple(_descriptors() - before)


def _descriptors() -> frozenset[int]:
    """All that are open."""
    found = [int(path.name) for path in Path("/dev/fd").iterdir()]
    return frozenset(number for number in found if _is_open(number))


def _is_open(number: int) -> bool:
    # That by which they were looked at is not any more.
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def run(listener: socket.socket) -> None:
    """Work for whoever connects, until SIGTERM or the host's GOAWAY; `prepare` comes first."""
    (machine,) = _prepared
    origin = Origin(machine)
    worker.run(listener, lambda: Worker(origin))


class Worker(worker.Worker):
    """Functions by their slots.

    Args:
        origin: of all realms.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        super().__init__()

    def _made(self, unit: Unit) -> Loaded:
        return Loaded(unit, next(self._slots), self, self._origin)

    def _check(self, line: Line, stream: int, body: bytes) -> wire.Checked:
        # The engine that can do so has no second wall.
        raise errors.BadRequest("functions", "sources are not checked by a wasm worker")

    def _soon_spare(self) -> None:
        """No realm is made before it is needed."""
