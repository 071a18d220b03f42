"""Calls from the command line: by the lane on this host, through a proxy elsewhere."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from microcosmos.base import codec, context, errors
from microcosmos.base.home import Home, ServerInfo
from microcosmos.registry import Endpoint, Service, this_host
from microcosmos.registry.interface import HOST, LANE, Found
from microcosmos.rpc import blocking
from microcosmos.rpc.interface import DEFAULT_TIMEOUT, Call, Unreachable, check_size

from .environments import Environment
from .exits import UnknownEndpoint
from .identity import Identity, bad_token
from .items import Sending

if TYPE_CHECKING:
    from microcosmos.auth.logins import Ask, Login
    from microcosmos.proxy.client import Trust
    from microcosmos.proxy.remote import ProxyStream


class _Named(msgspec.Struct):
    name: str


class _Names(msgspec.Struct):
    services: list[_Named]


_found = msgspec.json.Decoder(Found, strict=False)
# Of a long list only the names are looked at.
_names = msgspec.json.Decoder(_Names)
_LONGEST = 86400.0


class _Places(NamedTuple):
    """Where a service answers.

    Attributes:
        lanes: sockets of this host.
        elsewhere: whether it also answers where only NATS goes.
        replicas: whether these are its replicas, not the core.
    """

    lanes: list[str]
    elsewhere: bool = False
    replicas: bool = True


class Caller:
    """Calls services of one environment, by the login that the user has there.

    Attributes:
        identity: that login.
        namespace: the one that calls are made in.

    Args:
        home: whose server ``local`` means.
        environment: where the calls go.
        namespace: the namespace they are made in.
    """

    def __init__(self, home: Home, environment: Environment, namespace: str) -> None:
        self._home = home
        self._environment = environment
        self.namespace = namespace
        self._trace = context.new_trace()
        self._sent = False
        self.identity = Identity(home, environment, namespace)

    @property
    def trace(self) -> str:
        """The id that the calls share; empty before the first one is sent."""
        return self._trace if self._sent else ""

    def core(
        self,
        service: str,
        endpoint: str,
        request: Any = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retry: bool = True,
    ) -> bytes:
        """Call a core service: its place is known without the registry.

        Raises:
            errors.Error: what came of it; `Unavailable` when no server runs.
        """
        call = self._call(service, endpoint, codec.encode(request or {}), {}, timeout)
        return self._send(call, self._core, retry=retry)

    def stranger(self, ask: Ask) -> bytes:
        """Call the service ``auth`` without any token, as somebody does who logs in.

        Raises:
            errors.Error: what came of it.
        """
        return self._ask(ask, DEFAULT_TIMEOUT)

    def _asking(self, timeout: float) -> Callable[[Ask], bytes]:
        until = time.monotonic() + timeout
        return lambda ask: self._ask(ask, until - time.monotonic())

    def _ask(self, ask: Ask, timeout: float) -> bytes:
        # Not retried: a refresh token is good once.
        return self._route(self._call("auth", ask.endpoint, ask.body, {}, timeout), self._core)

    @property
    def _core(self) -> _Places:
        return _Places([str(self._home.core_lane)], replicas=False)

    def describe(self, service: str, timeout: float = DEFAULT_TIMEOUT) -> list[Service]:
        """Every version of a service, with its nodes and endpoints.

        Raises:
            errors.NotFound: it is not registered.
        """
        return _found.decode(self.found(service, timeout)).services

    def found(self, service: str, timeout: float = DEFAULT_TIMEOUT) -> bytes:
        """The registry's answer of what a service is; see `describe`."""
        request = {"service": service, "options": {"domain": self.namespace}}
        try:
            return self.core("registry", "Registry.GetService", request, timeout=timeout)
        except errors.NotFound:
            close = close_to(service, self.names(timeout))
        hint = f"did you mean {close}?" if close else "`micro services` lists them"
        raise errors.NotFound(service, f"service {service} not found; {hint}")

    def names(self, timeout: float = DEFAULT_TIMEOUT) -> list[str]:
        """The names of the registered services, sorted."""
        request = {"options": {"domain": self.namespace}}
        answer = self.core("registry", "Registry.ListServices", request, timeout=timeout)
        return sorted({service.name for service in _names.decode(answer).services})

    def call(
        self,
        service: str,
        endpoint: str,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        known: Iterable[Service] | None = None,
    ) -> bytes:
        """Call any service with a JSON body.

        Args:
            service: its name.
            endpoint: ``Handler.Method``.
            body: the request.
            metadata: what travels beside it.
            timeout: seconds to wait.
            known: what `describe` said, if it was asked before.

        Raises:
            exits.UnknownEndpoint: the service has no such endpoint.
            errors.Error: what came of it.
        """
        places = self._serving(service, endpoint, known)
        call = self._call(service, endpoint, body, metadata or {}, timeout)
        return self._send(call, places)

    def stream(
        self,
        service: str,
        endpoint: str,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        items: Iterable[bytes] = (),
        known: Iterable[Service] | None = None,
    ) -> Iterator[bytes]:
        """Call any service with a JSON body, and give the messages of its stream as they come.

        Args:
            service: its name.
            endpoint: ``Handler.Method``.
            body: the request.
            metadata: what travels beside it.
            timeout: seconds for all of it; None is no limit.
            items: messages for the service, read and sent in another thread. What it raises is
                raised here when the stream has ended.
            known: what `describe` said, if it was asked before.

        Raises:
            exits.UnknownEndpoint: the service has no such endpoint.
            errors.Error: what came of it.
        """
        known = list(self.describe(service) if known is None else known)
        places = self._serving(service, endpoint, known)
        call = self._call(service, endpoint, body, metadata or {}, timeout)
        login = self._sign(call)
        with self._opened(call, places, known) as opened:
            sending = Sending(opened, items)
            try:
                yield from opened
            except (errors.Unauthorized, errors.Forbidden) as error:
                raise self.identity.refused(error, login) from None
        sending.check()

    def _serving(self, service: str, endpoint: str, known: Iterable[Service] | None) -> _Places:
        versions = list(self.describe(service) if known is None else known)
        serving = [version for version in versions if version.endpoint(endpoint)]
        if not serving:
            raise unknown_endpoint(service, endpoint, endpoints(versions))
        return _places(serving)

    def _call(
        self,
        service: str,
        endpoint: str,
        body: bytes,
        metadata: Mapping[str, str],
        timeout: float | None,
    ) -> Call:
        sent = dict(context.sendable(name, value) for name, value in metadata.items())
        sent.setdefault(context.TRACE, self._trace)
        sent.setdefault(context.NAMESPACE, self.namespace)
        limit = None if timeout is None else min(timeout, _LONGEST)
        call = Call(service, endpoint, body, sent, limit)
        check_size(call)
        return call

    def login(self, timeout: float = DEFAULT_TIMEOUT) -> Login | None:
        """Who the user is at the platform, with a token that is good for a while.

        Raises:
            errors.Error: what came of renewing it.
        """
        if self._environment.local:
            self._running()
        return self.identity.login(self._asking(timeout))

    def _sign(self, call: Call, refused: str = "") -> Login | None:
        """Put the user's token on a call, unless it has one; the login that it is of."""
        if context.AUTHORIZATION in call.metadata and not refused:
            return None
        if self._environment.local:
            self._running()
        login = self.identity.login(self._asking(call.timeout or DEFAULT_TIMEOUT), refused)
        call.metadata.pop(context.AUTHORIZATION, None)
        if login is not None:
            call.metadata[context.AUTHORIZATION] = login.header
        return login

    def _send(self, call: Call, places: _Places, *, retry: bool = True) -> bytes:
        """Send a call, and once more within its time if it failed for a passing reason."""
        deadline = time.monotonic() + (call.timeout or DEFAULT_TIMEOUT)
        login = self._sign(call)
        try:
            return self._route(call, places)
        except errors.Error as error:
            call.timeout = deadline - time.monotonic()
            if login is not None and bad_token(error):
                # The server may have other keys by now, or the login was ended elsewhere.
                login = self._sign(call, refused=login.access_token)
            elif isinstance(error, errors.Unauthorized | errors.Forbidden):
                raise self.identity.refused(error, login) from None
            elif not (retry and error.retryable) or call.timeout <= 0:
                raise
        try:
            return self._route(call, places)
        except (errors.Unauthorized, errors.Forbidden) as error:
            raise self.identity.refused(error, login) from None

    def _route(self, call: Call, places: _Places) -> bytes:
        if not self._environment.local:
            self._sent = True
            return _through_proxy(self._environment, call)
        running = self._running()
        self._sent = True
        for lane in random.sample(places.lanes, len(places.lanes)):
            try:
                return blocking.call(lane, call)
            except Unreachable:
                continue
        if places.elsewhere and "proxy" in running.addresses:
            return _through_proxy(self._own_proxy(), call)
        whose = f"no replica of {call.service} is alive" if places.replicas else "the core is away"
        raise errors.Unavailable(call.service, f"{whose}; try again later")

    def _opened(
        self, call: Call, places: _Places, known: Iterable[Service]
    ) -> blocking.BlockingStream | ProxyStream:
        if not self._environment.local:
            return self._opened_far(call, known)
        self._running()
        self._sent = True
        for lane in random.sample(places.lanes, len(places.lanes)):
            try:
                return blocking.BlockingStream(lane, call)
            except Unreachable:
                continue
        raise errors.Unavailable(
            call.service, f"no replica of {call.service} is alive on this host; try again later"
        )

    def _opened_far(self, call: Call, known: Iterable[Service]) -> ProxyStream:
        from microcosmos.proxy.remote import ProxyStream

        self._sent = True
        endpoint = endpoints(known)[call.endpoint]
        far = self._environment
        return ProxyStream(far.address, call, endpoint.metadata, _trust(far))

    def _own_proxy(self) -> Environment:
        """The proxy of this home, on a socket: there is no TLS, whatever its port has."""
        return Environment(self._environment.name, f"unix:{self._home.proxy_socket}")

    def proto(self, service: str) -> bytes:
        """The protobuf file of a service, as its proxy describes it by reflection.

        Raises:
            errors.Error: what came of it; `NotFound` when there is no such service.
        """
        from microcosmos.proxy import client

        environment = self._environment
        if environment.local:
            self._running()
            environment = self._own_proxy()
        call = self._call(service, "reflection", b"", {}, DEFAULT_TIMEOUT)
        login, trust = self._sign(call), _trust(environment)
        try:
            return client.describe(
                environment.address, service, trust=trust, metadata=call.metadata
            )
        except (errors.Unauthorized, errors.Forbidden) as error:
            raise self.identity.refused(error, login) from None

    def _running(self) -> ServerInfo:
        info = self._home.server_info()
        if info is None:
            # The exact words are the contract's.
            detail = "no server is running for this MICRO_HOME; start one with `micro server`"
            raise errors.Unavailable("micro", detail)
        return info


