"""The file of the settings: where it is, what it says, and what it said when it was last good."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from microcosmos.base import errors
from microcosmos.base.home import Home, write_atomically

from .settings import NAME, NONE, Settings, parse, read

log = logging.getLogger("microcosmos.gateway")

VARIABLE = "MICRO_API_CONFIG"
"""The file of the settings, if it is not `gateway.toml` in `MICRO_HOME`."""

EVERY = 0.25
"""Seconds between two looks at the file of the settings."""


class File:
    """The file of the settings.

    Args:
        home: the platform's folder.
        chosen: the file if it is another one; it must be there then.
    """

    def __init__(self, home: Home, chosen: str | Path = "") -> None:
        self.path = Path(chosen).absolute() if chosen else home.path / NAME
        self._optional = not chosen
        self._kept = home.server / NAME
        self._seen = self._look()

    def check(self) -> Settings:
        """The settings as they stand now; none if the file may be missing and is.

        Raises:
            errors.BadRequest: the file is wrong, or missing though it was asked for.
        """
        if self._optional and not self.path.exists():
            return NONE
        return read(self.path)

    def begin(self) -> Settings:
        """The settings to begin with: the last good ones, should the file be damaged by now.

        Raises:
            errors.BadRequest: it is damaged, and never was taken before.
        """
        try:
            return self._taken()
        except errors.BadRequest as error:
            try:
                settings = parse(self._kept.read_bytes(), self.path)
            except (OSError, errors.BadRequest):
                raise error from None
            log.warning("%s; the settings before that hold", error.detail)
            return settings

    def _taken(self) -> Settings:
        """The settings, kept for gateways that start while the file is damaged."""
        settings = self.check()
        with contextlib.suppress(OSError):
            data = b"" if settings == NONE and not self.path.exists() else self.path.read_bytes()
            if (self._kept.read_bytes() if self._kept.exists() else b"") != data:
                write_atomically(self._kept, data)
        return settings

    async def follow(self, apply: Callable[[Settings], None]) -> None:
        """Let every good change hold, for ever; a damaged one is told in the log."""
        while True:
            await asyncio.sleep(EVERY)
            seen = self._look()
            if seen == self._seen:
                continue
            seen = await self._settled(seen)
            self._seen = seen
            try:
                apply(self._taken())
            except errors.BadRequest as error:
                log.warning("%s; the settings before that hold", error.detail)
            else:
                log.info("%s: the settings are taken", self.path)

    async def _settled(self, seen: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """The state that a file has kept for two looks.

        Who saves it may have written half of it, and some editors take it away for a moment.
        """
        before: object = ()
        while seen != before:
            await asyncio.sleep(EVERY)
            before, seen = seen, self._look()
        return seen

    def _look(self) -> tuple[int, ...] | None:
        """What tells one state of the file from another."""
        try:
            about = self.path.stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_size, about.st_ino


def chosen(environ: Mapping[str, str] = os.environ) -> str:
    """The file that the environment names."""
    return environ.get(VARIABLE, "")
