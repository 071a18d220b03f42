"""Profiles: which backend each capability stands on, as one small table of URLs each."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from . import errors, plugins

GROUP = "microcosmos.profile"
"""The entry points that bring other packages' profiles, each named as the profile is."""

BUNDLED = "nats://bundled"
"""The engine that the server starts itself."""

MEMORY = "memory://"
"""No engine, or a store that is forgotten when the server ends."""

PROCESSES = "processes://"
"""Services are processes of the server's host."""

PODS = "pods://"
"""Services are pods of a Kubernetes cluster."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A backend URL for each capability; an empty one has to be said by who starts the server.

    Attributes:
        name: what `MICRO_PROFILE` says.
        nats: `BUNDLED`, `MEMORY`, or the URL of an engine that somebody else runs.
        store: what `open_store` takes; ``{home}`` stands for the server's state folder.
        runtime: `PROCESSES`, or `PODS`.
        state: ``disk``, or ``memory`` for a server that leaves nothing behind.
    """

    name: str
    nats: str
    store: str
    runtime: str
    state: str = "disk"


LOCAL = Profile("local", nats=BUNDLED, store="sqlite:///{home}/store.db", runtime=PROCESSES)
TEST = Profile("test", nats=MEMORY, store=MEMORY, runtime=PROCESSES, state="memory")
CLUSTER = Profile("cluster", nats="", store="", runtime=PROCESSES)
KUBERNETES = replace(CLUSTER, name="kubernetes", runtime=PODS)

PROFILES = {profile.name: profile for profile in (LOCAL, TEST, CLUSTER, KUBERNETES)}


def load(name: str | None = None) -> Profile:
    """The profile of a name, else of `MICRO_PROFILE`, else ``local``.

    A third party's profile comes in by an entry point of `GROUP`; those above are not replaced.

    Raises:
        errors.BadRequest: nobody provides that profile; the detail lists those that are there.
        errors.InternalServerError: the package that provides it is broken.
    """
    name = name or os.environ.get("MICRO_PROFILE") or LOCAL.name
    if name in PROFILES:
        return PROFILES[name]
    entry = plugins.found(GROUP, name)
    if entry is None:
        raise errors.BadRequest("profile", f"there is no profile {name!r}; there are: {_known()}")
    profile = plugins.load(entry)
    if not isinstance(profile, Profile):
        raise plugins.broken(entry, f"is no Profile but a {type(profile).__name__}")
    return replace(profile, name=name)


def placed(url: str, state: Path) -> str:
    """A URL with ``{home}`` in it as that folder."""
    return url.replace("{home}", str(state))


def names() -> list[str]:
    """The profiles that there are, ours first."""
    return [*PROFILES, *(name for name in plugins.names(GROUP) if name not in PROFILES)]


def _known() -> str:
    return ", ".join(sorted(names()))
