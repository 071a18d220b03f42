"""What is said on the zygote's socket: one JSON object a line, both ways.

A client sends `Command`s. Each is answered by one `Said` with its id, some of them later than
others; a `Said` without an id tells every client that a worker has ended.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from microcosmos.functions.page import Running

LONGEST = 64 * 1024
"""Bytes of a command; whoever sends a longer one is cut off."""

Verb = Literal["start", "kill", "list", "look"]


class Command(msgspec.Struct, omit_defaults=True):
    """What is asked.

    Attributes:
        id: of the command; not 0.
        do: the verb.
        kind: of the worker that is to be started, see `kinds`.
        name: of that, for people and for the next host: whom it serves.
        heap: bytes that it may use, if its kind can be told.
        pid: of the worker that gets a signal, or is looked at.
        signal: its number.
    """

    id: int
    do: Verb
    kind: str = ""
    name: str = ""
    heap: int = 0
    pid: int = 0
    signal: int = 9


class Worker(msgspec.Struct, frozen=True):
    """A worker that lives.

    Attributes:
        pid: its process.
        kind: how it was started.
        name: as of the `Command`.
        socket: where it listens.
        heap: as of the `Command`.
        started: when, in seconds since the epoch.
    """

    pid: int
    kind: str
    name: str
    socket: str
    heap: int
    started: float

    @property
    def id(self) -> str:
        """What no other worker of this host was or will be called."""
        return f"{self.pid}-{self.started:.6f}"


class Exit(msgspec.Struct, frozen=True):
    """A worker that has ended.

    Attributes:
        pid: its process.
        code: its status, negative for the signal that ended it.
        running: what it ran then.
        cpu: seconds of the processor that it has used in its life.
    """

    pid: int
    code: int
    running: Running = Running()
    cpu: float = 0.0


class Said(msgspec.Struct, omit_defaults=True):
    """What the zygote says.

    Attributes:
        id: of the command that this answers; 0 is none.
        error: why it failed.
        error_id: of the error, as people know it; empty is that of functions.
        worker: that was started.
        workers: that live.
        exit: of a worker.
        running: what a worker runs.
    """

    id: int = 0
    error: str = ""
    error_id: str = ""
    worker: Worker | None = None
    workers: list[Worker] | None = None
    exit: Exit | None = None
    running: Running | None = None


encode = msgspec.json.Encoder().encode
decode_command = msgspec.json.Decoder(Command).decode
decode_said = msgspec.json.Decoder(Said).decode
