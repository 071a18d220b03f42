"""Who is refused: by address, by account, and by the key or token that is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import msgspec

from microcosmos.auth.interface import Account
from microcosmos.base import context, errors

from .addresses import Networks, looks_like_network, network

_DIGEST = "sha256:"


class Blocked(msgspec.Struct, frozen=True, order=True):
    """One entry of the core's list.

    Attributes:
        id: an address, a network, an account, a key or token, or ``sha256:`` and the digest of one.
        namespace: only requests and accounts of this namespace; empty for all.
    """

    id: str
    namespace: str = ""


def normal(id: str) -> str:
    """An id as it is kept: networks in their one form, keys as they are.

    Raises:
        errors.BadRequest: it is empty, or begins as an address and is none.
    """
    id = id.strip()
    if not id:
        raise errors.BadRequest("api", "the id is empty; give an address, a network or a key")
    if not looks_like_network(id):
        return id
    try:
        found = network(id)
    except ValueError as exc:
        raise errors.BadRequest("api", str(exc)) from None
    alone = found.prefixlen == found.max_prefixlen
    return str(found.network_address) if alone else str(found)


class _Rules:
    """Addresses and keys of one namespace."""

    def __init__(self, ids: Iterable[str]) -> None:
        ids = list(ids)
        self.addresses = Networks(network(id) for id in ids if looks_like_network(id))
        self.keys = frozenset(
            id.removeprefix(_DIGEST).lower() if id.startswith(_DIGEST) else _digest(id)
            for id in ids
            if not looks_like_network(id)
        )


class Blocks:
    """Refuses who is blocked, by the file or by the core's list.

    Args:
        addresses: of the file.
        keys: of the file.
        listed: the core's list.
    """

    def __init__(
        self, addresses: Iterable[str], keys: Iterable[str], listed: Iterable[Blocked]
    ) -> None:
        everywhere = [*addresses, *keys]
        by_namespace: dict[str, list[str]] = {"": everywhere}
        for one in listed:
            by_namespace.setdefault(one.namespace, []).append(one.id)
        self._rules = {name: _Rules(ids) for name, ids in by_namespace.items() if ids}
        self._keyed = any(rules.keys for rules in self._rules.values())

    def __bool__(self) -> bool:
        return bool(self._rules)

    def check(
        self, address: str, header: Callable[[str], str], account: Account | None = None
    ) -> None:
        """Let a request pass.

        Args:
            address: its client's.
            header: gives the value of a header, or "".
            account: whose good token it shows, if any.

        Raises:
            errors.Forbidden: its client, or the key that it shows, is blocked.
            errors.Unauthorized: its account is.
        """
        if account is not None and self._keyed:
            self._check_account(account)
        shown = _shown(header) if self._keyed else []
        namespace = header(context.NAMESPACE.lower()) or context.DEFAULT_NAMESPACE
        for name in ("", namespace):
            rules = self._rules.get(name)
            if rules is None:
                continue
            if address in rules.addresses:
                raise errors.Forbidden("gateway.blocked", f"the address {address} is blocked")
            if any(key in rules.keys for key in shown):
                raise errors.Forbidden("gateway.blocked", "this key is blocked")

    def _check_account(self, account: Account) -> None:
        id = _digest(account.id)
        for name in ("", account.namespace):
            rules = self._rules.get(name)
            if rules is not None and id in rules.keys:
                detail = f"the account {account.id} is blocked"
                raise errors.Unauthorized("gateway.blocked", detail)


def _shown(header: Callable[[str], str]) -> list[str]:
    """The digests of the keys that a request shows."""
    kind, _, token = header("authorization").strip().partition(" ")
    keys = (token.strip() if kind.lower() == "bearer" else "", header("x-api-key").strip())
    return [_digest(key) for key in keys if key]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
