"""The policies of a server's gateway, kept as the file of the settings and the core's list are."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator

from microcosmos.auth.access import Access
from microcosmos.base import context
from microcosmos.base.home import Home
from microcosmos.base.tasks import background
from microcosmos.registry import Table
from microcosmos.rpc import Client

from . import blocklist
from .blocks import Blocked
from .file import File, chosen
from .front import App, Front
from .settings import NONE, Settings


class Fronts:
    """The policies around each application of a gateway: the same for every namespace.

    Args:
        home: the platform's folder.
        access: who shows which token, and what everybody may call.
    """

    def __init__(self, home: Home, access: Access | None) -> None:
        self._counters = home.server / "limits"
        self._access = access
        self._settings = NONE
        self._listed: list[Blocked] = []
        self._fronts: list[Front] = []

    @contextlib.contextmanager
    def around(
        self, app: App, table: Table, namespace: str = context.DEFAULT_NAMESPACE
    ) -> Iterator[Front]:
        """Let the policies hold for an application until the block ends.

        Args:
            app: what answers.
            table: who is alive in the namespace.
            namespace: which.
        """
        front = Front(app, table, self._counters, access=self._access, namespace=namespace)
        front.apply(self._settings)
        front.block(self._listed)
        self._fronts.append(front)
        try:
            yield front
        finally:
            self._fronts.remove(front)
            front.close()

    def apply(self, given: Settings) -> None:
        """From the next request on, these settings hold."""
        self._settings = given
        for front in self._fronts:
            front.apply(given)

    def block(self, listed: Iterable[Blocked]) -> None:
        """From the next request on, these are refused, beside those of the settings."""
        self._listed = list(listed)
        for front in self._fronts:
            front.block(self._listed)


@contextlib.asynccontextmanager
async def open_fronts(
    client: Client, home: Home, access: Access | None = None
) -> AsyncIterator[Fronts]:
    """Keep the policies, and every change of them, until the block ends.

    Args:
        client: carries the calls to the core.
        home: the platform's folder.
        access: as of `Fronts`.

    Raises:
        errors.BadRequest: the settings are damaged, and never were good.
    """
    file = File(home, chosen())
    fronts = Fronts(home, access)
    fronts.apply(file.begin())
    async with (
        background(file.follow(fronts.apply), "settings"),
        background(blocklist.follow(client.own(), fronts.block), "block list"),
    ):
        yield fronts
