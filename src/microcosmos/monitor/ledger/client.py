"""The ledger over rpc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from microcosmos.base import codec
from microcosmos.rpc import Client

from .wire import (
    NAME,
    By,
    Consumption,
    ConsumptionRequest,
    CountRequest,
    Metrics,
    MetricsRequest,
    Told,
)

_ASKING = 10.0


class RemoteLedger:
    """What was used in the namespace that calls are made in.

    Args:
        client: carries the calls.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def consumption(
        self,
        name: str = "",
        *,
        kind: Literal["", "function", "service", "app"] = "",
        since: str = "",
        by: By = "",
    ) -> Consumption:
        """What was used, with all pages of the rows; see `wire.ConsumptionRequest`.

        Raises:
            errors.BadRequest: that is no question.
            errors.NotFound: nothing of that name was ever counted.
            errors.Forbidden: it is another's.
        """
        request = ConsumptionRequest(name=name, kind=kind, since=since, by=by)
        found = await self._page(request)
        while found.next:
            page = await self._page(msgspec.structs.replace(request, after=found.next))
            found.rows += page.rows
            found.next = page.next
        return found

    async def _page(self, request: ConsumptionRequest) -> Consumption:
        said = await self._ask("Consumption", request)
        found: Consumption = codec.decode(said, Consumption, id=NAME)
        return found

    async def metrics(self) -> str:
        """The totals of all versions as Prometheus reads them; for admins."""
        said: Metrics = codec.decode(await self._ask("Metrics", MetricsRequest()), Metrics, id=NAME)
        return said.text

    async def count(self, worker: str, sequence: int, services: Sequence[Told]) -> None:
        """Add what services have used in a process; it is kept durably on return.

        Args:
            worker: the process, unique for ever. Its counts are sent one after the other.
            sequence: grows with each; what is sent again is not added again.
            services: of the process.
        """
        request = CountRequest(worker=worker, sequence=sequence, services=list(services))
        await self._ask("Count", request)

    async def _ask(self, method: str, request: object) -> bytes:
        body = codec.encode(request)
        return await self._client.call(NAME, f"Ledger.{method}", body, timeout=_ASKING)
