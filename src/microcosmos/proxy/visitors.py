"""Who a gRPC call is from, and which namespace it is for: looked at before anything is answered."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote

from grpc import aio

from microcosmos.auth.access import Access
from microcosmos.base import context, errors, names
from microcosmos.registry import Endpoint
from microcosmos.registry.table import SUBJECT

from .headers import Headers

AUTH = "auth"
"""The service that is told where its callers are."""

_AUTHORIZATION = context.AUTHORIZATION.lower()
_NAMESPACE = context.NAMESPACE.lower()
ADDRESS = context.CLIENT_ADDRESS.lower()
"""The metadata that tells `AUTH` where a client is."""

_PEER = re.compile(r"(?:ipv4:(?P<four>[\d.]+)|ipv6:\[(?P<six>[^\]%]+)[^\]]*\]):\d+")
_LOCAL = "unix:"

_Context = aio.ServicerContext[Any, Any]


class Visit(NamedTuple):
    """A call that is let in so far.

    Attributes:
        namespace: which it is for.
        shown: its Authorization, or None.
    """

    namespace: str
    shown: str | None


class Visitors:
    """Lets calls in.

    Args:
        access: knows good tokens, the namespaces, and who may call; None lets everybody in, to
            the one namespace that there is.
    """

    def __init__(self, access: Access | None) -> None:
        self._access = access

    def look_at(self, headers: Headers, peer: str) -> Visit:
        """What a call shows; what its client must not say is taken out of its headers.

        Args:
            headers: of the call.
            peer: the other end, as gRPC names it.

        Raises:
            errors.Unauthorized: what it shows is no good token.
            errors.BadRequest: its namespace is no name.
            errors.NotFound: there is no such namespace.
            errors.Unavailable: the policy is not known yet.
        """
        metadata = headers.metadata
        if not peer.startswith(_LOCAL):
            # A gateway, which comes by the socket, has looked whose the address is.
            metadata[ADDRESS] = address_of(peer)
        shown = metadata.get(_AUTHORIZATION)
        if self._access is None:
            return Visit(context.DEFAULT_NAMESPACE, shown)
        token = self._access.token(shown)
        namespace = metadata.get(_NAMESPACE)
        if namespace is None:
            namespace = token.account.namespace if token else context.DEFAULT_NAMESPACE
            if namespace != context.DEFAULT_NAMESPACE:
                metadata[_NAMESPACE] = namespace
        policy = self._access.policy
        if policy is None:
            raise errors.Unavailable("proxy", "it is not known yet who may call; try again")
        if namespace not in policy.rules:
            names.check_namespace(namespace)
            raise errors.NotFound("proxy", f"there is no namespace {namespace}")
        return Visit(namespace, shown)

    def admit(self, visit: Visit, service: str, endpoint: str, access: str = "rules") -> None:
        """Refuse who may not call what is answered here, or by who does not ask for itself.

        Raises:
            errors.Unauthorized: nobody knows who asks.
            errors.Forbidden: the account may not.
        """
        if self._access is not None:
            self._access.admit(visit.shown, visit.namespace, service, endpoint, access)

    def pass_on(
        self, visit: Visit, headers: Headers, service: str, endpoint: str, known: Endpoint | None
    ) -> None:
        """See to a call on its way to a service.

        Args:
            visit: who makes it.
            headers: of the call; only `AUTH` is told where its client is.
            service: whom it is for.
            endpoint: what of it.
            known: the endpoint in the registry, if it is.

        Raises:
            errors.Error: see `admit`.
        """
        if service != AUTH:
            headers.metadata.pop(ADDRESS, None)
        if known is not None and SUBJECT in known.metadata:
            self.admit(visit, service, endpoint)


def address_of(peer: str) -> str:
    """The address in gRPC's name of the other end; empty if it has none."""
    found = _PEER.fullmatch(unquote(peer))
    return (found["four"] or found["six"]) if found is not None else ""
