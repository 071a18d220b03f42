"""What the platform's own processes ask of the service ``functions``; nobody else may."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator
from contextlib import aclosing

from microcosmos.base import errors
from microcosmos.base.tasks import background

from . import ledger, rights
from .accounts import Accounts
from .catalogue import Catalogue
from .interface import News, State, Unit
from .requests import (
    NAME,
    CountRequest,
    FollowRequest,
    Heard,
    Pass,
    PassRequest,
    Revealed,
    RevealRequest,
    StrikeRequest,
    UnitRequest,
)


class Internal:
    """Serves the host of the workers, the gateways and the egress.

    Args:
        catalogue: the core's own.
        accounts: those that functions call by; without them they call as nobody.
        proof: who shows it is told secrets; without one nobody is.
    """

    def __init__(self, catalogue: Catalogue, accounts: Accounts | None, proof: str) -> None:
        self._catalogue = catalogue
        self._accounts = accounts
        self._proof = proof

    async def follow(
        self, request: FollowRequest, heard: AsyncIterator[Heard]
    ) -> AsyncIterator[News]:
        """All functions of all namespaces, or what has changed since; then what changes.

        Whoever says what he has heard of is waited for when something changes.
        """
        rights.platform_only()
        feed = self._catalogue.feed
        async with (
            background(self._listen(heard), "audience"),
            aclosing(feed.follow(request.epoch, request.sequence)) as all_news,
        ):
            async for news in all_news:
                yield news

    async def _listen(self, heard: AsyncIterator[Heard]) -> None:
        # A stream that is lost is told to who sends, too.
        with self._catalogue.feed.audience.seat() as hears, contextlib.suppress(errors.Error):
            async for one in heard:
                hears(one.sequence)

    async def unit(self, request: UnitRequest) -> Unit:
        """All that a worker needs to run a version."""
        rights.platform_only()
        found = await self._catalogue.get(request.namespace, request.name)
        return await self._catalogue.unit(found, request.number)

    async def grant(self, request: PassRequest) -> Pass:
        """A token by which a function calls as itself."""
        rights.platform_only()
        await self._catalogue.get(request.namespace, request.name)
        if self._accounts is None:
            return Pass("", 0.0)
        where = request.namespace, request.name
        try:
            granted = await self._accounts.service_token(*where)
        except errors.NotFound:
            # Its account was deleted by hand; the function is still there.
            await self._accounts.service_account(*where)
            granted = await self._accounts.service_token(*where)
        return Pass(granted.access_token, granted.expiry)

    async def count(self, request: CountRequest) -> None:
        """Add to what functions have used; once for each sequence of a worker."""
        rights.platform_only()
        counts = ledger.subjects(request.counts)
        await self._catalogue.ledger.add(request.worker, request.sequence, counts)

    async def strike(self, request: StrikeRequest) -> State:
        """Note what a version did to its worker; once for each worker."""
        rights.host_only()
        found = await self._catalogue.get(request.namespace, request.name)
        await self._catalogue.kept(found, request.number)
        return await self._catalogue.strikes.add(
            found.which,
            request.number,
            worker=request.worker,
            reason=request.reason,
            suspected=request.suspected,
        )

    async def reveal(self, request: RevealRequest) -> Revealed:
        """The value of a secret, for the egress of this server alone."""
        if not self._proof or not hmac.compare_digest(request.proof.encode(), self._proof.encode()):
            raise errors.Forbidden(NAME, "secrets are told to the egress of this server only")
        found = await self._catalogue.get(request.namespace, request.name)
        return Revealed(await self._catalogue.reveal(found, request.secret))
