"""The certificate of the proxy's port: read from its files, and again when they are replaced."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from microcosmos.base import errors
from microcosmos.base import tls as base

if TYPE_CHECKING:
    import grpc

log = logging.getLogger("microcosmos.proxy")

FLAGS = "proxy_tls"
"""What the names of its flags begin with."""

_NAMES = ("cert", "key", "client_ca")


def files(cert: str, key: str, client_ca: str) -> base.Files | None:
    """The files that settings name, with absolute paths; None if they name none.

    Raises:
        errors.BadRequest: one of two that go together is missing.
    """
    if not (cert or key or client_ca):
        return None
    if not (cert and key):
        missing = "key" if cert else "cert"
        detail = f"--{FLAGS}_{missing}_file is missing: a certificate and its key go together"
        raise errors.BadRequest("proxy", detail)
    ca = _absolute(client_ca) if client_ca else None
    return base.Files(_absolute(cert), _absolute(key), ca, FLAGS)


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def environment(chosen: base.Files | None) -> dict[str, str]:
    """The variables that tell the core of them."""
    paths = {name: str(path) for name, path in chosen or ()}
    return {_variable(name): paths.get(name, "") for name in _NAMES}


def _variable(name: str) -> str:
    return f"MICRO_{FLAGS}_{name}_file".upper()


def from_environment(copy: Path, environ: Mapping[str, str] = os.environ) -> Shown | None:
    """What is shown of the files that `environment` told of; None if it told of none.

    Args:
        copy: see `Shown`.
        environ: the variables.

    Raises:
        errors.BadRequest: the files cannot be used, and there is no copy of good ones.
    """
    chosen = files(*(environ.get(_variable(name), "") for name in _NAMES))
    return None if chosen is None else Shown(chosen, copy)


class Shown:
    """What clients are shown: the files as they were when they last were good.

    Args:
        files: the operator's.
        copy: a folder for a copy of the last good ones, so that a core that is started again
            while they are not has something to show.

    Raises:
        errors.BadRequest: the files cannot be used, and there is no copy of good ones.
    """

    def __init__(self, files: base.Files, copy: Path | None = None) -> None:
        self._files = files
        self._copy = copy
        self._stamp = files.stamp()
        self._first = self._read_first()

    def _read_first(self) -> base.Certificate:
        try:
            return self._read()
        except errors.BadRequest as exc:
            if self._copy is None or not (self._copy / "cert.pem").exists():
                raise
            log.warning("a copy of the certificate is shown: %s", exc.detail)
            client_ca = self._copy / "client_ca.pem" if self._files.client_ca else None
            return base.Files(
                self._copy / "cert.pem", self._copy / "key.pem", client_ca, FLAGS
            ).read()

    def _read(self) -> base.Certificate:
        found = self._files.read()
        if warning := found.warning(datetime.datetime.now(datetime.UTC)):
            log.warning("the certificate in %s %s", self._files.certificate, warning)
        if self._copy is not None:
            found.write(self._copy)
        return found

    def credentials(self) -> grpc.ServerCredentials:
        """For a port; every new connection is shown what the files say by then."""
        import grpc

        asks = self._files.client_ca is not None
        # The stubs do not know that None means no change.
        renewed = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._renewed)
        return grpc.dynamic_ssl_server_credentials(_shown(self._first), renewed, asks)

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The certificate if its files have changed and are good, else None: it stays."""
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return None
        # They are replaced one by one: what does not fit together yet is looked at again then.
        self._stamp = stamp
        try:
            renewed = self._read()
        except (errors.BadRequest, OSError) as exc:
            log.warning("the certificate stays as it was: %s", getattr(exc, "detail", exc))
            return None
        log.info("the certificate was read again")
        return _shown(renewed)


def _shown(certificate: base.Certificate) -> grpc.ServerCertificateConfiguration:
    import grpc

    parts = certificate.parts
    return grpc.ssl_server_certificate_configuration(
        [(parts["key"], parts["cert"])], parts.get("client_ca")
    )
