"""Service: what an author writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from microcosmos.base import names
from microcosmos.broker import Messages, Subscriber
from microcosmos.broker.subscriber import CONCURRENCY
from microcosmos.events.consuming import CONCURRENCY as EVENTS_AT_ONCE
from microcosmos.events.consuming import RETRY_LIMIT, Backoff, Consumer
from microcosmos.events.interface import ACK_WAIT
from microcosmos.events.moments import Offset, starting
from microcosmos.events.saga import Saga, Step
from microcosmos.rpc import Client as RpcClient
from microcosmos.rpc import Endpoint, Hosted
from microcosmos.rpc.handler import endpoint as make_endpoint
from microcosmos.rpc.middleware.limit import DEFAULT_CONCURRENCY, Limit
from microcosmos.store.index import Indexer

from .data import Data, DataOf, Declared, OwnStore, ServiceIndex
from .interface import Platform
from .program import run
from .remote import Remote, remote
from .topics import OwnEvents, Topics, declared_backoff

if TYPE_CHECKING:
    from microcosmos.config.following import ServiceConfig
    from microcosmos.store.blobs import Blobs

    from .web.mount import Mount

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
        self._makers: list[Callable[[str], Endpoint]] = []
        self._mounts: list[Mount] = []
        self._platform: Platform | None = None
        self._data = DataOf(name)
        self._indexes: list[Declared] = []
        self._subscribers: list[Subscriber] = []
        self._messages: Messages | None = None
        self._topics = Topics(name)
        self._sagas: list[Saga[Any]] = []

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
        cache: int = 0,
        vary: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Callable[[F], F]: ...
    def endpoint(
        self,
        function: F | None = None,
        /,
        *,
        name: str = "",
        retry: bool = True,
        cache: int = 0,
        vary: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> F | Callable[[F], F]:
        """Let a function answer calls: its type hints are the schema.

        Args:
            function: async, or plain (it then runs in a thread).
            name: ``Method`` or ``Handler.Method``; the function's own name unless said.
            retry: False keeps clients from calling again after a passing failure.
            cache: seconds for which a gateway may give the same answer to everybody who asks the
                same by GET; 0 is never.
            vary: the request's headers that such an answer depends on.
            metadata: told to the registry.

        Raises:
            TypeError: the signature cannot be a request; the text says why.
        """
        about = {**(metadata or {}), **({} if retry else {"retry": "false"})}
        if cache:
            about["cache"] = f"{cache}s"
        if vary:
            about["vary"] = ", ".join(vary)

        def add(function: F) -> F:
            self._add(lambda service: make_endpoint(function, service, name=name, metadata=about))
            return function

        return add if function is None else add(function)

    def http(
        self, path: str, *, methods: Sequence[str] = ("GET",), name: str = ""
    ) -> Callable[[F], F]:
        """Let a function answer whole HTTP requests below the service's own path.

            @users.http("/avatars/{id}")
            async def avatar(request: Request) -> Response:
                return FileResponse(f"avatars/{request.path_params['id']}.png")

        The function takes a `starlette.requests.Request` and gives a Starlette response, or a
        text, bytes, None (204) or anything that JSON carries. Files know ranges and ETags.

        Args:
            path: below ``/NAME`` of the service; ``{id}`` is a part of it, ``{id:int}`` a number,
                ``{id:path}`` the rest.
            methods: that it answers; ``GET`` answers ``HEAD`` too.
            name: as of `endpoint`.

        Raises:
            TypeError: the path or the function cannot be one.
        """

        def add(function: F) -> F:
            from .web.declare import http_endpoint

            self._add(
                lambda service: http_endpoint(function, service, path, methods=methods, name=name)
            )
            return function

        return add

    def mount(self, path: str, app: Any, *, name: str = "") -> None:
        """Let an ASGI application (Starlette, FastAPI, Litestar) answer below a path.

        The application is started and ended with the service. Endpoints of the service itself
        come first.

        Args:
            path: below ``/NAME`` of the service; ``/`` is all that is left of it.
            app: the application.
            name: of the endpoint; made of the path unless said.
        """
        from .web.mount import Mount

        mount = Mount(app, path, name)
        self._add(mount.endpoint)
        self._mounts.append(mount)

    def _add(self, make: Callable[[str], Endpoint]) -> None:
        # Made once here too, so that what is wrong fails where it is written.
        make(self.name)
        self._makers.append(make)

    @overload
    def client(self, name: str, *, as_self: bool = False) -> Remote: ...
    @overload
    def client(self, name: str, interface: Callable[..., T], *, as_self: bool = False) -> T: ...
    def client(
        self, name: str, interface: Callable[..., T] | None = None, *, as_self: bool = False
    ) -> Remote | T:
        """Another service; see `Remote`. It can be made before this service runs.

        Args:
            name: the other's.
            interface: a class with async methods like its endpoints.
            as_self: calls made while an endpoint of this service answers are this service's own;
                else they are made for its caller, with the caller's token or with none.
        """
        return remote(name, interface, self._carrier, as_self=as_self)

    def _carrier(self) -> RpcClient:
        if self._platform is None:
            raise RuntimeError(f"{self.name} does not run yet, so it cannot call other services")
        return self._platform.client

    def subscribe(
        self,
        topic: str,
        *,
        queue: str = "",
        concurrency: int = CONCURRENCY,
        ordered: bool = False,
    ) -> Callable[[F], F]:
        """Let a function handle the messages of a topic, while this service runs.

            @service.subscribe("users.created", queue="mailer")
            async def mail(user: User, message: Message) -> None: ...

        It takes the payload, read as its hint says, the `Message`, or both; its metadata is that
        of whoever published. When it fails, the publisher is told.

        Args:
            topic: a topic, or a pattern: ``*`` stands for one part, a last ``>`` for all that
                follow.
            queue: of all subscribers that give the same name, one gets each message; without one
                every replica gets all.
            concurrency: messages that one replica handles at once.
            ordered: messages of one key are handled one after another, in their order.

        Raises:
            errors.BadRequest: no topic, no name of a queue, or no concurrency.
            TypeError: the function cannot take messages; the text says why.
        """

        def add(function: F) -> F:
            subscriber = Subscriber(
                function, topic, queue=queue, concurrency=concurrency, ordered=ordered
            )
            self._subscribers.append(subscriber)
            return function

        return add

    @property
    def running(self) -> bool:
        """Whether it is on a platform."""
        return self._platform is not None

    @property
    def subscribers(self) -> Sequence[Subscriber]:
        """The functions that handle messages."""
        return tuple(self._subscribers)

    @property
    def consumers(self) -> Sequence[Consumer]:
        """The functions that work events off, while it runs."""
        return tuple(self._topics.consumers)

    @property
    def broker(self) -> Messages:
        """Publishes messages and listens to them, while this service runs.

        Raises:
            RuntimeError: it does not run.
        """
        if self._messages is None:
            raise RuntimeError(f"{self.name} does not run yet, so it has no broker")
        return self._messages

    def consume(
        self,
        topic: str,
        *,
        group: str = "",
        start: Offset = "new",
        ordered: bool = True,
        concurrency: int = EVENTS_AT_ONCE,
        retry_limit: int = RETRY_LIMIT,
        backoff: Backoff | float | None = None,
        ack_wait: float = ACK_WAIT,
        once: bool = False,
    ) -> Callable[[F], F]:
        """Let a function work the events of a topic off, while this service runs.

            @billing.consume("orders.placed")
            async def bill(order: Order, event: Event) -> None: ...

        It takes the payload, read as its hint says, the `Event`, or both. Once it returns, the
        event is done with. What it raises for is given to it again after a while, and is a dead
        letter in the end; it is one at once when it raises `Reject`, or the payload is not of its
        type. What comes while no replica runs is worked off later.

        Args:
            topic: a topic, or a pattern: ``*`` stands for one part, a last ``>`` for all that
                follow.
            group: whose events they are: each is given to one replica, of all services that give
                the same name; the service's name unless said.
            start: where the group begins when it is there for the first time: ``new``,
                ``beginning``, or a time.
            ordered: events of one key are worked on one after another, over all replicas; those
                without a key are of one key. If not, any as soon as may be.
            concurrency: events that one replica works on at once.
            retry_limit: times that an event is tried again.
            backoff: seconds until the first of these, doubled each time up to a minute; or a
                `Backoff`.
            ack_wait: seconds after which the events of a replica that died are given to another.
            once: the function takes a `Transaction` too. What it writes by that is committed
                together with the note that the event had its effect, so it has none twice.

        Raises:
            errors.BadRequest: no topic, no group, or numbers that cannot be.
            TypeError: the function cannot take events, or another one has the group already; the
                text says why.
        """

        def add(function: F) -> F:
            self._topics.add(
                function,
                topic,
                once=once,
                group=group,
                start=starting(start),
                ordered=ordered,
                concurrency=concurrency,
                retry_limit=retry_limit,
                backoff=declared_backoff(backoff),
                ack_wait=ack_wait,
            )
            return function

        return add

    def publishes(self, topic: str, kind: type) -> None:
        """Say what this service publishes on a topic, so that it is checked when it starts.

            orders.publishes("orders.placed", Order)

        Without it a type is registered, and checked, when it is published for the first time.
        With it a service whose type breaks somebody does not start, so that `micro update` keeps
        the version before.

        Args:
            topic: no pattern.
            kind: the type of what is published.

        Raises:
            errors.BadRequest: no topic.
            TypeError: another type was said of this topic.
        """
        self._topics.publishes(topic, kind)

    def saga(self, name: str, kind: type[T], steps: Sequence[Step[T]]) -> Saga[T]:
        """Declare a saga: steps that all happen, or are all taken back, whatever dies meanwhile.

            transfer = bank.saga("transfer", Transfer, [Step(debit, undo=refund), Step(credit)])

            await transfer.start("t1", Transfer("ann", "bob", 500))

        It is kept in this service's store, and goes on while any replica of it runs. See `Saga`.

        Args:
            name: of the saga, unique in the service.
            kind: the type of its input.
            steps: in their order.

        Raises:
            errors.BadRequest: a bad name.
            TypeError: a step cannot be one; the text says why.
        """
        if any(other.name == name for other in self._sagas):
            raise TypeError(f"{self.name} has a saga {name} already")
        saga = Saga(name, kind, steps)
        self._sagas.append(saga)
        return saga

    @property
    def events(self) -> OwnEvents:
        """Publishes events and consumes them, while this service runs.

        Raises:
            RuntimeError: it does not run.
        """
        if self._topics.events is None:
            raise RuntimeError(f"{self.name} does not run yet, so it has no events")
        return self._topics.events

    @property
    def store(self) -> OwnStore:
        """This service's own records, while it runs; ``store.table("orders")`` is a further table.

        Raises:
            RuntimeError: it does not run.
        """
        return self._data().store

    @property
    def blobs(self) -> Blobs:
        """This service's own blobs, while it runs.

        Raises:
            RuntimeError: it does not run.
        """
        return self._data().blobs

    @property
    def config(self) -> ServiceConfig:
        """The settings and secrets of the namespace, while this service runs.

        Raises:
            RuntimeError: it does not run.
        """
        return self._data().config

    def index(
        self, id: str, indexer: Indexer, *, version: str = "1", table: str = ""
    ) -> ServiceIndex:
        """Have records of this service found by more than their keys.

            by_class = students.index("class", lambda student: student["class"])

        Args:
            id: its name in the table.
            indexer: gives the index keys, or `Entry` structs, of a value (and its key).
            version: of the indexer; with another one the index is built anew, in the background.
            table: one of the service's further tables.
        """
        declared = Declared(id, indexer, version, table)
        self._indexes.append(declared)
        return ServiceIndex(declared, self._data)

    def hosted(self, name: str = "", version: str = "") -> Hosted:
        """This service as the rpc server takes it, under another name if one is given."""
        name = name or self.name
        return Hosted(
            name,
            [make(name) for make in self._makers],
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
            data = Data(platform.client, name or self.name, platform.namespace, self._indexes)
            stack.callback(setattr, self._data, "data", None)
            self._data.data = await stack.enter_async_context(data)
            self._messages = Messages(platform.broker, name or self.name)
            stack.callback(setattr, self, "_messages", None)
            hosted = self.hosted(name, version)
            await stack.enter_async_context(
                self._topics.open(platform, self._data.data.store, hosted)
            )
            if self._lifespan is not None:
                await stack.enter_async_context(self._lifespan(self))
            for mount in self._mounts:
                await stack.enter_async_context(mount.running(self.name))
            for subscriber in self._subscribers:
                await stack.enter_async_context(
                    subscriber.on(
                        platform.broker,
                        service=name or self.name,
                        namespace=platform.namespace,
                        client=platform.client,
                    )
                )
            for saga in self._sagas:
                await stack.enter_async_context(
                    saga.on(
                        self._data.data.store,
                        self._topics.box,
                        namespace=platform.namespace,
                        client=platform.client,
                        clock=platform.clock,
                    )
                )
            await stack.enter_async_context(platform.host([hosted]))
            await stack.enter_async_context(self._topics.consuming(platform, hosted.name))
            yield

    def run(self) -> None:
        """Run until a signal: on the live server of this `MICRO_HOME`, else alone in memory."""
        run(self)
