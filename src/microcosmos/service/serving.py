"""What a platform serves of messages, events and their schemas, for all its namespaces."""

from __future__ import annotations

from collections.abc import Callable

from microcosmos.auth.topics import Authorise, open_to_all
from microcosmos.base.audit import Audit, unaudited
from microcosmos.broker import Broker
from microcosmos.broker.service import BrokerService
from microcosmos.events.interface import Draft, Log
from microcosmos.events.schema.local import LocalContracts
from microcosmos.events.schema.registry import Registry
from microcosmos.events.schema.service import SchemasService
from microcosmos.events.service import EventsService
from microcosmos.rpc import Hosted


def serving(
    broker_of: Callable[[str], Broker],
    log_of: Callable[[str], Log],
    schemas: Registry,
    authorise: Authorise = open_to_all,
    audit: Audit = unaudited,
) -> list[Hosted]:
    """The services ``broker`` and ``events``.

    Args:
        broker_of: the broker of a namespace.
        log_of: the events of a namespace.
        schemas: of all namespaces.
        authorise: says who may do what with a topic.
        audit: notes what was changed and removed.
    """
    events = EventsService(log_of, authorise, Checks(schemas), audit).hosted()
    registry = SchemasService(schemas, authorise, audit=audit)
    return [
        BrokerService(broker_of, authorise).hosted(),
        Hosted(events.name, [*events.endpoints.values(), *registry.endpoints()]),
    ]


class Checks:
    """Checks by the schemas of its topic what is published by way of the platform.

    Args:
        registry: of all namespaces.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._contracts: dict[str, LocalContracts] = {}

    async def check(self, namespace: str, draft: Draft) -> Draft:
        """The draft with the id of its schema.

        Raises:
            errors.BadRequest: it is not of the topic's schema.
        """
        contracts = self._contracts.get(namespace)
        if contracts is None:
            contracts = self._contracts[namespace] = LocalContracts(self._registry, namespace)
        return await contracts.checked(draft)
