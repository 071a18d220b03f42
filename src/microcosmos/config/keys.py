"""The keys of secrets: where they come from, and how they are kept."""

from __future__ import annotations

import base64
import logging
import os
import re
from pathlib import Path

from microcosmos.base import errors
from microcosmos.base.home import Home, write_atomically
from microcosmos.base.profiles import LOCAL, Profile

from .secrets import KEY_SIZE, Key, new_key

VARIABLE = "MICRO_CONFIG_SECRET_KEY"
"""The environment variable with the key; the flag is ``--config_secret_key``."""

FILE = "config_secret_key"
"""The key's file in the home, when nobody says a key."""

_SEPARATOR = re.compile(r"[\s,]+")

log = logging.getLogger("microcosmos.config")


class Keys:
    """The keys of one platform: the first one encrypts, all of them decrypt.

    They are read when they are first needed, and a file again whenever it has changed: without a
    good key everything works but secrets.

    Args:
        text: keys in base64, with commas or blanks between them, from the flag or the variable;
            empty for the file's.
        path: the file; without one, and without a text, keys are made and forgotten.
        warn: whether a key file is no good idea here.
    """

    def __init__(self, text: str = "", path: Path | None = None, *, warn: bool = False) -> None:
        self._path = None if text.strip() else path
        self._warn = warn
        self._stamp: tuple[int, ...] = ()
        self._keys: list[Key] = []
        self._problem: errors.Error | None = None
        if text.strip():
            self._keys, self._problem = _read(text, VARIABLE)
        self.given = bool(text.strip())
        if self._problem:
            log.error("%s", self._problem.detail)

    @property
    def where(self) -> str:
        """Where they come from, for error texts."""
        return VARIABLE if self.given else str(self._path or "memory")

    def all(self) -> list[Key]:
        """The keys that there are, the current one first.

        Raises:
            errors.InternalServerError: those that were given are bad; the detail says where.
        """
        if self._path is not None:
            self._look(self._path)
        if self._problem is not None:
            raise self._problem
        return self._keys

    def find(self, id: str) -> Key | None:
        """The key of an id; None when it is not here.

        Raises:
            errors.InternalServerError: as `all`.
        """
        return next((key for key in self.all() if key.id == id), None)

    def make(self) -> Key:
        """A first key, kept for good before it is returned.

        Raises:
            errors.InternalServerError: its file cannot be written.
        """
        return self.add(new_key())

    def add(self, key: Key) -> Key:
        """Put a key before those that there are, for good."""
        self._keep([key, *self.all()])
        return key

    def drop_old(self) -> None:
        """Forget all but the current key, for good; given ones are the operator's to drop."""
        if not self.given and len(self.all()) > 1:
            self._keep(self._keys[:1])

    def _keep(self, keys: list[Key]) -> None:
        if self._path is not None:
            text = "".join(f"{key.text()}\n" for key in keys)
            try:
                write_atomically(self._path, text.encode())
                _sync(self._path.parent)
            except OSError as exc:
                detail = f"the config key cannot be kept in {self._path}: {exc.strerror}"
                raise errors.InternalServerError("config.key", detail) from None
            if not self._stamp and self._warn:
                log.warning(
                    "made a config key in %s; keep it, and away from what it protects: better "
                    "give one by %s",
                    self._path,
                    VARIABLE,
                )
            self._stamp = _stamp(self._path)
        self._keys = keys

    def _look(self, path: Path) -> None:
        """Read the file, if it is another than last time."""
        try:
            stamp = _stamp(path)
            if stamp == self._stamp:
                return
            _close(path)
            self._keys, self._problem = _read(path.read_text("ascii", "replace"), str(path))
            self._stamp = _stamp(path)
        except FileNotFoundError:
            self._keys, self._problem, self._stamp = [], None, ()
        except OSError as exc:
            detail = f"the config key in {path} cannot be read: {exc.strerror}"
            self._problem, self._stamp = errors.InternalServerError("config.key", detail), ()


def from_environment(home: Home, profile: Profile) -> Keys:
    """The keys of a server: those of `VARIABLE`, else of the file in its home.

    Args:
        home: whose.
        profile: one that leaves nothing behind keeps its key in memory.
    """
    path = None if profile.state == "memory" else home.path / FILE
    return Keys(os.environ.get(VARIABLE, ""), path, warn=profile.name != LOCAL.name)


def _read(text: str, where: str) -> tuple[list[Key], errors.Error | None]:
    """The keys of a text, or what is wrong with it; never with any of it in the text of that."""
    keys = []
    for word in filter(None, _SEPARATOR.split(text)):
        try:
            data = base64.b64decode(word, validate=True)
        except ValueError:
            data = b""
        if len(data) != KEY_SIZE:
            return [], errors.InternalServerError(
                "config.key",
                f"the config key in {where} is none: give {KEY_SIZE} bytes in base64, as "
                f"`head -c {KEY_SIZE} /dev/urandom | base64` makes them; values that are no "
                "secrets go on working",
            )
        keys.append(Key(data))
    if not keys:
        detail = f"the config key in {where} is empty: put the key back, or remove the file"
        return [], errors.InternalServerError("config.key", detail)
    return keys, None


def _stamp(path: Path) -> tuple[int, ...]:
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _close(path: Path) -> None:
    """Close the file to other users."""
    if os.name == "posix" and path.stat().st_mode & 0o077:
        log.warning("%s was open to other users; it is closed now", path)
        path.chmod(0o600)


def _sync(folder: Path) -> None:
    """Make a renamed file survive the loss of power: what it opens may be written right after."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
