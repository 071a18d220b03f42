"""Ledgers for tests, and what is counted in them."""

from __future__ import annotations

import asyncio
from typing import Any

from microcosmos.monitor.ledger import Counts, Line, Subject
from microcosmos.monitor.ledger.ledger import Ledger
from microcosmos.monitor.ledger.pace import unpaced
from microcosmos.store import Store

HOUR = 3600.0
DAY = 86400.0


class Leaping:
    """A clock that goes on by leaps; nobody who sleeps is woken at each step of them."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def leap(self, seconds: float) -> None:
        self.now += seconds


def book(store: Store, clock: Leaping | None = None) -> Ledger:
    given = {} if clock is None else {"clock": clock}
    return Ledger(store, pace=unpaced(), **given)


def subject(name: str = "shop", version: str = "v1", account: str = "ann", **about: Any) -> Subject:
    given = {"namespace": "micro", "kind": "service", **about}
    return Subject(account=account, name=name, version=version, **given)


def line(name: str | None = None, version: str | None = None, **about: Any) -> Line:
    return Line(
        **{"namespace": "micro", "kind": "service", "name": name, "version": version, **about}
    )


def one(**counts: Any) -> Counts:
    return Counts(requests=1, **counts)
