"""What is set for subjects: the modes that they are held to."""

from __future__ import annotations

import asyncio

from microcosmos.base import codec, errors
from microcosmos.store import Store

from . import interface as ids
from .interface import MODES, Mode, Settings, service_of, unprocessable
from .kept import Keys, settings_from
from .picking import check_subject

DEFAULTS = Settings("BACKWARD", auto=True)
"""What holds for topics where nothing is set."""

ENDPOINTS = Settings("NONE", auto=True)
"""What holds for endpoints where nothing is set for them or for their service."""


class Held:
    """What is set for the subjects of a namespace; a part of `Catalogue`."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._writing = asyncio.Lock()

    async def settings(self, subject: str = "") -> Settings:
        """What is set for a subject itself, or with an empty name for all topics."""
        try:
            record = await self._store.read(self._keys.setting(subject))
        except errors.NotFound:
            return Settings()
        return settings_from(record.value)

    async def effective(self, subject: str = "") -> Settings:
        """What holds for a subject; nothing of it is None.

        A topic has its own settings, then those of the namespace, then `DEFAULTS`; an endpoint
        its own, then those of its service (``SERVICE/``), then `ENDPOINTS`.
        """
        if service := service_of(subject):
            above, last = f"{service}/", ENDPOINTS
        else:
            above, last = "", DEFAULTS
        found = last
        for name in dict.fromkeys((above, subject)):
            found = _over(await self.settings(name), found)
        return found

    async def mode(self, subject: str = "") -> Mode:
        """What new versions of a subject are held to; with an empty name, those of all topics."""
        return (await self.effective(subject)).mode or "NONE"

    async def configure(
        self, subject: str = "", *, mode: str | None = None, auto: bool | None = None
    ) -> Settings:
        """Set something for a subject, for a service's endpoints (``SERVICE/``) or for all topics.

        Args:
            subject: which; empty is all topics.
            mode: None leaves it.
            auto: whether types may register themselves; None leaves it.

        Returns:
            What is set there now.

        Raises:
            errors.Error: 422: there is no such mode.
        """
        if mode is not None and mode not in MODES:
            raise unprocessable(ids.BAD_MODE, f"{mode!r:.40} is no mode; one of {', '.join(MODES)}")
        if subject:
            check_subject(subject)
        async with self._writing:
            now = _over(Settings(mode, auto), await self.settings(subject))
            await self._store.write(self._keys.setting(subject), codec.encode(now))
        return now

    async def unset(self, subject: str = "") -> Settings:
        """Let what stands above hold for a subject again.

        Returns:
            What was set.

        Raises:
            errors.NotFound: nothing was set for it.
        """
        async with self._writing:
            was = await self.settings(subject)
            if subject and was == Settings():
                raise errors.NotFound(ids.NO_MODE, f"{subject} has no mode of its own")
            await self._store.delete(self._keys.setting(subject))
        return was


def _over(upper: Settings, lower: Settings) -> Settings:
    return Settings(
        lower.mode if upper.mode is None else upper.mode,
        lower.auto if upper.auto is None else upper.auto,
    )
