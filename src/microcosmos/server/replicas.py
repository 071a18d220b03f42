"""What replicas are given to be somebody: an address of the engine, credentials, a secret."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path

from microcosmos.auth import permissions
from microcosmos.auth.authority import Authority
from microcosmos.base.home import Home, write_atomically
from microcosmos.registry.connections import tag
from microcosmos.registry.interface import HOST, REPLICA
from microcosmos.runtime.children import slot
from microcosmos.runtime.deployment import Deployment

from .connections import Connections

_SECRET = re.compile(r"(?P<slot>.+)~(?P<number>\d+)\.secret")


class Replicas:
    """Gives replicas who they are; the `runtime.environment.Platform` of a server.

    Each has two files of its own, closed to other users: credentials of the engine, which allow
    what this service may serve and call, and the secret that it logs in by. Both are written anew
    whenever it is started, and removed when it has ended for good.

    Args:
        home: the platform's home.
        opened: returns once a namespace is open.
        connections: the engine's accounts.
        authority: makes the secrets.
        host: the name of this host.
    """

    def __init__(
        self,
        home: Home,
        opened: Callable[[str], Awaitable[object]],
        connections: Connections,
        authority: Authority,
        host: str,
    ) -> None:
        self._folder = home.server / "keys" / "replicas"
        self._opened = opened
        self._connections = connections
        self._authority = authority
        self._host = host

    def check(self, namespace: str) -> None:
        """See `Platform.check`."""
        self._connections.check(namespace)

    async def admit(self, deployment: Deployment, process: str) -> dict[str, str]:
        """See `Platform.admit`."""
        self._connections.check(deployment.namespace)
        await self._opened(deployment.namespace)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return {
            **self._engine(deployment, process),
            "MICRO_AUTH_ID": deployment.name,
            "MICRO_AUTH_SECRET_FILE": str(await self._secret(deployment, process)),
        }

    async def dismiss(self, deployment: Deployment, process: str) -> None:
        """See `Platform.dismiss`."""
        self._remove(slot(process))

    async def forget(self, deployment: Deployment) -> None:
        """See `Platform.forget`."""
        await self._authority.forget_service(deployment.namespace, deployment.name)

    async def keep_only(self, processes: Collection[str]) -> None:
        """See `Platform.keep_only`."""
        kept = {slot(process) for process in processes}
        for path in self._folder.glob("*"):
            found = _SECRET.fullmatch(path.name)
            if (found["slot"] if found else path.stem) not in kept:
                path.unlink(missing_ok=True)

    def _engine(self, deployment: Deployment, process: str) -> dict[str, str]:
        """Where the engine is, and as whom the process gets in."""
        url = self._connections.url
        if not url:
            return {}
        account = self._connections.account(deployment.namespace)
        if account is None:
            # An engine of somebody else: everyone shows what the operator gave us.
            creds = self._connections.shared
            return {"NATS_URL": url, **({"NATS_CREDS": creds} if creds else {})}
        place = slot(process)
        credential = account.user(
            deployment.name,
            permissions.service(deployment.name),
            inbox=place,
            # By them a foreign service is known to be this process: it says nothing of itself.
            tags=(tag(REPLICA, process), tag(HOST, self._host)),
        )
        path = credential.write(self._folder / f"{place}.creds")
        return {
            "NATS_URL": url,
            "NATS_CREDS": str(path),
            "NATS_INBOX_PREFIX": credential.inbox_prefix,
        }

    async def _secret(self, deployment: Deployment, process: str) -> Path:
        """A new secret of the process's place, in its file."""
        place = slot(process)
        path = self._secret_of(place) or self._reserved(deployment.label, place)
        found = _SECRET.fullmatch(path.name)
        assert found is not None
        secret = await self._authority.service_secret(
            deployment.namespace, deployment.name, found["number"]
        )
        write_atomically(path, f"{secret}\n".encode())
        return path

    def _reserved(self, label: str, place: str) -> Path:
        """A file with the lowest number that no other replica of the service has.

        Authority knows replicas by these numbers, so that it does not remember all there ever were.
        """
        taken = {number for found, number in self._numbers() if found.rsplit("-", 2)[0] == label}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        path = self._folder / f"{place}~{number}.secret"
        path.touch(mode=0o600)
        return path

    def _secret_of(self, place: str) -> Path | None:
        for found, number in self._numbers():
            if found == place:
                return self._folder / f"{place}~{number}.secret"
        return None

    def _numbers(self) -> Iterator[tuple[str, int]]:
        """The places that have a secret, with their numbers."""
        for path in self._folder.glob("*.secret"):
            if found := _SECRET.fullmatch(path.name):
                yield found["slot"], int(found["number"])

    def _remove(self, place: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / f"{place}.creds").unlink(missing_ok=True)
            if path := self._secret_of(place):
                path.unlink(missing_ok=True)
