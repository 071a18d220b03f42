"""What a process of the platform shows: a token that it signs itself, as it can read the keys."""

from __future__ import annotations

from pathlib import Path

from microcosmos.auth.keys import TokenKeys, platform_token
from microcosmos.base.clock import SYSTEM, Clock

LIFETIME = 3600.0
"""Seconds that the token of a process of the platform is good for; it is renewed in time."""


class Badge:
    """The identity of a gateway, say.

    Args:
        folder: where the keys are, ``$MICRO_HOME/server/keys``.
        name: of the process.
        clock: by which tokens end.

    Raises:
        errors.InternalServerError: a key is damaged.
    """

    def __init__(self, folder: Path, name: str, *, clock: Clock = SYSTEM) -> None:
        self._folder = folder
        self._name = name
        self._clock = clock
        self._keys = TokenKeys(folder, clock=clock)
        self._header = ""
        self._until = 0.0
        self._seen = 0

    def header(self) -> str:
        """The Authorization header to call with."""
        # A key that is put in the place of one that was stolen is in force at once.
        changed = self._folder.stat().st_mtime_ns
        if changed != self._seen or self._clock.time() > self._until:
            self._keys.refresh()
            self._header = f"Bearer {platform_token(self._keys, self._name, LIFETIME)}"
            self._until = self._clock.time() + LIFETIME / 2
            self._seen = changed
        return self._header
