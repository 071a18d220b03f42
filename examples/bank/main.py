"""A bank: a transfer is done or undone, whatever dies meanwhile, and no statement has it twice."""

import uuid
from typing import Annotated

import msgspec

from microcosmos import Service, errors
from microcosmos.events.saga import Attempt, Refused, Step
from microcosmos.events.transactions.transaction import Transaction

Name = Annotated[str, msgspec.Meta(pattern="^[a-z]{1,32}$")]
Cents = Annotated[int, msgspec.Meta(ge=1, le=10**12)]


class Account(msgspec.Struct):
    owner: str
    cents: int
    closed: bool = False


class Transfer(msgspec.Struct):
    """Cents from one account to another."""

    id: str
    source: Name
    target: Name
    cents: Cents


class Line(msgspec.Struct):
    """A line of a statement: what came in, or with a minus went out."""

    transfer: str
    other: str
    cents: int


class Outcome(msgspec.Struct):
    """How far a transfer is: ``done``, ``undone`` with the reason, or still under way."""

    id: str
    status: str
    reason: str = ""


bank = Service("bank")

ACCOUNTS, STATEMENTS = "accounts", "statements"


async def existing(tx: Transaction, owner: str) -> Account:
    account = await tx.get(owner, Account, table=ACCOUNTS)
    if account is None or account.closed:
        raise Refused(f"{owner} has no account" if account is None else f"{owner}'s is closed")
    return account


def change(tx: Transaction, account: Account, cents: int) -> None:
    changed = msgspec.structs.replace(account, cents=account.cents + cents)
    tx.set(account.owner, changed, table=ACCOUNTS)


# The steps of a transfer. Each may be tried again when it has happened already, by another replica
# too: what it writes is committed once, together with the note that it was.


async def debit(transfer: Transfer, attempt: Attempt) -> None:
    async with attempt.once() as tx:
        if tx.done:
            return
        account = await existing(tx, transfer.source)
        if account.cents < transfer.cents:
            raise Refused(f"{account.owner} has only {account.cents} cents")
        change(tx, account, -transfer.cents)


async def refund(transfer: Transfer, attempt: Attempt) -> None:
    async with attempt.undo() as tx:
        if tx.done:
            return  # it never left, or is back already
        account = await tx.get(transfer.source, Account, table=ACCOUNTS)
        assert account is not None  # accounts are closed, not removed
        change(tx, account, transfer.cents)


async def credit(transfer: Transfer, attempt: Attempt) -> None:
    async with attempt.once() as tx:
        if tx.done:
            return
        change(tx, await existing(tx, transfer.target), transfer.cents)
        await tx.publish("bank.transferred", transfer, key=transfer.source)


# Nothing comes after the credit, so nothing can fail that it would have to be taken back for.
transfers = bank.saga("transfer", Transfer, [Step(debit, undo=refund), Step(credit)])


# Another replica goes on after 5 seconds for one that is killed.
@bank.consume("bank.transferred", once=True, ack_wait=5)
async def note(transfer: Transfer, tx: Transaction) -> None:
    """Write a transfer into both statements, once."""
    for owner, other, cents in (
        (transfer.source, transfer.target, -transfer.cents),
        (transfer.target, transfer.source, transfer.cents),
    ):
        lines = await tx.get(owner, list[Line], table=STATEMENTS) or []
        tx.set(owner, [*lines, Line(transfer.id, other, cents)][-100:], table=STATEMENTS)


@bank.endpoint(retry=False)
async def open(owner: Name, cents: Annotated[int, msgspec.Meta(ge=0, le=10**12)] = 0) -> Account:
    """Open an account, with some cents in it."""

    async def work(tx: Transaction) -> Account:
        if await tx.get(owner, table=ACCOUNTS) is not None:
            raise errors.Conflict("bank.Open", f"{owner} has an account")
        account = Account(owner, cents)
        tx.set(owner, account, table=ACCOUNTS)
        return account

    return await bank.events.outbox.transact(work)


@bank.endpoint
async def close(owner: Name) -> Account:
    """Close an account: nothing comes in any more."""

    async def work(tx: Transaction) -> Account:
        account = await tx.get(owner, Account, table=ACCOUNTS)
        if account is None:
            raise errors.NotFound("bank.Close", f"{owner} has no account")
        account.closed = True
        tx.set(owner, account, table=ACCOUNTS)
        return account

    return await bank.events.outbox.transact(work)


@bank.endpoint
async def balance(owner: Name) -> Account:
    """What an account has."""
    account = await bank.store.table(ACCOUNTS).get(owner, Account)
    if account is None:
        raise errors.NotFound("bank.Balance", f"{owner} has no account")
    return account


@bank.endpoint
async def total() -> int:
    """What all accounts have; no transfer that is at its end changes it."""
    records = await bank.store.table(ACCOUNTS).read()
    return sum(msgspec.json.decode(one.value, type=Account).cents for one in records)


@bank.endpoint(retry=False)
async def transfer(source: Name, target: Name, cents: Cents, id: str = "") -> Outcome:
    """Move cents; asked for again with the same id, it is the same transfer."""
    if source == target:
        raise errors.BadRequest("bank.Transfer", f"{source} cannot pay {source}")
    wanted = Transfer(id or uuid.uuid4().hex, source, target, cents)
    await transfers.start(wanted.id, wanted)
    ended = await transfers.result(wanted.id)
    return Outcome(wanted.id, ended.status, ended.error)


@bank.endpoint
async def outcome(id: str) -> Outcome:
    """What has become of a transfer."""
    found = await transfers.get(id)
    return Outcome(id, found.status, found.error)


@bank.endpoint
async def statement(owner: Name) -> list[Line]:
    """The last hundred lines of a statement, which follow the transfers within a moment."""
    lines: list[Line] | None = await bank.store.table(STATEMENTS).get(owner, list[Line])
    return lines or []


if __name__ == "__main__":
    bank.run()
