"""Who may read secrets and change what, beyond what an endpoint asks of everybody."""

from __future__ import annotations

from typing import Protocol, cast

from microcosmos.base import context, errors

from . import paths
from .paths import Path

SHARED = "shared"
"""The map whose secrets every service of the namespace may read."""

ADMIN = "admin"
SECRETS = "secrets"
"""The scope that opens all secrets of a namespace to be read."""


class Account(Protocol):
    """Who calls."""

    @property
    def id(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    @property
    def scopes(self) -> tuple[str, ...]: ...

    @property
    def everywhere(self) -> bool: ...

    def enters(self, namespace: str) -> bool: ...

    def administers(self, namespace: str) -> bool: ...


class Caller:
    """The one who makes a call, in one namespace.

    An admin of the namespace may do everything there. A service changes its own map, the one
    under its name, and reads the secrets of that and of `SHARED`. Everybody else only reads, and
    secrets with the scope `SECRETS`.

    Args:
        namespace: the one that is asked for; empty is the call's.
        account: who; None is a platform without accounts, where everybody may do everything.

    Raises:
        errors.Forbidden: the namespace is another than the account's, which administers no others.
    """

    def __init__(self, namespace: str, account: Account | None) -> None:
        here = context.current().namespace
        self.namespace = namespace or here
        self._account = account
        if account is not None and not account.enters(self.namespace):
            raise errors.Forbidden(
                "config",
                f"{account.id} is of namespace {account.namespace} and may not touch the config "
                f"of {self.namespace}",
            )
        self.everywhere = account is None or account.everywhere
        self.admin = account is None or account.administers(self.namespace)

    @property
    def name(self) -> str:
        """For the history; empty on a platform without accounts."""
        return "" if self._account is None else self._account.id

    def may_open(self, path: Path) -> bool:
        """Whether this one may read the secret at a path."""
        if self.admin or self._account is None or SECRETS in self._account.scopes:
            return True
        return self._is_service and (
            paths.below(path, (SHARED,)) or paths.below(path, self._own(self._account.id))
        )

    def check_open(self, path: Path) -> None:
        """Refuse who may not read the secret at a path."""
        if not self.may_open(path):
            raise errors.Forbidden(
                "config",
                f"{self.name} may not read the secret {paths.write(path)}: that takes the scope "
                f"{SECRETS} or {ADMIN}; a service reads those of {SHARED} and its own, under its "
                "name",
            )

    def check_change(self, path: Path) -> None:
        """Refuse who may not change what is at a path."""
        if self.admin or self._account is None:
            return
        if self._is_service and paths.below(path, self._own(self._account.id)):
            return
        shown = paths.write(path) or "the whole document"
        may = f"a service changes what is under its name ({self.name})" if self._is_service else ""
        may = may or f"that takes the scope {ADMIN}"
        raise errors.Forbidden("config", f"{self.name} may not change {shown}: {may}")

    def check_admin(self, what: str) -> None:
        """Refuse who does not administer the namespace."""
        if not self.admin:
            detail = f"{self.name} may not {what}: that takes the scope {ADMIN}"
            raise errors.Forbidden("config", detail)

    def check_everywhere(self, what: str) -> None:
        """Refuse who does not administer the whole platform."""
        if not self.everywhere:
            detail = f"{self.name} may not {what}: that takes an admin of the namespace micro"
            raise errors.Forbidden("config", detail)

    @property
    def _is_service(self) -> bool:
        return self._account is not None and self._account.type == "service"

    @staticmethod
    def _own(name: str) -> Path:
        # As it is typed in a path: what `v1.foo` is told stands under v1, under foo.
        return tuple(name.split("."))


def caller(namespace: str, *, trusting: bool) -> Caller:
    """Who makes the call that is being handled.

    Args:
        namespace: the one that is asked for; empty is the call's.
        trusting: whether there are no accounts, and the anonymous may do everything.

    Raises:
        errors.Unauthorized: nobody is known to call.
        errors.Forbidden: see `Caller`.
    """
    account = cast("Account | None", context.current().account)
    if account is None and not trusting:
        raise errors.Unauthorized("config", "config is not for the anonymous: micro login")
    return Caller(namespace, account)
