"""The gateways' certificate: a checked copy of the operator's files, renewed when those change."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from microcosmos.base import errors
from microcosmos.base.tls import Certificate, Files

from .settings import Settings

log = logging.getLogger("microcosmos.server")

EVERY = 1.0
"""Seconds between two looks at the files of a certificate."""


def files_of(settings: Settings) -> Files | None:
    """The certificate's files that settings name; None serves without TLS.

    Raises:
        errors.BadRequest: one is named without the other.
    """
    certificate, key = settings.api_tls_cert_file, settings.api_tls_key_file
    client_ca = settings.api_tls_client_ca_file
    if not (certificate or key or client_ca):
        return None
    if not certificate or not key:
        missing = "key" if certificate else "cert"
        given = "cert" if certificate else "key" if key else "client_ca"
        detail = f"--api_tls_{given}_file is of no use without --api_tls_{missing}_file"
        raise errors.BadRequest("server.tls", detail)
    return Files(_path(certificate), _path(key), _path(client_ca) if client_ca else None)


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


class Certificates:
    """The certificate that gateways show.

    They read a copy, which is there and whole whatever becomes of the files, so that one that is
    started again shows what the others show.

    Args:
        files: the operator's.
        folder: for the copies; what is in it is removed.

    Raises:
        errors.BadRequest: the files cannot be used.
    """

    def __init__(self, files: Files, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._seen = files.stamp()
        self._digest = ""
        certificate = files.read()
        self.remove()
        folder.mkdir(mode=0o700)
        self._copy = self._take(certificate)

    @property
    def copy(self) -> Files:
        """Where gateways find it."""
        return self._copy

    def remove(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def watch(self, renew: Callable[[], Awaitable[object]], look: asyncio.Event) -> None:
        """Take what the files become, for ever.

        Args:
            renew: has the gateways take the new copy.
            look: set by who wants the files to be read now, though they may seem unchanged.
        """
        while True:
            asked = await self._changed(look)
            try:
                certificate = self._files.read()
            except errors.Error as error:
                log.warning("%s; the old certificate is kept", error.detail)
                continue
            if certificate.digest == self._digest:
                if asked:
                    log.info("the certificate is still the same")
                continue
            await self._renew(certificate, renew)

    async def _changed(self, look: asyncio.Event) -> bool:
        """Wait until the files have changed and rest, or until asked to look; True if asked."""
        before = self._seen
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(look.wait(), EVERY)
            asked = look.is_set()
            look.clear()
            stamp = self._files.stamp()
            # A certificate and its key are written one after the other.
            if asked or (stamp != self._seen and stamp == before):
                self._seen = stamp
                return asked
            before = stamp

    async def _renew(
        self, certificate: Certificate, renew: Callable[[], Awaitable[object]]
    ) -> None:
        digest, copy = self._digest, self._copy
        try:
            self._copy = self._take(certificate)
            await renew()
            log.info("the gateways show the certificate that is good until %s", certificate.ends)
        except (errors.Error, OSError) as exc:
            log.warning("the gateways cannot take the new certificate: %s", exc)
            # The new copy stays too: a gateway may have taken it before another could not.
            self._digest, self._copy = digest, copy
        else:
            shutil.rmtree(self._folder / digest, ignore_errors=True)

    def _take(self, certificate: Certificate) -> Files:
        if warning := certificate.warning(datetime.datetime.now(datetime.UTC)):
            log.warning("the certificate in %s %s", self._files.certificate, warning)
        self._digest = certificate.digest
        return certificate.write(self._folder / self._digest)
