"""What a service says of its events and endpoints when it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .interface import Contracts, Declaration, EndpointSchemas, Reader, Writer
from .types import of_endpoint, schema_of


async def declare(
    contracts: Contracts,
    service: str,
    *,
    consumes: Iterable[tuple[str, str, Any]] = (),
    publishes: Iterable[tuple[str, Any]] = (),
    endpoints: Mapping[str, bytes] | None = None,
) -> None:
    """Say what a service reads and writes; to be called at its start, before it consumes.

    It stands in place of what the service said before, so it is called even when there is nothing
    to say, if the service ever consumed anything. When it raises, the service must not start:
    `micro update` then keeps the version before.

        await declare(
            contracts,
            "billing",
            consumes=[("orders.placed", "billing", recipient.kind)],
            publishes=[("invoices.sent", Invoice)],
            endpoints={"Billing.Read": endpoint.schema},
        )

    Args:
        contracts: of the service.
        service: its name.
        consumes: a topic or pattern, the group, and the type of the payload: `Recipient.kind`;
            None, ``bytes`` and ``Any`` take anything.
        publishes: a topic, and the type of what is published there (``@service.publishes``).
        endpoints: the schemas of endpoints (`rpc.Endpoint.schema`) by their names; only those
            whose mode is not ``NONE`` are looked at.

    Raises:
        errors.Conflict: it breaks somebody; the detail says whom in one line.
        errors.BadRequest: a topic that cannot be one.
        errors.Unavailable: the registry is away: start anyway if nothing is to be registered, or
            try again.
    """
    readers = tuple(
        Reader(topic, group, schema_of(kind, "validation")) for topic, group, kind in consumes
    )
    writers = tuple(
        Writer(topic, schema) for topic, kind in publishes if (schema := schema_of(kind))
    )
    served = tuple(
        EndpointSchemas(name, *of_endpoint(schema))
        for name, schema in (endpoints or {}).items()
        if schema
    )
    await contracts.declare(Declaration(service, readers, writers, served))
