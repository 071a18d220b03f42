"""What a request passes before the policies: its id is noted, and its line written."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from .access import AccessLog
from .edge import Edge
from .front.addresses import canonical
from .front.front import Front
from .front.proxies import Proxies
from .lines import open_lines
from .request_id import RequestIds


@contextlib.asynccontextmanager
async def open_entrance(edge: Edge, front: Front, inner: Any = None) -> AsyncIterator[Any]:
    """The application that a gateway serves, with what comes before it.

    Args:
        edge: what the supervisor tells.
        front: the policies, which know the proxies that are trusted.
        inner: the application; the policies alone unless given.
    """
    app: Any = RequestIds(front if inner is None else inner)
    if edge.access_log == "off":
        yield app
        return
    async with open_lines(Path(edge.access_log_file)) as lines:
        yield AccessLog(app, lines.add, edge.access_log, _Clients(front).address)


class _Clients:
    """The addresses of clients, as the proxies tell that the policies trust."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._proxies = Proxies(None)
        self._given: object = None

    def address(self, scope: Any) -> str:
        """Where a request came from."""
        given = self._front.settings.proxies
        if given is None:
            return canonical(scope.client)
        if given is not self._given:
            self._given, self._proxies = given, Proxies(given)
        return self._proxies.client(scope.client, scope.scheme, scope.headers.items()).address
