"""The core's connections to the engine: one in each namespace, which is an account there.

The bundled engine has an account for each namespace, so that nobody hears or reaches what is in
another. They come and go while it runs; its keys folder tells a new start which there are. An
engine that somebody else runs has one account for us, so that services run in one namespace alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
from nats.aio.client import Client as NatsClient

from microcosmos.auth import permissions
from microcosmos.auth.credentials import Account, Keys, file_of
from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.rpc import nats as rpc_nats

PATIENCE = 20.0
"""Seconds that the core waits for an engine that is started at the same time."""

_ANSWER = 5.0


class Connections:
    """How the core gets into the engine.

    Args:
        keys: the folder with the seeds.
        environ: what the supervisor has told of the engine.
    """

    def __init__(self, keys: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.url = environ.get("NATS_URL", "")
        self._folder = keys
        self._creds = environ.get("NATS_CREDS") or None
        # Who runs an engine for us gives no inboxes: see `external`.
        self._keys = Keys(keys) if self.url and "NATS_INBOX_PREFIX" in environ else None

    @property
    def walled(self) -> bool:
        """Whether the engine itself keeps namespaces apart."""
        return self._keys is not None

    def check(self, namespace: str) -> None:
        """See that services can run in a namespace.

        Raises:
            errors.BadRequest: there is one account for all on the engine.
        """
        if self.url and self._keys is None and namespace != DEFAULT_NAMESPACE:
            raise errors.BadRequest(
                "runtime",
                f"services run in namespace {DEFAULT_NAMESPACE} only: the engine at MICRO_NATS_URL "
                f"has one account for all, which cannot keep {namespace} apart",
            )

    def account(self, namespace: str) -> Account | None:
        """The account of a namespace; None where accounts are not ours to make."""
        return None if self._keys is None else self._keys.account(namespace)

    @property
    def shared(self) -> str | None:
        """The credentials file that everybody shows an engine that somebody else runs."""
        return None if self._keys is not None else self._creds

    @asynccontextmanager
    async def open(self, namespace: str) -> AsyncIterator[NatsClient | None]:
        """The core's connection in a namespace, whose account there is from now on.

        None is a platform without an engine, or a namespace that the engine has no account for.

        Raises:
            errors.Unavailable: the engine cannot be reached, or does not take the account.
        """
        if not self.url or (self._keys is None and namespace != DEFAULT_NAMESPACE):
            yield None
        elif self._keys is None:
            async with rpc_nats.connect(self.url, self._creds, "core", patience=PATIENCE) as nc:
                yield nc
        else:
            account = self._keys.account(namespace)
            if namespace != DEFAULT_NAMESPACE:
                await self._claim("UPDATE", self._keys.account_token(account))
            credential = account.user("core", permissions.core())
            path = credential.write(file_of(self._folder, "core", namespace))
            self._write_others(account)
            async with rpc_nats.connect(
                self.url, path, "core", inbox_prefix=credential.inbox_prefix, patience=PATIENCE
            ) as nc:
                yield nc

    async def remove(self, namespace: str) -> None:
        """Remove the account of a namespace that is no more: the engine ends its connections.

        Raises:
            errors.Unavailable: the engine does not answer.
        """
        if self._keys is None or namespace == DEFAULT_NAMESPACE:
            return
        await self._claim("DELETE", self._keys.deletion_token(self._keys.account(namespace)))
        for name in ("core", *permissions.OTHERS):
            file_of(self._folder, name, namespace).unlink(missing_ok=True)
        self._keys.forget(namespace)

    def left(self, namespaces: Iterable[str]) -> list[str]:
        """The namespaces that have an account, though they are not among these."""
        known = set(namespaces) | {DEFAULT_NAMESPACE}
        found = self._keys.namespaces() if self._keys is not None else []
        return [name for name in found if name not in known]

    def _write_others(self, account: Account) -> None:
        """The credentials of the platform's other processes, and of what is started by hand."""
        for name, allowed in permissions.OTHERS.items():
            account.user(name, allowed()).write(file_of(self._folder, name, account.name))

    async def _claim(self, verb: str, token: str) -> None:
        assert self._keys is not None
        user = self._keys.system.user("accounts", permissions.accounts())
        path = user.write(self._folder / "accounts.creds")
        inbox = user.inbox_prefix
        async with rpc_nats.connect(
            self.url, path, "accounts", inbox_prefix=inbox, patience=PATIENCE
        ) as nc:
            try:
                answer = await nc.request(
                    f"$SYS.REQ.CLAIMS.{verb}", token.encode(), timeout=_ANSWER
                )
            except (nats.errors.Error, TimeoutError) as exc:
                why = str(exc) or type(exc).__name__
                raise errors.Unavailable("server", f"the engine takes no accounts: {why}") from None
        _check_taken(answer.data)


def _check_taken(answer: bytes) -> None:
    """See that the engine has done what it was told.

    Raises:
        errors.Unavailable: it has not.
    """
    try:
        said = json.loads(answer)
    except ValueError:
        said = {}
    if said.get("data", {}).get("code") != 200:
        why = said.get("error", {}).get("description", "it does not say why")
        raise errors.Unavailable("server", f"the engine does not take an account: {why}")
