"""A function in a replay: each of its requests and events has a realm of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

from microcosmos.functions.interface import Unit
from microcosmos.rpc.line import Line

from . import failures
from .around import Around
from .program import Program

AT_ONCE = 16
"""Requests and events of one function in a replay that are under way at a time."""


class Replayed(Program):
    """A function in its slot, whose world begins anew with each request.

    Args:
        unit: what it is.
        slot: its number.
        around: the worker.
    """

    def __init__(self, unit: Unit, slot: int, around: Around) -> None:
        super().__init__(unit, slot, around)
        self._under_way: list[Program] = []

    def load(self) -> None:
        """See whether its code can be run; what that has made is thrown away."""
        once = self._made()
        once.load()
        self.heap = once.heap
        once.drop()

    def see(self) -> int:
        """Look at the bytes that it takes."""
        self.heap = sum(program.see() for program in self._busy())
        return self.heap

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._busy())

    def drop(self) -> None:
        """Let go of everything; nobody is told."""
        for program in self._under_way:
            program.drop()

    def request(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Answer a request whose body is whole."""
        self._begun(line, stream, lambda program: program.request(line, stream, head, body))

    def open(self, line: Line, stream: int, head: bytes, body: bytes) -> None:
        """Begin a request whose body follows."""
        self._begun(line, stream, lambda program: program.open(line, stream, head, body))

    def event(self, line: Line, stream: int, handler: str, event: bytes) -> None:
        """Let it handle an event."""
        self._begun(line, stream, lambda program: program.event(line, stream, handler, event))

    def _begun(self, line: Line, stream: int, begin: Callable[[Program], None]) -> None:
        if len(self._busy()) >= AT_ONCE:
            refused = self._runs.begin(line, stream, b"", time.perf_counter_ns())
            self._runs.fail(refused, failures.limit("concurrency", self._limits))
            return
        program = self._made()
        self._under_way.append(program)
        # It is loaded now, since nothing is in it yet.
        begin(program)

    def _made(self) -> Program:
        return Program(self.unit, self.slot, self._around, meter=self.meter)

    def _busy(self) -> list[Program]:
        self._under_way = [program for program in self._under_way if program.busy]
        return self._under_way
