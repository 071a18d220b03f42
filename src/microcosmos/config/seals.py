"""The secrets of one namespace, with the keys that there are now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from microcosmos.base import codec, errors

from . import paths, tree
from .interface import MASK, Document, Leaf, Node, Plain, Secret
from .keys import Keys
from .paths import Path


class NoKey(Exception):
    """There is no key yet to encrypt with."""


class Seals:
    """Encrypts and decrypts the leaves of a namespace.

    Args:
        keys: the platform's.
        namespace: whose leaves.
    """

    def __init__(self, keys: Keys, namespace: str) -> None:
        self._keys = keys
        self._namespace = namespace

    def open(self, path: Path, secret: Secret) -> Any:
        """The JSON of a leaf.

        Raises:
            errors.InternalServerError: its key is not here, or it is damaged.
        """
        key = self._keys.find(secret.key)
        if key is None:
            raise self._lost(path, secret)
        return key.open(self._namespace, path, secret)

    def reseal(self, path: Path, secret: Secret) -> Secret:
        """A leaf encrypted with the current key; one that cannot be opened stays as it is."""
        current = self._keys.all()[0]
        key = self._keys.find(secret.key)
        if key is None or key is current:
            return secret
        try:
            return current.seal(self._namespace, path, key.open(self._namespace, path, secret))
        except errors.InternalServerError:
            return secret

    def check(self, node: Mapping[str, Any]) -> None:
        """Refuse a tree with secrets that no key here opens.

        Raises:
            errors.InternalServerError: it has one; the detail names the first and the ways out.
        """
        for path, secret in tree.secrets(dict(node)):
            if self._keys.find(secret.key) is None:
                raise self._lost(path, secret)

    def _lost(self, path: Path, secret: Secret) -> errors.Error:
        name = paths.write(path)
        return errors.InternalServerError(
            "config.key",
            f"the secret {name} was encrypted with the key {secret.key}, which is not in "
            f"{self._keys.where}: put that key back, or delete the secret with "
            f"`micro config del {name}`",
        )


class Maker:
    """Makes the leaves of one change of a document; see `tree.Make`.

    Args:
        keys: the platform's.
        document: what is changed.
    """

    def __init__(self, keys: Keys, document: Document) -> None:
        self._keys = keys
        self._document = document
        self._seals = Seals(keys, document.namespace)
        self._checked = False

    def __call__(self, path: Path, value: Any, secret: bool, old: Node | None) -> Leaf:
        """The leaf of a JSON value; the old one, if that has the same.

        Raises:
            NoKey: it is to be secret, and there is no key yet.
            errors.BadRequest: the mask, where there is no secret.
            errors.InternalServerError: it is to be secret, and secrets that are there cannot be
                read: the key is likely a wrong one.
        """
        if value == MASK:
            return self._masked(path, old)
        if not secret:
            new = Plain(value)
            return old if isinstance(old, Plain) and tree.same(old, new) else new
        self._check()
        if isinstance(old, Secret) and self._opens_to(path, old, value):
            return old
        return self._keys.all()[0].seal(self._document.namespace, path, value)

    def _masked(self, path: Path, old: Node | None) -> Leaf:
        """What was read masked and is written back stays what it is."""
        if isinstance(old, Secret):
            return old
        raise errors.BadRequest(
            "config",
            f"{paths.write(path)}: {MASK} is what a secret reads as, no value; give the value "
            "itself, as a secret",
        )

    def _check(self) -> None:
        if self._checked:
            return
        self._seals.check(self._document.tree)
        if not self._keys.all():
            raise NoKey
        self._checked = True

    def _opens_to(self, path: Path, secret: Secret, value: Any) -> bool:
        try:
            return codec.encode(self._seals.open(path, secret)) == codec.encode(value)
        except errors.InternalServerError:
            return False  # damaged: it is set again
