"""Who a process is to the platform: what it shows with the calls that it makes itself."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from microcosmos.auth.client import ServiceIdentity
from microcosmos.auth.logins import LOCAL, LOG_IN, RENEW, Ask, Login, Logins, current, drive_async
from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.tasks import background
from microcosmos.rpc import Client
from microcosmos.rpc.client import Identity

from .membership import Membership

log = logging.getLogger("microcosmos.service")

_AGAIN = 1.0


@contextlib.asynccontextmanager
async def open_identity(here: Membership, client: Client) -> AsyncIterator[Identity | None]:
    """Keep what proves a process until the block ends; None where the platform asks for nothing.

    Args:
        here: what the process is.
        client: carries its logins; it adds nothing of its own.

    Raises:
        errors.Unauthorized: the secret is not right, or a program that was started by hand has
            nobody to act for.
        errors.Unavailable: the core does not answer.
    """
    if here.auth_id:
        async with _service(here, client) as identity:
            yield identity.header
    elif here.by_hand:
        login = ByLogin(here, client)
        await login.find()
        async with background(login.keep(), "login"):
            yield login.header
    else:
        yield None


def _service(here: Membership, client: Client) -> ServiceIdentity:
    try:
        secret = here.auth_secret.read_text("ascii").strip() if here.auth_secret else ""
    except (OSError, UnicodeDecodeError) as exc:
        detail = f"MICRO_AUTH_SECRET_FILE: {here.auth_secret} cannot be read: {exc}"
        raise errors.Unauthorized("auth", detail) from None
    if not secret:
        raise errors.Unauthorized("auth", "MICRO_AUTH_ID is set, but MICRO_AUTH_SECRET_FILE not")
    return ServiceIdentity(client, here.auth_id, secret, namespace=here.namespace)


class ByLogin:
    """The identity of a program that a user has started: the user's login, as the CLI has it.

    Args:
        here: what the process is.
        client: carries what renews the login.
        clock: by which it ends.
    """

    def __init__(self, here: Membership, client: Client, *, clock: Clock = SYSTEM) -> None:
        self._here = here
        self._client = client
        self._clock = clock
        self._logins = Logins(here.home.path / "tokens")
        self._login: Login | None = None
        self._seen = 0

    def header(self) -> str:
        """The Authorization header to call with."""
        with contextlib.suppress(OSError):
            written = self._logins.path.stat().st_mtime_ns
            if written != self._seen:
                # Somebody has logged in anew, after a change of the password, say.
                self._seen = written
                self._take_over()
        return self._login.header if self._login is not None else ""

    def _take_over(self) -> None:
        with contextlib.suppress(errors.Error):
            self._login = self._logins.find(LOCAL, self._here.namespace) or self._login

    async def find(self) -> None:
        """Look who is logged in, and renew that if it is about to end.

        Raises:
            errors.Unauthorized: nobody is, or no longer.
            errors.Error: the core could not be asked.
        """
        info = self._here.home.server_info()
        steps = current(
            self._logins,
            LOCAL,
            self._here.namespace,
            start=info.started if info is not None else 0.0,
            clock=self._clock.time,
        )
        self._login = await drive_async(steps, self._ask)
        if self._login is None:
            raise errors.Unauthorized("auth", f"nobody is logged in; {LOG_IN}")

    async def keep(self) -> None:
        """Renew it, again and again, for ever."""
        while True:
            await self._clock.sleep(self._until_due())
            try:
                await self.find()
            except errors.Error as error:
                log.warning("the login cannot be renewed: %s", error.detail)
                await self._clock.sleep(_AGAIN)

    def _until_due(self) -> float:
        if self._login is None:
            return _AGAIN
        return max(self._login.expiry - RENEW - self._clock.time(), 0.0) + _AGAIN / 10

    async def _ask(self, ask: Ask) -> bytes:
        return await self._client.call("auth", ask.endpoint, ask.body)
