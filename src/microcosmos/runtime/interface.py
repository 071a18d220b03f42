"""The contracts of the runtime: what it promises, and what it asks of whoever owns processes."""

from __future__ import annotations

from typing import Protocol

import msgspec


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A process to be started.

    Attributes:
        name: unique among the living, such as ``helloworld-1a2b3c4d``.
        argv: the program and its arguments.
        env: the whole environment; nothing is inherited.
        cwd: the working directory.
        log: the file that stdout and stderr are appended to.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    log: str


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """A process has ended.

    ``code`` is the exit status, negative for the signal that ended it; ``sequence`` counts exits.
    """

    name: str
    pid: int
    code: int
    time: float
    sequence: int


class Spawner(Protocol):
    """Owns processes: the supervisor, seen from the core."""

    async def spawn(self, spec: ProcessSpec) -> int:
        """Start a process in a session of its own and return its pid.

        Raises:
            errors.Conflict: a process of that name is alive.
            errors.BadRequest: it cannot be started; the detail says why.
        """

    async def signal(self, name: str, signal: int) -> None:
        """Send a signal to a process and all its children; a process that has gone is no error."""

    async def running(self) -> dict[str, int]:
        """The living processes, name to pid."""

    async def exits(self, after: int) -> list[Exit]:
        """The exits with a sequence greater than ``after``; waits up to 10 s for one."""
