"""The account of a fresh server, for clients that cannot log in."""

from __future__ import annotations

import time

from microcosmos.auth.authority import Authority
from microcosmos.auth.granting import Granted
from microcosmos.auth.logins import DEFAULT_ID, RENEW
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.rpc.client import BEARER


class FirstAdmin:
    """Shows a token of `admin` for as long as everybody knows its password.

    A server with that password is on loopback alone; see `exposure`.

    Args:
        authority: knows the password, and grants the token.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._granted: Granted | None = None

    async def header(self) -> str:
        """The value of ``Authorization``; empty once the password is another one."""
        if not self._authority.default_password_stands():
            return ""
        if self._granted is None or self._granted.expiry < time.time() + RENEW:
            logins = self._authority.logins
            self._granted = await logins.for_another(DEFAULT_NAMESPACE, DEFAULT_ID)
        return f"{BEARER}{self._granted.access_token}"
