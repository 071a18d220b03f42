"""What the tests of the policies share: a gateway behind them, and a service that counts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from microcosmos import Context, Service
from microcosmos.base.clock import ManualClock
from microcosmos.gateway.app import Gateway
from microcosmos.gateway.front.front import Front
from microcosmos.gateway.front.settings import parse
from microcosmos.testing import Bench


class Fronted:
    """A gateway that listens behind its policies.

    Attributes:
        site: the gateway.
        front: the policies.
        clock: their time.
    """

    def __init__(self, site: Any, front: Front, clock: ManualClock, folder: Path) -> None:
        self.site, self.front, self.clock = site, front, clock
        self._folder = folder

    def apply(self, text: str) -> None:
        """Let these settings hold."""
        self.front.apply(parse(text.encode(), self._folder / "gateway.toml"))

    async def get(self, path: str, **headers: str) -> Any:
        return await self.site.http.get(path, headers=_named(headers))

    async def send(self, method: str, path: str, **headers: str) -> Any:
        return await self.site.http.request(method, path, headers=_named(headers))

    async def raw(self, path: str, *lines: str, method: str = "GET") -> Any:
        """An answer to a path that no client would send."""
        head = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: localhost", *lines))
        return await self.site.send(head.encode("latin-1") + b"\r\n\r\n")


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
def open_front(
    platform: Bench, open_site: Any, tmp_path: Path
) -> Callable[..., AbstractAsyncContextManager[Fronted]]:
    """For gateways with settings: ``async with open_front("[[limits]] …") as fronted``."""

    @contextlib.asynccontextmanager
    async def opened(text: str = "", **options: Any) -> AsyncIterator[Fronted]:
        clock = ManualClock()
        fronts: list[Front] = []

        def wrap(gateway: Gateway) -> Front:
            gateway.ready = True
            counters = tmp_path / "limits"
            fronts.append(Front(gateway, platform.platform.table, counters, clock=clock))
            return fronts[0]

        async with open_site(platform, wrap=wrap, **options) as site:
            fronted = Fronted(site, fronts[0], clock, tmp_path)
            try:
                fronted.apply(text)
                yield fronted
            finally:
                fronted.front.close()

    return opened


class Echo:
    """A service that tells what it was sent, and how often it was called."""

    def __init__(self) -> None:
        self.calls = 0
        self.service = Service("echo")
        self.service.endpoint(name="Call")(self._call)
        self.service.endpoint(name="Read")(self._read)

    async def _call(self, context: Context) -> dict[str, str]:
        self.calls += 1
        return dict(context.metadata)

    async def _read(self, id: str, tags: list[str] = [], n: int = 0) -> dict[str, Any]:  # noqa: B006
        self.calls += 1
        return {"id": id, "tags": tags, "n": n}


@pytest.fixture
def echo() -> Echo:
    return Echo()
