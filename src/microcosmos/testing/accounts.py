"""Accounts of tests: whoever a test says, with real tokens and real rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from microcosmos.auth.access import Access
from microcosmos.auth.interface import DEFAULT_RULE, Account, Policy, Rule
from microcosmos.auth.keys import TokenKeys
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.rpc import Call, Endpoint

_LIFETIME = 3600.0


class Accounts:
    """The `rpc.Verifier` of a platform in memory; everybody may do everything until it is told.

    Attributes:
        access: what decides.
    """

    def __init__(self) -> None:
        self._keys: TokenKeys | None = None
        self._rules = {DEFAULT_NAMESPACE: [DEFAULT_RULE]}
        self._version = 0
        self._asked = False
        self.access = Access()
        self._tell()

    def __call__(self, call: Call, endpoint: Endpoint) -> Account | None:
        return self.access(call, endpoint) if self._asked else None

    def allow(self, rules: Iterable[Rule], namespace: str = DEFAULT_NAMESPACE) -> None:
        """Let these rules hold in a namespace, which there is from now on."""
        self._asked = True
        self._rules = {**self._rules, namespace: list(rules)}
        self._tell()

    def token(self, account: Account, lifetime: float = _LIFETIME) -> str:
        """A token of an account, good for so many seconds."""
        self._asked = True
        if self._keys is None:
            self._keys = TokenKeys()
            self._tell()
        return self._keys.signer.sign(account, "", time.time(), lifetime)

    def showing(self, account: Account) -> Callable[[], str]:
        """What calls of an account show."""
        header = f"Bearer {self.token(account)}"
        return lambda: header

    def _tell(self) -> None:
        self._version += 1
        self.access.follow(
            Policy(
                epoch="test",
                version=self._version,
                keys=self._keys.public() if self._keys else {},
                rules=self._rules,
            )
        )
