"""What the tests of the document and of its page share."""

from __future__ import annotations

from typing import Any

import msgspec

from microcosmos import Service
from microcosmos.gateway.openapi import document
from microcosmos.registry.interface import Described, Description
from microcosmos.service.records import record


def describe(service: Service) -> Description:
    """A service as the registry describes it."""
    hosted = service.hosted()
    told = record(hosted, "node", {})
    return Description(
        name=told.name,
        version=told.version,
        metadata=told.metadata,
        endpoints=[
            Described(
                name=one.name,
                metadata=one.metadata,
                schema=msgspec.json.decode(told.schemas[one.name]),
            )
            for one in told.endpoints
        ],
    )


def whole(*services: Service) -> dict[str, Any]:
    """The document of services."""
    found: dict[str, Any] = msgspec.json.decode(
        document.whole([document.part([describe(service)]) for service in services])
    )
    return found


def resolved(api: dict[str, Any], thing: dict[str, Any]) -> Any:
    """What a reference of a document leads to."""
    while "$ref" in thing:
        found: Any = api
        for part in thing["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        thing = found
    return thing
