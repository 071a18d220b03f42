"""The limits and delays of the runtime, in one place; times are seconds."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the runtime is.

    Attributes:
        ready: how long a replica may take until it answers.
        drain: how long it may take to end after SIGTERM, before SIGKILL.
        backoff: the wait after a first crash; it doubles with each further one.
        backoff_limit: the longest wait between two crashes.
        stable: a replica that ran so long has recovered: its next crash counts as the first.
        fetch: how long Git may take.
        build: how long an environment may take.
        reserved: names that no deployment may take, such as those of the core services.
    """

    ready: float = 30.0
    drain: float = 10.0
    backoff: float = 0.25
    backoff_limit: float = 30.0
    stable: float = 60.0
    fetch: float = 120.0
    build: float = 600.0
    reserved: frozenset[str] = frozenset()
