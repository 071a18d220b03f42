"""The core's service `schemas`: the registry for clients of the Confluent Schema Registry."""

from __future__ import annotations

from microcosmos.auth.access import Access
from microcosmos.auth.granting import Granting
from microcosmos.auth.topics import Authorise, open_to_all
from microcosmos.base.audit import Audit, unaudited
from microcosmos.events.schema.registry import Registry
from microcosmos.rpc.server import Hosted
from microcosmos.service.web.declare import mounted

from .door import Door
from .visitors import NAME, Login, Visitors


class SchemasDoor:
    """Serves a registry over HTTP, at ``/schemas`` of the gateway.

    Args:
        registry: the core's own.
        access: knows good tokens, and who may; None lets everybody do everything.
        authorise: says who may do what with a topic.
        login: gives tokens for passwords, so that clients may show an id and its password; None
            takes tokens only.
        audit: notes what was set and deleted.
    """

    def __init__(
        self,
        registry: Registry,
        access: Access | None = None,
        authorise: Authorise = open_to_all,
        *,
        login: Login | None = None,
        audit: Audit = unaudited,
    ) -> None:
        self._door = Door(registry, Visitors(access, authorise, login), audit=audit)

    def hosted(self) -> Hosted:
        """The service ``schemas``: it asks for itself who may, as passwords are no tokens."""
        rest = mounted(self._door, NAME, "/", name="Schemas.Rest")
        rest.access = "open"
        about = "The schema registry, as clients of the Confluent Schema Registry know it"
        rest.metadata["description"] = about
        return Hosted(NAME, [rest])


def by_passwords(logins: Granting) -> Login:
    """Logins with the passwords of accounts, as `SchemasDoor` takes them."""

    async def login(namespace: str, id: str, password: str, address: str) -> str:
        granted = await logins.login(namespace, id, password, address=address)
        return granted.access_token

    return login
