"""A runtime with everything around it: real processes, a real registry and store in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.home import Home
from microcosmos.base.names import Taken, nobody
from microcosmos.base.tasks import background
from microcosmos.registry.interface import REPLICA, Node, Service
from microcosmos.registry.interface import Options as RegistryOptions
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.runtime.archive import pack
from microcosmos.runtime.children import parse_name
from microcosmos.runtime.deployment import CreateRequest, Deployment, Options, UpdateRequest
from microcosmos.runtime.processes import ProcessRuntime
from microcosmos.runtime.settings import Settings
from microcosmos.runtime.source import Source
from microcosmos.store.backend import Scope
from microcosmos.store.interface import Op, Store
from microcosmos.store.memory import MemoryStore

from .spawner import LocalSpawner, read

SERVE = """
import os, signal, sys, time
def stop(*_):
    print("drained", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("version", VERSION, flush=True)
print("ready", os.environ["MICRO_REPLICA"], flush=True)
while True:
    time.sleep(60)
"""


async def until(condition: Callable[[], object], what: str = "", seconds: float = 60) -> None:
    """Wait for a condition, and say which one when it never holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for {what or condition}"
        await asyncio.sleep(0.01)


class Disk(MemoryStore):
    """A store that can be full."""

    full = False

    async def apply(self, scope: Scope, ops: Sequence[Op]) -> int:
        if self.full:
            raise errors.Unavailable("store", "no space left on the device")
        return await super().apply(scope, ops)


class World:
    """What outlives a core (processes, store, home), and the registry of the present core."""

    def __init__(
        self, folder: Path, spawner: LocalSpawner, store: Store, disk: Disk, clock: Clock
    ) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.home.make()
        self.spawner = spawner
        self.store = store
        self.disk = disk
        self.clock = clock
        self.registry = MemoryRegistry()
        self.runtime: ProcessRuntime
        self.admitted: set[str] = set()
        self.forgotten: list[str] = []
        self.refused: set[str] = set()
        self.kept: set[str] = set()
        self._registered: set[str] = set()

    @contextlib.asynccontextmanager
    async def core(
        self, settings: Settings | None = None, taken: Taken = nobody
    ) -> AsyncIterator[ProcessRuntime]:
        """One life of the core."""
        self.registry = MemoryRegistry()
        self._registered = set()
        runtime = ProcessRuntime(
            self.home,
            self.store,
            self.registry,
            self.spawner,
            self,
            settings=settings or Settings(backoff=0.05, drain=5),
            clock=self.clock,
            taken=taken,
        )
        async with background(self._register(), "registering"), runtime:
            self.runtime = runtime
            yield runtime

    def check(self, namespace: str) -> None:
        if namespace in self.refused:
            raise errors.BadRequest("runtime", f"nothing runs in {namespace}")

    async def admit(self, deployment: Deployment, process: str) -> dict[str, str]:
        self.admitted.add(process)
        return {"NATS_URL": "nats://here", "NATS_CREDS": f"/creds/{process}"}

    async def dismiss(self, deployment: Deployment, process: str) -> None:
        self.admitted.discard(process)

    async def forget(self, deployment: Deployment) -> None:
        self.forgotten.append(deployment.label)

    async def keep_only(self, processes: Collection[str]) -> None:
        self.kept = set(processes)

    def write(self, name: str, files: dict[str, str] | None = None, version: str = "1") -> Path:
        """A folder of source, by default of a program that serves."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, text in (files or {"main.py": SERVE.replace("VERSION", repr(version))}).items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        return folder

    @contextlib.asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """For waiting on what comes by itself."""
        async with asyncio.timeout(60):
            yield

    async def upload(self, folder: Path, namespace: str = "micro") -> str:
        file = self.folder / "upload.tar.gz"
        with file.open("wb") as into:
            pack(folder, into)
        upload = await self.runtime.uploads.begin(namespace)
        await self.runtime.uploads.append(upload.id, 0, file.read_bytes(), namespace)
        await self.runtime.uploads.finish(upload.id, namespace)
        return upload.id

    async def run(
        self, folder: Path, options: Options | None = None, *, force: bool = False
    ) -> Deployment:
        """`micro run FOLDER`, until it is settled."""
        request = CreateRequest(
            source=Source(kind="folder", location=str(folder)),
            upload=await self.upload(folder),
            options=options or Options(),
            force=force,
        )
        return await self.settled(await self.runtime.create(request))

    async def update(self, name: str, folder: Path) -> Deployment:
        """`micro update FOLDER`, until it is settled."""
        source = Source(kind="folder", location=str(folder))
        upload = await self.upload(folder)
        request = UpdateRequest(name=name, source=source, upload=upload)
        return await self.settled(await self.runtime.update(request))

    async def settled(self, record: Deployment) -> Deployment:
        async with asyncio.timeout(60):
            while not record.settled:
                record = await self.runtime.wait(
                    record.name, record.revision, namespace=record.namespace
                )
        return record

    async def status(self, name: str, wanted: Callable[[Deployment], bool]) -> Deployment:
        """The deployment, once it is as wanted."""
        record = (await self.runtime.read(name))[0]
        async with asyncio.timeout(60):
            while not wanted(record):
                record = await self.runtime.wait(name, record.revision)
        return record

    def alive(self, name: str) -> list[str]:
        """The processes of a service that are alive."""
        found = [(parse_name(process), process) for process in self.spawner.living()]
        return sorted(process for parsed, process in found if parsed and parsed[0] == name)

    def log(self, name: str, number: int | str = 0) -> str:
        return read(self.home.logs / f"{name}.{number}.log")

    async def _register(self) -> None:
        """Register each process that says it is ready, as a service's own code does."""
        while True:
            for process in await self.spawner.running():
                parsed = parse_name(process)
                spec = self.spawner.spec(process)
                if process in self._registered or not parsed:
                    continue
                if f"ready {process}" in read(spec.log):
                    self._registered.add(process)
                    node = Node(id=process, metadata={REPLICA: process})
                    name, _, namespace = parsed[0].partition("@")
                    options = RegistryOptions(domain=namespace)
                    await self.registry.register(Service(name=name, nodes=[node], options=options))
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def world(folder: Path, clock: Clock = SYSTEM) -> AsyncIterator[World]:
    disk = Disk()
    async with disk as store, LocalSpawner() as spawner:
        yield World(folder, spawner, store, disk, clock)
