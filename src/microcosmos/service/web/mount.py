"""ASGI applications as endpoints of a service, with their start and their end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from microcosmos.rpc import Endpoint

from .bridge import App, Event
from .declare import mounted


class Mount:
    """An application below a path of a service.

    Args:
        app: the application.
        path: below the service's own.
        name: of the endpoint, or empty.
    """

    def __init__(self, app: App, path: str, name: str) -> None:
        self._app = app
        self._path = path
        self._name = name or "mount_" + re.sub(r"[^A-Za-z0-9]+", "_", path).strip("_")
        self._state: dict[str, Any] = {}

    def endpoint(self, service: str) -> Endpoint:
        """The endpoint of a service of this name; see `declare.mounted`."""
        return mounted(self._app, service, self._path, name=self._name, state=self._state)

    @asynccontextmanager
    async def running(self, service: str) -> AsyncIterator[None]:
        """Start the application, and end it with the block."""
        async with lifespan(self._app, f"{service} {self._path}") as state:
            self._state.update(state or {})
            yield


@asynccontextmanager
async def lifespan(app: App, name: str) -> AsyncIterator[dict[str, Any] | None]:
    """Start an application, and end it with the block; what it leaves for its requests, or None.

    https://asgi.readthedocs.io/en/stable/specs/lifespan.html. An application that knows nothing
    of this is none the worse.

    Raises:
        RuntimeError: the application says that it cannot start.
    """
    to_app: asyncio.Queue[Event] = asyncio.Queue()
    from_app: asyncio.Queue[Event] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}

    async def run() -> None:
        try:
            await app(scope, to_app.get, from_app.put)
        except Exception as exc:  # noqa: BLE001 - how an application says it has no lifespan
            await from_app.put({"type": "lifespan.none", "message": repr(exc)})
        else:
            await from_app.put({"type": "lifespan.none"})

    running = asyncio.create_task(run(), name=f"lifespan of {name}")
    await to_app.put({"type": "lifespan.startup"})
    started = await from_app.get()
    if started["type"] == "lifespan.startup.failed":
        await running
        raise RuntimeError(f"{name} cannot start: {started.get('message') or 'no reason given'}")
    try:
        yield state if started["type"] == "lifespan.startup.complete" else None
    finally:
        if started["type"] == "lifespan.startup.complete":
            await to_app.put({"type": "lifespan.shutdown"})
            await from_app.get()
        running.cancel()
        await asyncio.wait((running,))
