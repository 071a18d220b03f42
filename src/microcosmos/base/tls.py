"""The certificate of a door: its files, checked before anyone is shown them.

What is checked here is what would otherwise fail when the door opens, or for every client.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import errors

if TYPE_CHECKING:
    # Imported where it is used: who has no certificate does without.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

SOON = datetime.timedelta(days=14)
"""A certificate that ends within so long is warned about."""

LARGEST_FILE = 1024 * 1024
"""The most bytes of a certificate, key or CA file."""

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_LEAST_RSA = 2048
_KINDS = f"RSA of {_LEAST_RSA} bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519"


@dataclass(frozen=True, slots=True)
class Files:
    """Where a certificate is; all are PEM.

    Attributes:
        certificate: the certificate, and those between it and a root.
        key: its private key.
        client_ca: who may have signed the certificates that clients must show; None asks clients
            for none.
        flags: what the names of their flags begin with, for errors.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    flags: str = "api_tls"

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        yield "cert", self.certificate
        yield "key", self.key
        if self.client_ca:
            yield "client_ca", self.client_ca

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes when a file is written or replaced; a missing one is None."""
        return tuple(_stamp(path) for _, path in self)

    def read(self) -> Certificate:
        """Read and check the certificate.

        Raises:
            errors.BadRequest: a file cannot be used; the detail names it, its flag and the reason.
        """
        parts = {name: self._read(name, path) for name, path in self}
        chain = self._certificates("cert", self.certificate, parts["cert"])
        key = self._key(parts["key"])
        if _public(key.public_key()) != _public(chain[0].public_key()):
            why = f"is not the key of the certificate in {self.certificate}"
            raise self._wrong("key", self.key, why)
        if self.client_ca:
            self._certificates("client_ca", self.client_ca, parts["client_ca"])
        return Certificate(parts, chain[0].not_valid_before_utc, chain[0].not_valid_after_utc)

    def _read(self, name: str, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
        except OSError as exc:
            raise self._wrong(name, path, f"cannot be read: {exc.strerror}") from None
        if len(data) > LARGEST_FILE:
            raise self._wrong(name, path, "is too large for what it is to be")
        return data

    def _certificates(self, name: str, path: Path, data: bytes) -> list[x509.Certificate]:
        from cryptography import x509

        try:
            return x509.load_pem_x509_certificates(data)
        except ValueError:
            raise self._wrong(name, path, "holds no certificate in PEM") from None

    def _key(self, data: bytes) -> PrivateKeyTypes:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(data, None)
        except TypeError:
            why = "is encrypted, and nobody is there to type its password; decrypt it"
            raise self._wrong("key", self.key, why) from None
        except (ValueError, UnsupportedAlgorithm):
            raise self._wrong("key", self.key, "holds no private key in PEM") from None
        if not _usable(key):
            raise self._wrong("key", self.key, f"is of no kind that is taken: use {_KINDS}")
        return key

    def _wrong(self, name: str, path: Path, why: str) -> errors.BadRequest:
        return errors.BadRequest("server.tls", f"--{self.flags}_{name}_file: {path} {why}")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that has been checked.

    Attributes:
        parts: the bytes of its files, by ``cert``, ``key`` and ``client_ca``.
        begins: when it becomes good.
        ends: when it is no longer good.
    """

    parts: dict[str, bytes]
    begins: datetime.datetime
    ends: datetime.datetime

    @property
    def digest(self) -> str:
        """Tells this one from others."""
        digest = hashlib.sha256()
        for part in self.parts.values():
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()[:16]

    def warning(self, now: datetime.datetime) -> str:
        """What is to be said of its dates, or nothing."""
        if now >= self.ends:
            return f"ended on {self.ends:%Y-%m-%d %H:%M} UTC: clients will refuse it; renew it"
        if now < self.begins:
            return f"begins on {self.begins:%Y-%m-%d %H:%M} UTC: clients will refuse it until then"
        if self.ends - now < SOON:
            return f"ends on {self.ends:%Y-%m-%d %H:%M} UTC; renew it"
        return ""

    def write(self, folder: Path) -> Files:
        """Write it into a folder that only this user may open."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = {name: folder / f"{name}.pem" for name in self.parts}
        for name, part in self.parts.items():
            paths[name].touch(mode=0o600)
            paths[name].write_bytes(part)
        return Files(paths["cert"], paths["key"], paths.get("client_ca"))


def _usable(key: PrivateKeyTypes) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return key.key_size >= _LEAST_RSA
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.curve.name in _CURVES
    return isinstance(key, ed25519.Ed25519PrivateKey)


def _public(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
