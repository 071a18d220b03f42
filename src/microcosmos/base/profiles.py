"""Profiles: which backend each capability stands on, as one small table of URLs each."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.metadata import entry_points

from . import errors


@dataclass(frozen=True, slots=True)
class Profile:
    """A backend URL for each capability.

    Attributes:
        name: what `MICRO_PROFILE` says.
        engine: ``nats://bundled`` starts the bundled server, ``memory://`` starts none.
        store: what `open_store` takes; ``{home}`` stands for the server's state folder.
        runtime: ``processes://``, or ``memory://`` for services in this process.
    """

    name: str
    engine: str
    store: str
    runtime: str


LOCAL = Profile("local", "nats://bundled", "sqlite:///{home}/store.db", "processes://")
TEST = replace(LOCAL, name="test", engine="memory://", store="memory://")
PROFILES = {profile.name: profile for profile in (LOCAL, TEST)}


def load(name: str | None = None) -> Profile:
    """The profile of a name, else of `MICRO_PROFILE`, else ``local``.

    A third party's profile comes in by an entry point of the group ``microcosmos.profile``.

    Raises:
        errors.BadRequest: nobody provides that profile; the detail lists those that are there.
    """
    name = name or os.environ.get("MICRO_PROFILE") or "local"
    if name in PROFILES:
        return PROFILES[name]
    foreign = {entry.name: entry for entry in entry_points(group="microcosmos.profile")}
    if name in foreign:
        profile: Profile = foreign[name].load()
        return profile
    known = ", ".join(sorted({*PROFILES, *foreign}))
    raise errors.BadRequest("profile", f"there is no profile {name!r}; there are: {known}")
