"""Accounts, and a saga of three steps that moves money between them and may be made to fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from microcosmos.events.saga import Attempt, Saga, Step
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.transaction import Box, Transaction, transact
from microcosmos.store import Store

START = {"ann": 100, "bob": 0, "house": 0}
STEPS = ("debit", "fee", "credit")

DONE = {"ann": 70, "bob": 29, "house": 1}
"""What there is when a transfer of 30 is done; and `START` when it is undone."""


class Transfer(msgspec.Struct):
    source: str = "ann"
    target: str = "bob"
    amount: int = 30


class Faults:
    """Where transfers fail: at places such as ``debit before``, ``debit after``, ``undo debit
    before`` and ``undo debit after``, so many times each.

    Attributes:
        passed: how often each place was passed.
    """

    def __init__(self, error: Callable[[], BaseException] = lambda: ValueError("oh")) -> None:
        self.times: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self._error = error

    async def at(self, place: str) -> None:
        """Fail here, if that is wanted; and let others have a turn."""
        self.passed[place] += 1
        await asyncio.sleep(0)
        if self.times[place]:
            self.times[place] -= 1
            raise self._error()


class Bank:
    """Accounts in a store of their own, changed once for a key: another service."""

    def __init__(self, store: Store, outbox: Box | None = None) -> None:
        self.store = store
        self._inbox = Inbox(store, outbox)

    async def change(self, key: str, account: str, amount: int) -> None:
        """Add to an account, once for a key."""

        async def work(tx: Transaction) -> None:
            await add(tx, account, amount)

        await transact(lambda: self._inbox.once("bank", key, keep=0), work)

    async def take_back(self, key: str, account: str, amount: int) -> None:
        """Take back a change, or see to it that it never happens."""

        async def work(tx: Transaction) -> None:
            await add(tx, account, -amount)

        await transact(lambda: self._inbox.undo("bank", key, keep=0), work)


async def add(tx: Transaction, account: str, amount: int) -> None:
    if not tx.done:
        tx.set(account, (await tx.get(account, int) or 0) + amount)


async def opened(store: Store) -> Store:
    """The store, with the accounts in it."""
    for account, amount in START.items():
        await store.set(account, amount)
    return store


async def balances(store: Store) -> dict[str, int]:
    return {account: await store.get(account, int) or 0 for account in START}


def transfers(
    faults: Faults | None = None, bank: Bank | None = None, **step: Any
) -> Saga[Transfer]:
    """The saga: on its own store, or by a bank elsewhere."""
    faults = faults or Faults()
    step = {"pause": 0.001, "retry_limit": 2, "undo_limit": 5, **step}

    def one(name: str, change: Callable[[Transfer], tuple[str, int]]) -> Step[Transfer]:
        async def action(transfer: Transfer, attempt: Attempt) -> str:
            await faults.at(f"{name} before")
            account, amount = change(transfer)
            if bank is not None:
                await bank.change(attempt.key, account, amount)
            else:
                async with attempt.once() as tx:
                    await add(tx, account, amount)
            await faults.at(f"{name} after")
            return f"{name} {amount}"

        async def undo(transfer: Transfer, attempt: Attempt) -> None:
            await faults.at(f"undo {name} before")
            account, amount = change(transfer)
            if bank is not None:
                await bank.take_back(attempt.key, account, amount)
            else:
                async with attempt.undo() as tx:
                    await add(tx, account, -amount)
            await faults.at(f"undo {name} after")

        return Step(action, undo, name=name, **step)

    return Saga(
        "transfer",
        Transfer,
        [
            one("debit", lambda transfer: (transfer.source, -transfer.amount)),
            one("fee", lambda _: ("house", 1)),
            one("credit", lambda transfer: (transfer.target, transfer.amount - 1)),
        ],
    )


Work = Callable[[], Awaitable[Any]]
