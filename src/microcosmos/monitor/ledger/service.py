"""The ledger over rpc: what was used, told by those who use it, asked by those who may know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from microcosmos.auth.interface import Account
from microcosmos.base import context, errors
from microcosmos.registry.interface import UNLISTED
from microcosmos.rpc import Hosted
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Access

from . import checks
from .asking import Asking, Viewer
from .exposition import exposition
from .interface import Counts, Subject
from .ledger import Ledger
from .wire import (
    NAME,
    Consumption,
    ConsumptionRequest,
    CountRequest,
    Metrics,
    MetricsRequest,
)

MAX_SERVICES = 100
"""Services that one process tells of at once."""

Owner = Callable[[str, str], Awaitable[str | None]]
"""Says which account a service was deployed by, by its namespace and name; None if it was not."""


async def unknown(namespace: str, name: str) -> str | None:
    """Where nothing is deployed."""
    return None


class LedgerService:
    """Serves a ledger; each call is about the namespace that it is made in.

    Args:
        ledger: the core's own.
        owner: of services.
    """

    def __init__(self, ledger: Ledger, owner: Owner = unknown) -> None:
        self._ledger = ledger
        self._owner = owner

    def hosted(self) -> Hosted:
        """The service ``monitor``."""
        endpoints: dict[str, tuple[Callable[..., Any], Access, dict[str, str]]] = {
            "Consumption": (self.consumption, "account", {}),
            "Metrics": (self.metrics, "admin", {}),
            "Count": (self.count, "account", {UNLISTED: "true"}),
        }
        return Hosted(
            NAME,
            [
                endpoint(
                    function,
                    NAME,
                    name=f"Ledger.{name}",
                    lenient=True,
                    access=access,
                    metadata=about,
                )
                for name, (function, access, about) in endpoints.items()
            ],
        )

    async def consumption(self, request: ConsumptionRequest) -> Consumption:
        """What was used: one's own, of an admin all of the namespace."""
        here = context.current().namespace
        return await asking(self._ledger, here, NAME).answer(request)

    async def metrics(self, request: MetricsRequest) -> Metrics:
        """The totals of all versions as Prometheus reads them; for admins."""
        administers = _viewer(context.current().namespace).administers
        text = await exposition(self._ledger.reading, lambda line: administers(line.namespace))
        return Metrics(text)

    async def count(self, request: CountRequest) -> None:
        """Add what services have used in a process; once for each sequence of it."""
        checks.worker(request.worker, request.sequence)
        if len(request.services) > MAX_SERVICES:
            detail = f"services: {len(request.services)}; a process tells of {MAX_SERVICES} at most"
            raise errors.BadRequest(NAME, detail)
        here, who = context.current().namespace, _account()
        counts: dict[Subject, Counts] = {}
        for told in request.services:
            checks.service(told.name, told.version)
            checks.counts(told.name, told.counts)
            subject = Subject(
                namespace=here,
                kind="service",
                account=await self._whose(here, told.name, who),
                name=told.name,
                version=told.version,
            )
            counts.setdefault(subject, Counts()).add(told.counts)
        # Its name is nobody else's: by another's nobody can keep counts from being added.
        worker = f"{here}/{who.id if who is not None else ''}/{request.worker}"
        await self._ledger.add(worker, request.sequence, counts)

    async def _whose(self, namespace: str, name: str, who: Account | None) -> str:
        """The account that a service belongs to, if who tells of it may do so.

        Raises:
            errors.Forbidden: it may not.
        """
        owner = await self._owner(namespace, name)
        if who is None or who.administers(namespace):
            return owner or (who.id if who is not None and who.type == "user" else "")
        if who.type == "service":
            if who.id == name and who.namespace == namespace:
                return owner or who.id
        elif owner is None or owner == who.id:
            return who.id
        raise errors.Forbidden(NAME, f"{who.id} may not tell what {name[:100]} has used")


def asking(ledger: Ledger, namespace: str, id: str) -> Asking:
    """A question of whoever makes the call that is being handled."""
    return Asking(ledger.reading, namespace, _viewer(namespace), id, ledger.clock.time())


def _account() -> Account | None:
    account = context.current().account
    return account if isinstance(account, Account) else None


def _viewer(namespace: str) -> Viewer:
    account = _account()
    if account is None:
        return Viewer("", True, lambda _: True)
    own = account.id if account.namespace == namespace else f"{account.namespace}/{account.id}"
    return Viewer(own, account.administers(namespace), account.administers)
