"""What a process tells the registry of the services it hosts."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.registry import Endpoint, Node, Options, Service
from microcosmos.rpc import Endpoint as Answering
from microcosmos.rpc import Hosted

ACCESS = "micro.access"
"""Metadata of a core service's endpoint: what it asks of who calls it; see `rpc.Endpoint`."""


def record(
    hosted: Hosted,
    node: str,
    metadata: Mapping[str, str],
    address: str = "",
    namespace: str = DEFAULT_NAMESPACE,
) -> Service:
    """The registry's record of a hosted service with this process as its one node."""
    endpoints = [
        Endpoint(
            name=endpoint.name,
            request=endpoint.request,
            response=endpoint.response,
            metadata=_about(endpoint),
        )
        for endpoint in hosted.endpoints.values()
    ]
    return Service(
        name=hosted.name,
        version=hosted.version,
        metadata=hosted.metadata,
        endpoints=endpoints,
        schemas={one.name: msgspec.Raw(one.schema) for one in hosted.endpoints.values()},
        options=Options(domain="" if namespace == DEFAULT_NAMESPACE else namespace),
        nodes=[Node(id=f"{hosted.name}-{node}", address=address, metadata=dict(metadata))],
    )


def _about(endpoint: Answering) -> dict[str, str]:
    if endpoint.access == "rules":
        return endpoint.metadata
    return {**endpoint.metadata, ACCESS: endpoint.access}
