"""Service: what an author writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, overload

from microcosmos.base import names
from microcosmos.rpc import Client as RpcClient
from microcosmos.rpc import Hosted
from microcosmos.rpc.handler import endpoint as make_endpoint
from microcosmos.rpc.middleware.limit import DEFAULT_CONCURRENCY, Limit

from .interface import Platform
from .program import run
from .remote import Remote, remote

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

Lifespan = Callable[["Service"], AbstractAsyncContextManager[Any]]


class Service:
    """A service: a name and endpoints.

        helloworld = Service("helloworld")

        @helloworld.endpoint
        async def call(name: str = "World") -> Greeting: ...

    Args:
        name: the first segment of its paths and the word of its commands; what the runtime runs
            it as (``micro run --name``) wins.
        version: told to the registry; the runtime's wins likewise.
        metadata: told to the registry.
        concurrency: calls that one replica handles at once; more are refused with a 429.
        lifespan: entered before the first call and left after the last one.

    Raises:
        errors.BadRequest: a bad name.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "latest",
        metadata: Mapping[str, str] | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        lifespan: Lifespan | None = None,
    ) -> None:
        self.name = names.check_service(name)
        self.version = version
        self.concurrency = concurrency
        self._metadata = dict(metadata or {})
        self._lifespan = lifespan
        self._functions: list[tuple[Callable[..., Any], str, dict[str, str]]] = []
        self._platform: Platform | None = None

    @overload
    def endpoint(self, function: F, /) -> F: ...
    @overload
    def endpoint(
        self,
        function: None = None,
        /,
        *,
        name: str = "",
        retry: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> Callable[[F], F]: ...
    def endpoint(
        self,
        function: F | None = None,
        /,
        *,
        name: str = "",
        retry: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> F | Callable[[F], F]:
        """Let a function answer calls: its type hints are the schema.

        Args:
            function: async, or plain (it then runs in a thread).
            name: ``Method`` or ``Handler.Method``; the function's own name unless said.
            retry: False keeps clients from calling again after a passing failure.
            metadata: told to the registry.

        Raises:
            TypeError: the signature cannot be a request; the text says why.
        """
        about = {**(metadata or {}), **({} if retry else {"retry": "false"})}

        def add(function: F) -> F:
            # Made once here too, so that a bad signature fails where it is written.
            make_endpoint(function, self.name, name=name, metadata=about)
            self._functions.append((function, name, about))
            return function

        return add if function is None else add(function)

    @overload
    def client(self, name: str) -> Remote: ...
    @overload
    def client(self, name: str, interface: Callable[..., T]) -> T: ...
    def client(self, name: str, interface: Callable[..., T] | None = None) -> Remote | T:
        """Another service; see `Remote`. It can be made before this service runs."""
        return remote(name, interface, self._carrier)

    def _carrier(self) -> RpcClient:
        if self._platform is None:
            raise RuntimeError(f"{self.name} does not run yet, so it cannot call other services")
        return self._platform.client

    def hosted(self, name: str = "", version: str = "") -> Hosted:
        """This service as the rpc server takes it, under another name if one is given."""
        name = name or self.name
        return Hosted(
            name,
            [
                make_endpoint(function, name, name=method, metadata=about)
                for function, method, about in self._functions
            ],
            version=version or self.version,
            metadata=self._metadata,
            middleware=[Limit(self.concurrency)],
        )

    @asynccontextmanager
    async def on(
        self, platform: Platform, *, name: str = "", version: str = ""
    ) -> AsyncIterator[None]:
        """Run on a platform until the block ends; entered, calls are answered."""
        self._platform = platform
        async with AsyncExitStack() as stack:
            stack.callback(setattr, self, "_platform", None)
            if self._lifespan is not None:
                await stack.enter_async_context(self._lifespan(self))
            await stack.enter_async_context(platform.host([self.hosted(name, version)]))
            yield

    def run(self) -> None:
        """Run until a signal: on the live server of this `MICRO_HOME`, else alone in memory."""
        run(self)
