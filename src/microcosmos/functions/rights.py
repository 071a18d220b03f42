"""Who makes the call that is being handled, and what they may do with functions."""

from __future__ import annotations

from microcosmos.auth.interface import Account
from microcosmos.base import context, errors

from .catalogue import Catalogue
from .claiming import Claimant
from .heads import Found
from .requests import NAME

HOST = "functions"
"""The process that has the workers, by its badge."""

NOBODY = "admin"
"""Who owns what is deployed where there are no accounts, or by the platform itself."""


def namespace() -> str:
    """Where the call is made."""
    return context.current().namespace


def _account() -> Account | None:
    account = context.current().account
    return account if isinstance(account, Account) else None


def caller() -> str:
    """The id of who calls; with its namespace, if that is another."""
    account = _account()
    if account is None or account.type == "platform":
        return NOBODY
    here = namespace()
    return account.id if account.namespace == here else f"{account.namespace}/{account.id}"


def claimant() -> Claimant:
    """Who calls, as one who claims paths."""
    return Claimant(caller(), administers(namespace()))


def administers(namespace: str) -> bool:
    """Whether the caller may do everything there; where there are no accounts, all may."""
    account = _account()
    return account is None or account.administers(namespace)


def may(found: Found) -> bool:
    """Whether the caller may look at a function, and change it."""
    return found.head.owner == caller() or administers(found.which.namespace)


def permit(found: Found) -> None:
    """Refuse who may neither look at a function nor change it.

    Raises:
        errors.Forbidden: it is another's.
    """
    if not may(found):
        detail = f"function {found.name} belongs to {found.head.owner}"
        raise errors.Forbidden(NAME, detail)


def platform_only() -> None:
    """Refuse people, admins too: what is told holds secrets."""
    account = _account()
    if account is not None and account.type != "platform":
        detail = f"this is for the platform's own processes, not for {account.id}"
        raise errors.Forbidden(NAME, detail)


def host_only() -> None:
    """Refuse all but the process that has the workers."""
    platform_only()
    account = _account()
    if account is not None and account.id != HOST:
        raise errors.Forbidden(NAME, f"this is for {HOST}, not for {account.id}")


async def own(catalogue: Catalogue, name: str) -> Found:
    """A function that the caller may look at and change.

    Raises:
        errors.NotFound: there is none.
        errors.Forbidden: it is another's.
    """
    found = await catalogue.get(namespace(), name)
    permit(found)
    return found
