"""The runtime of one machine: every deployed service is a group of processes of this host."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home
from microcosmos.base.names import Taken, announced, nobody
from microcosmos.base.tasks import background
from microcosmos.registry.interface import OwnRegistry
from microcosmos.store.interface import Store

from . import source as sources
from .build import Builds
from .checkout import Checkouts
from .children import Children, parse_name
from .deployed import Deployed
from .deployment import (
    LOCAL,
    Caller,
    CreateRequest,
    Deployment,
    Deployments,
    UpdateRequest,
    check_options,
    label,
)
from .environment import Platform
from .interface import Spawner
from .logs import Logs, LogsAnswer, LogsRequest
from .settings import Settings
from .uploads import Uploads
from .workshop import Workshop

logger = logging.getLogger(__name__)

MAX_WAIT = 25.0
"""The longest that one `wait` takes, in seconds."""

_ID = "runtime"

_Key = tuple[str, str]


class ProcessRuntime:
    """Creates, updates, deletes and watches services while entered.

    Leaving does not stop them: the core may die and come back, and adopts what runs.

    Attributes:
        uploads: where archives of folders arrive before they are deployed.
        logfiles: what services write, and functions, whose logs are kept as theirs.

    Args:
        home: the platform's home.
        store: the platform's own database; the records are in its table ``runtime``.
        registry: tells which replicas answer.
        spawner: owns the processes.
        platform: what only the platform can give replicas: the engine's address, credentials.
        settings: limits and delays.
        clock: what delays are measured by.
        taken: says who else has the name of a service, for people; empty is nobody.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        registry: OwnRegistry,
        spawner: Spawner,
        platform: Platform,
        *,
        settings: Settings = Settings(),  # noqa: B008 - frozen
        clock: Clock = SYSTEM,
        taken: Taken = nobody,
    ) -> None:
        children = Children(spawner, clock)
        self._taken = taken
        self._workshop = Workshop(
            home=home,
            records=Deployments(store),
            checkouts=Checkouts(home, children, settings.fetch),
            builds=Builds(home, children, settings.build),
            children=children,
            registry=registry,
            logs=Logs(home.logs, clock),
            platform=platform,
            settings=settings,
            clock=clock,
        )
        self.logfiles = self._workshop.logs
        self.uploads = Uploads(home.server / "uploads", clock)
        self._deployed: dict[_Key, Deployed] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._tidy)
        await self._stack.enter_async_context(self._workshop.children)
        keeping = background(self._workshop.logs.keep(), "runtime logs")
        await self._stack.enter_async_context(keeping)
        await self._restore()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for deployed in self._deployed.values():
            await deployed.leave()
        await self._stack.aclose()

    async def create(self, request: CreateRequest, caller: Caller = LOCAL) -> Deployment:
        """Deploy a service; it goes on after the answer, and `wait` tells how far it is.

        Raises:
            errors.BadRequest: a bad name, source, option or archive, or a namespace in which
                nothing can run here.
            errors.Conflict: the name is taken, and ``force`` was not asked for.
            errors.NotFound: there is no such upload.
        """
        source = sources.check(request.source)
        name = sources.name_of(source, request.name)
        options = check_options(request.options)
        self._workshop.platform.check(caller.namespace)
        key = (caller.namespace, name)
        self._check_free(key, force=request.force)
        if whose := await self._taken(*key):
            raise errors.Conflict(_ID, f"{whose}; choose another with --name")
        target = Deployment(
            name=name,
            namespace=caller.namespace,
            version=source.version,
            source=source,
            options=options,
            owner=caller.id,
            group=caller.group,
            author=caller.id,
            message=request.message,
        )
        target = await self._unpacked(target, request.upload)
        # Again: another may have taken the name while the archive was unpacked.
        self._check_free(key, force=request.force)
        return await self._begin(target)

    async def read(self, name: str = "", namespace: str = DEFAULT_NAMESPACE) -> list[Deployment]:
        """Every deployment of a namespace, sorted by name, or the one of a name.

        Raises:
            errors.NotFound: there is none of that name.
        """
        if name:
            return [self._known(namespace, name).record.masked()]
        keys = sorted(key for key in self._deployed if key[0] == namespace)
        return [self._deployed[key].record.masked() for key in keys]

    async def update(self, request: UpdateRequest, caller: Caller = LOCAL) -> Deployment:
        """Deploy a service again: fetch anew, or take a new upload, and replace what runs.

        A source whose ref is the commit that runs is not fetched: its replicas are only replaced.
        Neither is a folder of which only other ``instances`` are asked for.

        Raises:
            errors.NotFound: nothing is deployed under the name, or there is no such upload.
            errors.BadRequest: a bad source, option or archive, or a folder without an upload.
        """
        record = self._known(caller.namespace, request.name).record
        # What an unfinished update was about to change is not undone by this one.
        before = record.target or record
        source = request.source or before.source
        if request.ref:
            source = msgspec.structs.replace(source, ref=request.ref)
        source = sources.check(source)
        options = request.options or before.options
        if request.instances:
            options = msgspec.structs.replace(options, instances=request.instances)
        target = msgspec.structs.replace(
            before,
            version=source.version,
            source=source,
            options=check_options(options),
            author=caller.id,
            message=request.message,
            target=None,
        )
        scaled = request.instances and not (request.source or request.ref or request.upload)
        only_scaled = scaled and source.kind == "folder" and before.hash
        if not only_scaled and (request.upload or not _same_commit(source, before)):
            target = msgspec.structs.replace(target, hash="", commit="")
            target = await self._unpacked(target, request.upload)
        return await self._begin(target)

    async def delete(self, name: str, namespace: str = DEFAULT_NAMESPACE) -> Deployment:
        """Stop a service, in its own time up to a limit, and forget it.

        Raises:
            errors.NotFound: nothing is deployed under the name.
        """
        deployed = self._known(namespace, name)
        record = await deployed.end()
        if self._deployed.get((namespace, name)) is deployed:
            del self._deployed[namespace, name]
        return record.masked()

    async def clear(self, namespace: str) -> None:
        """Stop and forget everything of a namespace that is no more."""
        names = [name for where, name in self._deployed if where == namespace]
        await asyncio.gather(*(self.delete(name, namespace) for name in names))

    async def wait(
        self,
        name: str,
        revision: int = 0,
        timeout: float = MAX_WAIT,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> Deployment:
        """A deployment, as soon as its revision is above ``revision``, or when the time is over.

        Raises:
            errors.NotFound: nothing is deployed under the name (any more).
        """
        deployed = self._known(namespace, name)
        record = await deployed.wait(revision, min(timeout, MAX_WAIT))
        if deployed.ended:
            raise self._unknown(name)
        return record.masked()

    async def logs(self, request: LogsRequest, namespace: str = DEFAULT_NAMESPACE) -> LogsAnswer:
        """Lines of the logs of a service, or of what else has its name and writes there.

        Raises:
            errors.NotFound: nothing is deployed under the name.
            errors.BadRequest: a bad cursor or number of lines.
        """
        known = (namespace, request.name) in self._deployed
        if not known and not await self._taken(namespace, request.name):
            raise self._unknown(request.name)
        name = label(namespace, request.name)
        return await self._workshop.logs.read(msgspec.structs.replace(request, name=name))

    def _tidy(self) -> None:
        self._workshop.home.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._workshop.checkouts.sweep()
        self.uploads.sweep()

    def _check_free(self, key: _Key, *, force: bool) -> None:
        namespace, name = key
        if name in self._workshop.settings.reserved:
            raise errors.Conflict(_ID, f"{name} is the platform's own; choose another with --name")
        for where, other in self._deployed:
            if where == namespace and other != name and announced(other) == announced(name):
                # On NATS each would get what is meant for the other.
                raise errors.Conflict(
                    _ID, f"{name} and {other} have one name on NATS; choose another with --name"
                )
        taken = self._deployed.get(key)
        if not taken or force:
            return
        record = taken.record
        # What failed and never went live is nobody's loss: the folder can be run again.
        if record.history or record.status != "error":
            raise errors.Conflict(
                _ID,
                f"{name} is owned by {record.owner}, deployed from {record.source}: "
                f"update it with micro update, replace it with --force, or choose another --name",
            )

    async def _unpacked(self, target: Deployment, upload: str) -> Deployment:
        if target.source.kind != "folder":
            return target
        if not upload:
            raise errors.BadRequest(
                _ID,
                f"{target.name} comes from a local folder, which has to be uploaded: "
                f"type micro update {target.source.location}",
            )
        archive = self.uploads.archive(upload, target.namespace)
        try:
            found = await self._workshop.checkouts.unpack(target.label, archive)
        finally:
            self.uploads.discard(upload)
        return msgspec.structs.replace(target, hash=found.hash)

    async def _begin(self, target: Deployment) -> Deployment:
        now = self._workshop.clock.time()
        target = msgspec.structs.replace(target, generation=secrets.token_hex(4), updated=now)
        key = (target.namespace, target.name)
        deployed = self._deployed.get(key)
        if deployed:
            return (await deployed.begin(target)).masked()
        # On record before anything is done; live, once it is, it has the target's generation.
        fresh = msgspec.structs.replace(target, generation="", hash="")
        deployed = self._deployed[key] = Deployed(fresh, self._workshop)
        try:
            return (await deployed.begin(target)).masked()
        except errors.Error:
            self._deployed.pop(key, None)
            await deployed.leave()
            raise

    async def _restore(self) -> None:
        workshop = self._workshop
        records = await workshop.records.all()
        running = await workshop.children.running()
        mine: dict[str, dict[int, str]] = {record.label: {} for record in records}
        generations = {record.label: record.generation for record in records}
        for process in running:
            if parsed := parse_name(process):
                whose, generation, role = parsed
                if generations.get(whose) == generation and role.isdecimal():
                    mine[whose][int(role)] = process
                else:
                    logger.info("stopping %s, which nothing needs any more", process)
                    await workshop.children.stop(process, workshop.settings.drain)
        kept = [process for processes in mine.values() for process in processes.values()]
        await workshop.platform.keep_only(kept)
        used = {record.build for record in records}
        await asyncio.to_thread(workshop.builds.keep_only, used)
        for record in records:
            deployed = Deployed(record, workshop)
            self._deployed[record.namespace, record.name] = deployed
            if record.status == "stopping":
                await self.delete(record.name, record.namespace)
            else:
                deployed.restore(mine[record.label])

    def _known(self, namespace: str, name: str) -> Deployed:
        deployed = self._deployed.get((namespace, name))
        if deployed is None:
            raise self._unknown(name)
        return deployed

    def _unknown(self, name: str) -> errors.NotFound:
        return errors.NotFound(
            _ID, f"nothing is deployed as {name[:100]}; micro status lists what is"
        )


def _same_commit(source: sources.Source, before: Deployment) -> bool:
    """Whether fetching a source would give what is there already."""
    same = (source.kind, source.location, source.path) == (
        before.source.kind,
        before.source.location,
        before.source.path,
    )
    fixed = source.names_a_commit and before.commit.startswith(source.ref)
    return same and fixed and bool(before.hash)
