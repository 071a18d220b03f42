"""Calls from the command line: by the lane on this host, through a proxy elsewhere."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from microcosmos.base import codec, context, errors
from microcosmos.base.home import Home, ServerInfo
from microcosmos.registry import Endpoint, Service, this_host
from microcosmos.registry.interface import HOST, LANE, Found
from microcosmos.rpc import blocking
from microcosmos.rpc.interface import DEFAULT_TIMEOUT, MAX_BODY, Call, Unreachable

from .environments import Environment
from .exits import UnknownEndpoint

_found = msgspec.json.Decoder(Found, strict=False)


class Caller:
    """Calls services of one environment.

    Args:
        home: whose server ``local`` means.
        environment: where the calls go.
        namespace: the namespace they are made in.
    """

    def __init__(self, home: Home, environment: Environment, namespace: str) -> None:
        self._home = home
        self._environment = environment
        self._namespace = namespace
        self.trace = ""

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
        return self._send(call, [str(self._home.core_lane)], retry=retry)

    def describe(self, service: str) -> list[Service]:
        """Every version of a service, with its nodes and endpoints.

        Raises:
            errors.NotFound: it is not registered.
        """
        request = {"service": service, "options": {"domain": self._namespace}}
        return _found.decode(self.core("registry", "Registry.GetService", request)).services

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
        versions = list(self.describe(service) if known is None else known)
        serving = [version for version in versions if version.endpoint(endpoint)]
        if not serving:
            raise unknown_endpoint(service, endpoint, endpoints(versions))
        call = self._call(service, endpoint, body, metadata or {}, timeout)
        return self._send(call, list(_lanes(serving)))

    def _call(
        self,
        service: str,
        endpoint: str,
        body: bytes,
        metadata: Mapping[str, str],
        timeout: float,
    ) -> Call:
        if len(body) > MAX_BODY:
            detail = f"the request has {len(body)} bytes; the limit of one call is {MAX_BODY}"
            raise errors.TooLarge(service, detail)
        self.trace = self.trace or context.new_trace()
        sent = {context.title(name): value for name, value in metadata.items()}
        sent.setdefault(context.TRACE, self.trace)
        sent.setdefault(context.NAMESPACE, self._namespace)
        return Call(service, endpoint, body, sent, timeout)

    def _send(self, call: Call, lanes: list[str], *, retry: bool = True) -> bytes:
        """Send a call, and once more within its time if it failed for a passing reason."""
        deadline = time.monotonic() + (call.timeout or DEFAULT_TIMEOUT)
        try:
            return self._route(call, lanes)
        except errors.Error as error:
            call.timeout = deadline - time.monotonic()
            if not (retry and error.retryable) or call.timeout <= 0:
                raise
        return self._route(call, lanes)

    def _route(self, call: Call, lanes: list[str]) -> bytes:
        if not self._environment.local:
            return _through_proxy(self._environment.address, call)
        running = self._running()
        for lane in random.sample(lanes, len(lanes)):
            try:
                return blocking.call(lane, call)
            except Unreachable:
                continue
        if not lanes:
            # It answers elsewhere, or is a foreign service that only NATS reaches.
            return _through_proxy(running.addresses["proxy"], call)
        name = call.service
        raise errors.Unavailable(name, f"no replica of {name} is alive; try again later")

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


def unknown_endpoint(service: str, endpoint: str, known: Iterable[str]) -> UnknownEndpoint:
    """The error of an endpoint that a service does not have."""
    names = ", ".join(known) or "none"
    return UnknownEndpoint(service, f"{service} has no endpoint {endpoint}; it has: {names}")


def _lanes(versions: Iterable[Service]) -> Iterator[str]:
    here = this_host()
    for version in versions:
        for node in version.nodes:
            if LANE in node.metadata and node.metadata.get(HOST) == here:
                yield node.metadata[LANE]


def _through_proxy(address: str, call: Call) -> bytes:
    # Imported here: gRPC takes longer to import than the rest of a command together.
    from microcosmos.proxy import client

    timeout = call.timeout or DEFAULT_TIMEOUT
    return client.call(
        address, call.service, call.endpoint, call.body, call.metadata, timeout
    )