def endpoints(versions: Iterable[Service]) -> dict[str, Endpoint]:
    """The endpoints of all versions of a service, by name, sorted."""
    found = {endpoint.name: endpoint for version in versions for endpoint in version.endpoints}
    return dict(sorted(found.items()))


def close_to(word: str, known: Iterable[str]) -> str:
    """The names that somebody may have meant by a word, with ``or`` in between."""
    from difflib import get_close_matches

    return " or ".join(get_close_matches(word, list(known)))


def unknown_endpoint(service: str, endpoint: str, known: Iterable[str]) -> UnknownEndpoint:
    """The error of an endpoint that a service does not have."""
    names = ", ".join(known) or "none"
    return UnknownEndpoint(service, f"{service} has no endpoint {endpoint}; it has: {names}")


def _places(versions: Iterable[Service]) -> _Places:
    here = this_host()
    nodes = [node.metadata for version in versions for node in version.nodes]
    lanes = [node[LANE] for node in nodes if LANE in node and node.get(HOST) == here]
    return _Places(lanes, elsewhere=len(lanes) < len(nodes))


def _through_proxy(environment: Environment, call: Call) -> bytes:
    # Imported here: gRPC takes longer to import than the rest of a command together.
    from microcosmos.proxy import client

    trust = _trust(environment)
    timeout = call.timeout or DEFAULT_TIMEOUT
    return client.call(
        environment.address,
        call.service,
        call.endpoint,
        call.body,
        call.metadata,
        timeout,
        trust,
    )


def _trust(environment: Environment) -> Trust:
    from microcosmos.proxy.client import Trust

    return Trust(environment.ca, environment.cert, environment.key)
