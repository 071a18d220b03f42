"""The contract between services and the platform they join."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from microcosmos.base.clock import Clock
from microcosmos.broker import Broker
from microcosmos.events.interface import Log
from microcosmos.events.schema import Contracts
from microcosmos.registry import Registry, Table
from microcosmos.rpc import Client, Hosted


class Runnable(Protocol):
    """What a program can run: a `Service`."""

    name: str
    concurrency: int

    def on(
        self, platform: Platform, *, name: str = "", version: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """Run on a platform until the block ends; entered, calls are answered."""


class Platform(Protocol):
    """What a service runs on: a live server, or memory."""

    @property
    def namespace(self) -> str:
        """The namespace that services live in here."""

    @property
    def client(self) -> Client:
        """Calls other services."""

    @property
    def broker(self) -> Broker:
        """Carries messages."""

    @property
    def events(self) -> Log:
        """The events of the namespace."""

    @property
    def contracts(self) -> Contracts | None:
        """What events are checked by; None where nothing is."""

    @property
    def clock(self) -> Clock:
        """What waiting for events goes by."""

    @property
    def registry(self) -> Registry:
        """Who is alive."""

    @property
    def table(self) -> Table:
        """Who is alive, from memory."""

    def host(self, services: Sequence[Hosted]) -> AbstractAsyncContextManager[None]:
        """Answer for services until the block ends; entered, they are registered."""
