"""What a program has around it, and what a worker has in its slots."""

from __future__ import annotations

from typing import Protocol

from microcosmos.functions.interface import Unit
from microcosmos.rpc.line import Line

from .host import Host, Notes
from .realm import Spares
from .run import Run


class Slotted(Protocol):
    """A function in its slot.

    Attributes:
        unit: what it is.
        slot: its number.
        heap: bytes of memory, as last seen.
    """

    unit: Unit
    slot: int
    heap: int

    def frame(self, run: Run, kind: int, payload: bytes) -> None:
        """More of a request, or a word on its answer, has come."""

    def leave(self, run: Run) -> None:
        """Nobody wants the answer of a run any more."""

    def stir(self) -> None:
        """Do the jobs that were left by those who answered at once."""

    def look(self) -> bool:
        """End what takes too long; False if there is nothing to look after."""


class Around(Protocol):
    """What a program has around it.

    Attributes:
        host: does what functions may not do themselves.
        notes: is told what they use.
        spares: gives realms.
        streams: the runs that frames may still come for.
        used: nanoseconds of the processor that the process had used when this turn of its loop
            began.
        mark: its first word is the slot that runs, for who looks from outside.
    """

    host: Host
    notes: Notes
    spares: Spares
    streams: dict[tuple[Line | None, int], tuple[Slotted, Run]]
    used: int
    mark: memoryview

    def stirred(self, program: Slotted) -> None:
        """Call its `stir` when the answers of this turn are on their way."""

    def watch(self, program: Slotted) -> None:
        """Call its `look` now and then, until that is False."""
