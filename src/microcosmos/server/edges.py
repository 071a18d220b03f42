"""What the operator says of the gateways' edge: checked, told to each gateway, and followed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

from microcosmos.base import errors
from microcosmos.base.home import Home
from microcosmos.base.tasks import background
from microcosmos.gateway.edge import Edge
from microcosmos.gateway.streams import origins

from .certificates import Certificates, files_of
from .exposure import exposed
from .ports import parse
from .settings import Settings


class Edges:
    """The edge of every gateway of a server; made by `open_edges`.

    Args:
        settings: what the operator said.
        log: where the access log is.
        certificates: what TLS shows, if it is spoken.
    """

    def __init__(self, settings: Settings, log: Path, certificates: Certificates | None) -> None:
        self._settings = settings
        self._log = log
        self._certificates = certificates

    def schemes(self) -> dict[str, str]:
        """What `server.json` says is spoken at the door."""
        return {"api": "https"} if self._certificates else {}

    def environment(self) -> dict[str, str]:
        """The variables of a gateway that is started now."""
        copy = self._certificates.copy if self._certificates else None
        return Edge(
            tls_cert_file=str(copy.certificate) if copy else "",
            tls_key_file=str(copy.key) if copy else "",
            tls_client_ca_file=str(copy.client_ca) if copy and copy.client_ca else "",
            http2=_http2(self._settings),
            access_log=self._settings.api_access_log,
            access_log_file=str(self._log),
            allowed_origins=self._settings.api_allowed_origins,
        ).environment()

    @contextlib.asynccontextmanager
    async def followed(
        self, renew: Callable[[], Awaitable[object]], look: asyncio.Event
    ) -> AsyncIterator[None]:
        """While the block runs, have the gateways renewed when the certificate is.

        Args:
            renew: starts them anew.
            look: set by who wants the certificate's files to be read now.
        """
        if self._certificates is None:
            yield
            return
        async with background(self._certificates.watch(renew, look), "certificate"):
            yield


@contextlib.contextmanager
def open_edges(settings: Settings, home: Home) -> Iterator[Edges]:
    """Check what the operator said, and keep what gateways need of it until the block ends.

    Raises:
        errors.BadRequest: it cannot be used; the detail names the flag.
    """
    log = _access_log(settings, home)
    _check_origins(settings)
    files = files_of(settings)
    certificates = Certificates(files, home.server / "tls") if files else None
    try:
        yield Edges(settings, log, certificates)
    finally:
        if certificates:
            certificates.remove()


def _http2(settings: Settings) -> Literal["tls", "always", "never"]:
    """When HTTP/2 is spoken; what that costs in clear text is no risk on loopback."""
    if settings.api_http2 != "auto":
        return settings.api_http2
    return "tls" if exposed([parse(settings.api_address, "--api_address")]) else "always"


def _check_origins(settings: Settings) -> None:
    try:
        origins.parse(settings.api_allowed_origins)
    except errors.BadRequest as error:
        raise errors.BadRequest("server", f"--api_allowed_origins: {error.detail}") from None


def _access_log(settings: Settings, home: Home) -> Path:
    """The access log's file; it can be written to, if there is to be one."""
    chosen = settings.api_access_log_file
    path = Path(chosen).expanduser().absolute() if chosen else home.logs / "access.log"
    if settings.api_access_log != "off":
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        except OSError as exc:
            detail = f"--api_access_log_file: {path} cannot be written to: {exc.strerror}"
            raise errors.BadRequest("server.access_log", detail) from None
    return path
