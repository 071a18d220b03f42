"""A `Spawner` of this process: real processes, without the supervisor's promises on crashes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

from microcosmos.base import errors
from microcosmos.runtime.interface import Exit, ProcessSpec


class LocalSpawner:
    def __init__(self) -> None:
        self.started: list[ProcessSpec] = []
        self._living: dict[str, asyncio.subprocess.Process] = {}
        self._exits: list[Exit] = []
        self._changed = asyncio.Condition()
        self._watchers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> LocalSpawner:
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self._living):
            await self.signal(name, signal.SIGKILL)
        if self._watchers:
            await asyncio.wait(self._watchers)

    async def spawn(self, spec: ProcessSpec) -> int:
        if spec.name in self._living:
            raise errors.Conflict("spawner", f"{spec.name} is alive")
        output = os.open(spec.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                env=spec.env,
                cwd=spec.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as exc:
            raise errors.BadRequest("spawner", f"{spec.name}: {exc.strerror}") from None
        finally:
            os.close(output)
        self.started.append(spec)
        self._living[spec.name] = process
        task = asyncio.create_task(self._reap(spec.name, process))
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)
        return process.pid

    async def _reap(self, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        del self._living[name]
        async with self._changed:
            sequence = len(self._exits) + 1
            now = time.time()
            self._exits.append(
                Exit(name=name, pid=process.pid, code=code, time=now, sequence=sequence)
            )
            self._changed.notify_all()

    async def signal(self, name: str, signal: int) -> None:
        if process := self._living.get(name):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal)

    async def running(self) -> dict[str, int]:
        return {name: process.pid for name, process in self._living.items()}

    async def exits(self, after: int) -> list[Exit]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60), self._changed:
                await self._changed.wait_for(lambda: len(self._exits) > after)
        return self._exits[after:]

    def living(self) -> list[str]:
        return sorted(self._living)

    def names(self, role: str = "") -> list[str]:
        """The names of all processes ever started, of one role (0, 1, build, fetch) or of all."""
        return [s.name for s in self.started if not role or s.name.split("-")[-2] == role]

    def spec(self, name: str) -> ProcessSpec:
        return next(spec for spec in self.started if spec.name == name)


def read(path: str | Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_text("utf-8", "replace")
    return ""
