"""The accounts that functions call by."""

from __future__ import annotations

from typing import Protocol


class Granted(Protocol):
    """A token."""

    @property
    def access_token(self) -> str: ...

    @property
    def expiry(self) -> float: ...


class Accounts(Protocol):
    """The accounts that functions call by; `auth.authority.Authority` has them."""

    async def has_account(self, namespace: str, id: str) -> bool:
        """Whether there is an account."""

    async def service_account(self, namespace: str, service: str) -> None:
        """Make the account of a service, unless it is there."""

    async def service_token(self, namespace: str, service: str) -> Granted:
        """A token of the account of a service."""

    async def forget_service(self, namespace: str, service: str) -> None:
        """Remove the account of a service."""
