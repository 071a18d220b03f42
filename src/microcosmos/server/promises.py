"""Promises: what a server holds to, as `micro status --server` tells it."""

from __future__ import annotations

from microcosmos.base.home import Home
from microcosmos.functions.walls import report

from .engine import BundledEngine, Engine
from .external import ExternalEngine
from .settings import Settings

DURABILITY = {
    "power": "an acknowledged event survives power loss",
    "process": "an acknowledged event survives the end of any process, not power loss",
}
"""What an acknowledged event survives on the engine that is our own, by the setting."""

FOREIGN = "what the engine at MICRO_NATS_URL promises"
"""The durability of events on an engine that somebody else runs."""

_OURS = "accounts, rules, tables and config: checked by each process of the platform"
_NOBODYS = "services are processes of one user of this machine, and can read its files"


def promises(settings: Settings, engine: Engine) -> dict[str, str]:
    """By name: what is acknowledged survives, and who keeps whom apart."""
    told = {"profile": settings.profile}
    if isinstance(engine, BundledEngine):
        told["durability"] = DURABILITY[settings.durability]
        told["isolation by the engine"] = (
            "a namespace is an account of nats-server; a service has credentials of its own, "
            "for what it may serve and call"
        )
    elif isinstance(engine, ExternalEngine):
        told["durability"] = f"of events: {FOREIGN}"
        told["isolation by the engine"] = (
            "none: everybody shows it the same credentials, so that services run in namespace "
            "micro only"
        )
    else:
        told["durability"] = "nothing survives the end of the server's processes"
        told["isolation by the engine"] = "none: there is no engine"
    told["isolation by the platform"] = _OURS
    told["isolation by nobody"] = _NOBODYS
    return told


def promised_walls(home: Home) -> dict[str, str]:
    """What closes the workers of functions in, as it was measured here."""
    measured = report.left(home)
    return {"walls of functions": measured.told} if measured else {}
