"""Secrets: one leaf, encrypted by one key for one place, with AES-256-GCM."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from microcosmos.base import codec, errors

from . import paths
from .interface import Secret
from .paths import Path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_SIZE = 32
"""Bytes of a key."""

_NONCE = 12


class Key:
    """One key.

    Args:
        data: its 32 bytes.

    Attributes:
        id: stands for it where it must not be told.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.id = hashlib.sha256(b"microcosmos.config " + data).hexdigest()[:16]

    @cached_property
    def _cipher(self) -> AESGCM:
        # Imported here: most processes that hold config, as those of tests, have no secrets.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self.data)

    def text(self) -> str:
        """The key in base64, as it is given and kept."""
        return base64.b64encode(self.data).decode()

    def seal(self, namespace: str, path: Path, value: Any) -> Secret:
        """Encrypt a leaf; it opens at this place only."""
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, codec.encode(value), _place(namespace, path))
        return Secret(self.id, base64.b64encode(nonce + sealed).decode())

    def open(self, namespace: str, path: Path, secret: Secret) -> Any:
        """The JSON of a leaf.

        Raises:
            errors.InternalServerError: it is damaged, or was moved here from another place.
        """
        from cryptography.exceptions import InvalidTag

        try:
            data = base64.b64decode(secret.data, validate=True)
            opened = self._cipher.decrypt(data[:_NONCE], data[_NONCE:], _place(namespace, path))
        except (InvalidTag, ValueError):
            raise errors.InternalServerError(
                "config.key",
                f"the secret {paths.write(path)} is damaged or was moved; set it again",
            ) from None
        return codec.decode(opened)


def _place(namespace: str, path: Path) -> bytes:
    return codec.encode([namespace, *path])


def new_key() -> Key:
    """A key that nobody has yet."""
    return Key(os.urandom(KEY_SIZE))
