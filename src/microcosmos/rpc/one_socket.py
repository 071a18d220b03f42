"""Clients of one service on one known socket, for processes of one host that need no registry."""

from __future__ import annotations

from pathlib import Path


class OneSocket:
    """The `Resolver` of a client that knows one service on one socket.

    Args:
        service: its name.
        path: the socket.
        retries: whether its endpoints may be called again after a passing failure.
    """

    def __init__(self, service: str, path: Path, *, retries: bool = False) -> None:
        self._service = service
        self._path = str(path)
        self._retries = retries

    def lanes(self, service: str) -> list[str]:
        """The socket, if it is that service's."""
        return [self._path] if service == self._service else []

    def subject(self, service: str, endpoint: str) -> str:
        """Nothing here goes by NATS."""
        return ""

    def elsewhere(self, service: str) -> bool:
        """There is nothing but that socket."""
        return False

    def knows(self, service: str) -> bool:
        """Whether it is that service."""
        return service == self._service

    def lost(self, service: str) -> bool:
        """Nothing tells."""
        return False

    def retries(self, service: str, endpoint: str) -> bool:
        """As it was said."""
        return self._retries
