"""connect: the platform for programs that are no service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, overload

from microcosmos.base import errors
from microcosmos.base.home import Home
from microcosmos.broker import Messages

from .interface import Platform
from .live import join
from .membership import membership
from .remote import Remote, remote

T = TypeVar("T")


class Connection:
    """A platform that this program is connected to.

    Attributes:
        platform: the platform.
        registry: who is alive there.
        broker: publishes messages and listens to them.
    """

    def __init__(self, platform: Platform, name: str) -> None:
        self.platform = platform
        self.registry = platform.registry
        self.broker = Messages(platform.broker, name)

    @overload
    def client(self, name: str) -> Remote: ...
    @overload
    def client(self, name: str, interface: Callable[..., T]) -> T: ...
    def client(self, name: str, interface: Callable[..., T] | None = None) -> Remote | T:
        """A service by name; see `Remote`."""
        return remote(name, interface, lambda: self.platform.client)


@asynccontextmanager
async def connect(home: Home | None = None, *, name: str = "program") -> AsyncIterator[Connection]:
    """Connect to the live platform of `MICRO_HOME` (or of ``home``) until the block ends.

    Raises:
        errors.Unavailable: no server is running there.
    """
    here = membership(home)
    if here is None:
        raise errors.Unavailable("connect", "no server is running; start one with `micro server`")
    async with join(here, name) as platform:
        yield Connection(platform, name)
