"""The service `workers`: where a version runs, asked of the host by the platform's own processes.

It is reached by the host's own socket alone, and is not in the registry.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from microcosmos.base import codec
from microcosmos.base.home import Home
from microcosmos.rpc import Client, Endpoint, Hosted
from microcosmos.rpc.client import Identity
from microcosmos.rpc.lane import LaneTransport
from microcosmos.rpc.one_socket import OneSocket

from .interface import Finding, Replay
from .requests import Invoked, InvokeRequest
from .wire import Checked, Source

SERVICE = "workers"

T = TypeVar("T")

_PLACING = 10.0
"""Seconds for a worker to start and to load a version."""

REPLAYING = 70.0
"""Seconds for a replay, which may have to wait for a worker."""

_BUNDLING = 120.0
"""Seconds for a bundle, whose packages may have to be fetched."""


class Place(msgspec.Struct, frozen=True):
    """Where a version runs.

    Attributes:
        socket: of the worker.
        slot: by which requests name the version there.
        pid: of the worker.
    """

    socket: str
    slot: int
    pid: int


class Where(msgspec.Struct, frozen=True):
    """A version that is to run.

    Attributes:
        namespace: where the function lives.
        name: of the function.
        number: of the version.
        key: as of `interface.Share`.
        missing: where it was expected to run, and does not.
        replay: as of `interface.Unit`; the key names it too.
    """

    namespace: str
    name: str
    number: int
    key: str
    missing: tuple[Place, ...] = ()
    replay: Replay | None = None


class Suspicion(msgspec.Struct, frozen=True):
    """A worker that does not answer a BEAT, or whose line is lost.

    Attributes:
        pid: of the worker.
        burned: seconds of the processor that it has used since it was asked.
        owed: by the keys of versions, how many answers it owes to whoever suspects it.
        since: seconds of the processor that it had used in its life when it was last heard, about.
        lost: whether it is the line that is lost.
    """

    pid: int
    burned: float = 0.0
    owed: dict[str, int] = {}
    since: float = 0.0
    lost: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """What has become of a worker that was suspected.

    Attributes:
        ended: whether it was killed, or has died.
        guilty: the key of the version whose fault that was, if it can only have been that one.
        id: of the error that ends requests of that version.
        detail: of the same.
        reason: why the requests of others have ended, for people.
    """

    ended: bool
    guilty: str = ""
    id: str = ""
    detail: str = ""
    reason: str = ""


class Bundling(msgspec.Struct, frozen=True, kw_only=True):
    """Files to be made one program.

    Attributes:
        files: texts by path.
        main: the file that begins.
        language: of that file.
    """

    files: dict[str, str]
    main: str
    language: str


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """One program, or what keeps the files from being one."""

    code: str = ""
    findings: list[Finding] = []


class Replaying(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is to be answered in a replay.

    Attributes:
        namespace: where the function lives.
        request: what it is asked, and in which world.
    """

    namespace: str
    request: InvokeRequest


class Workers(Protocol):
    """What the host is asked."""

    async def place(self, where: Where) -> list[Place]:
        """Where a version runs, having loaded it if it did not; callers take turns among several.

        Raises:
            errors.NotFound: there is no such version.
            errors.Error: it cannot be loaded; the id says why.
        """

    async def check(self, source: Source) -> Checked:
        """Look for errors of syntax in a source, without running it."""

    async def bundle(self, bundling: Bundling) -> Bundle:
        """Make several files one program."""

    async def suspect(self, suspicion: Suspicion) -> Verdict:
        """Look whether a worker hangs, and kill it if so; or why it died."""

    async def replay(self, replaying: Replaying) -> Invoked:
        """Send a function a request in a replay; errors are answers, as they are by HTTP."""


class _Places(msgspec.Struct, frozen=True):
    places: list[Place]


class WorkersService:
    """Serves the host's part of it.

    Args:
        workers: what answers.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def hosted(self) -> Hosted:
        """The service ``workers``; only the platform's own processes may call."""
        return Hosted(
            SERVICE,
            [
                _endpoint("Place", Where, self._place),
                _endpoint("Check", Source, self._workers.check),
                _endpoint("Bundle", Bundling, self._workers.bundle),
                _endpoint("Suspect", Suspicion, self._workers.suspect),
                _endpoint("Replay", Replaying, self._workers.replay),
            ],
        )

    async def _place(self, where: Where) -> _Places:
        return _Places(await self._workers.place(where))


def _endpoint(method: str, request: type, function: Callable[[Any], Awaitable[Any]]) -> Endpoint:
    async def answer(body: bytes) -> bytes:
        return codec.encode(await function(codec.decode(body, request, id=SERVICE)))

    return Endpoint(_name(method), answer, access="platform")


def _name(method: str) -> str:
    return f"Workers.{method}"


class WorkersClient:
    """The `Workers` of another process.

    Args:
        client: reaches the host's socket.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def place(self, where: Where) -> list[Place]:
        """See `Workers.place`."""
        return (await self._ask("Place", where, _Places, _PLACING)).places

    async def check(self, source: Source) -> Checked:
        """See `Workers.check`."""
        return await self._ask("Check", source, Checked, _PLACING)

    async def bundle(self, bundling: Bundling) -> Bundle:
        """See `Workers.bundle`."""
        return await self._ask("Bundle", bundling, Bundle, _BUNDLING)

    async def suspect(self, suspicion: Suspicion) -> Verdict:
        """See `Workers.suspect`."""
        return await self._ask("Suspect", suspicion, Verdict, _PLACING)

    async def replay(self, replaying: Replaying) -> Invoked:
        """See `Workers.replay`."""
        return await self._ask("Replay", replaying, Invoked, REPLAYING, retry=False)

    async def _ask(
        self,
        method: str,
        request: msgspec.Struct,
        answer: type[T],
        timeout: float,
        *,
        retry: bool = True,
    ) -> T:
        encoded = codec.encode(request)
        body = await self._client.call(
            SERVICE, _name(method), encoded, timeout=timeout, retry=retry, as_self=True
        )
        answered: T = codec.decode(body, answer, id=SERVICE)
        return answered


@contextlib.asynccontextmanager
async def open_workers(home: Home, identity: Identity | None) -> AsyncIterator[WorkersClient]:
    """The host of a home, as its platform's other processes ask it.

    Args:
        home: where its socket is.
        identity: shows who asks, `service.badge.Badge.header`.
    """
    socket = OneSocket(SERVICE, home.functions_lane, retries=True)
    lane = LaneTransport(socket, here=(SERVICE,))
    try:
        yield WorkersClient(Client([lane], socket, identity=identity))
    finally:
        await lane.close()
