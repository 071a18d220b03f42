"""An engine that somebody else runs: `MICRO_NATS_URL` and `MICRO_NATS_CREDS`."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from microcosmos.base import errors

from .greeting import greeting, require_floor
from .tree import Child

_PAUSE = 0.1
_PORT = 4222


class ExternalEngine:
    """See `engine.Engine`.

    Args:
        url: one or more URLs, separated by commas.
        creds: the credentials file that everyone connects with; empty is none.
        patience: seconds that `check` waits for an answer.
    """

    def __init__(self, url: str, creds: str, patience: float = 10.0) -> None:
        self.url = url
        self._patience = patience
        self._servers = [_split(one) for one in url.split(",")]
        self._creds = _readable(creds) if creds else None
        self.address = ",".join(f"{one.hostname}:{one.port or _PORT}" for one in self._servers)

    def environment(self, name: str) -> dict[str, str]:
        """The same for everyone; see `engine.Engine.environment`.

        No inbox of one's own: their engine may not allow it, and it is by its absence that the
        core knows that it must not make credentials.
        """
        environment = {"NATS_URL": self.url}
        if self._creds:
            environment["NATS_CREDS"] = str(self._creds)
        return environment

    def children(self) -> list[Child]:
        """None are ours to start."""
        return []

    async def check(self) -> None:
        """Wait a little until one of them answers; see `engine.Engine.check`."""
        # A handshake in TLS or HTTP comes before their greeting: the clients will see.
        if any(one.scheme not in {"nats", "tcp", ""} for one in self._servers):
            return
        try:
            async with asyncio.timeout(self._patience):
                while (info := await self._greeted()) is None:  # noqa: ASYNC110 - it is not ours
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            raise errors.Unavailable(
                "server.engine",
                f"no NATS server answers at {self.address} (MICRO_NATS_URL) "
                f"within {self._patience:g} s",
            ) from None
        require_floor(str(info.get("version")), f"at {self.address}")

    async def _greeted(self) -> dict[str, Any] | None:
        for one in self._servers:
            for host in _addresses(one):
                if info := await greeting(host, one.port or _PORT):
                    return info
        return None


def _split(url: str) -> SplitResult:
    text = url.strip()
    try:
        split = urlsplit(text if "://" in text else f"nats://{text}")
        # An impossible port raises only when it is read.
        if split.hostname and split.port != 0:
            return split
    except ValueError:
        pass
    # The URL may hold a password: it is not quoted.
    raise errors.BadRequest("server.engine", "MICRO_NATS_URL is no URL such as nats://host:4222")


def _addresses(server: SplitResult) -> list[str]:
    # Blocking on purpose, see `greeting`; nothing else runs here before the engine is known.
    try:
        found = socket.getaddrinfo(server.hostname, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(one[4][0]) for one in found]


def _readable(creds: str) -> Path:
    path = Path(creds).expanduser().absolute()
    try:
        path.read_bytes()
    except OSError as exc:
        raise errors.BadRequest(
            "server.engine", f"MICRO_NATS_CREDS: {path} cannot be read: {exc.strerror}"
        ) from None
    return path
