"""What a process tells the registry of the services it hosts."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from microcosmos.registry import Endpoint, Node, Service
from microcosmos.rpc import Hosted


def record(hosted: Hosted, node: str, metadata: Mapping[str, str], address: str = "") -> Service:
    """The registry's record of a hosted service with this process as its one node."""
    endpoints = [
        Endpoint(
            name=endpoint.name,
            request=endpoint.request,
            response=endpoint.response,
            metadata=endpoint.metadata,
        )
        for endpoint in hosted.endpoints.values()
    ]
    return Service(
        name=hosted.name,
        version=hosted.version,
        metadata=hosted.metadata,
        endpoints=endpoints,
        schemas={one.name: msgspec.Raw(one.schema) for one in hosted.endpoints.values()},
        nodes=[Node(id=f"{hosted.name}-{node}", address=address, metadata=dict(metadata))],
    )
