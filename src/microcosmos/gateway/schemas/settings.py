"""Compatibility modes, and whether a new version fits."""

from __future__ import annotations

from typing import Any

import msgspec

from microcosmos.base import errors
from microcosmos.events.schema import interface as ids
from microcosmos.events.schema.catalogue import DEFAULTS, LATEST, Catalogue

from .asked import Asked
from .failures import NO_MODE, NOT_PERMITTED, Failure

READWRITE = "READWRITE"
"""The mode of a registry that can be read and written; there is no other here."""


class Config(msgspec.Struct, rename="camel"):
    """What ``PUT /config`` takes; what registries may have beside that is not supported here."""

    compatibility: str | None = None
    compatibility_level: str | None = None
    compatibility_group: Any = None
    normalize: Any = None
    alias: Any = None
    default_metadata: Any = None
    override_metadata: Any = None
    default_rule_set: Any = None
    override_rule_set: Any = None

    def mode(self) -> str:
        """The mode that is wanted.

        Raises:
            Failure: none is, or something else too.
        """
        for field in msgspec.structs.fields(self)[2:]:
            if getattr(self, field.name):
                detail = f"{field.encode_name} is not supported: only compatibility can be set"
                raise Failure(422, detail)
        mode = self.compatibility or self.compatibility_level
        if not mode:
            raise Failure(42203, "say which compatibility mode is wanted, as `compatibility`")
        return mode.upper()


class ModeRequest(msgspec.Struct):
    """What ``PUT /mode`` takes."""

    mode: str


async def config(catalogue: Catalogue, asked: Asked, subject: str = "") -> dict[str, Any]:
    """``GET /config`` and ``GET /config/{subject}``."""
    own = (await catalogue.settings(subject)).mode
    if subject and own is None and not asked.flag("defaultToGlobal"):
        raise errors.NotFound(ids.NO_MODE, f"{subject} has no compatibility mode of its own")
    return {"compatibilityLevel": own or await catalogue.mode(subject)}


async def configure(catalogue: Catalogue, asked: Asked, subject: str = "") -> dict[str, Any]:
    """``PUT /config`` and ``PUT /config/{subject}``."""
    wanted: Config = await asked.body(Config)
    mode = wanted.mode()
    await catalogue.configure(subject, mode=mode)
    return {"compatibility": mode}


async def unset(catalogue: Catalogue, asked: Asked, subject: str = "") -> dict[str, Any]:
    """``DELETE /config`` and ``DELETE /config/{subject}``: what it was."""
    was = await catalogue.unset(subject)
    return {"compatibilityLevel": was.mode or DEFAULTS.mode}


async def compatible(
    catalogue: Catalogue, asked: Asked, subject: str, number: str = ""
) -> dict[str, Any]:
    """``POST /compatibility/subjects/{subject}/versions`` and ``…/versions/{version}``.

    What those cannot read who said that they consume the topic is not compatible either.
    """
    text = await asked.schema()
    try:
        breaches = await catalogue.check(
            subject, text, version=number or None, consumers=not number or number == LATEST
        )
    except errors.NotFound as error:
        # As Confluent has it: of nothing anything may follow.
        if number != LATEST or error.id != ids.NO_SUBJECT:
            raise
        breaches = []
    found: dict[str, Any] = {"is_compatible": not breaches}
    if asked.flag("verbose"):
        found["messages"] = [
            f"{breach.side}: {problem}" for breach in breaches for problem in breach.problems
        ]
    return found


async def mode(catalogue: Catalogue, asked: Asked, subject: str = "") -> dict[str, Any]:
    """``GET /mode`` and ``GET /mode/{subject}``."""
    if subject and not asked.flag("defaultToGlobal"):
        raise Failure(NO_MODE, f"{subject} has no mode of its own")
    return {"mode": READWRITE}


async def set_mode(catalogue: Catalogue, asked: Asked, subject: str = "") -> dict[str, Any]:
    """``PUT /mode`` and ``PUT /mode/{subject}``: refused, unless it changes nothing."""
    wanted: ModeRequest = await asked.body(ModeRequest)
    if wanted.mode.upper() != READWRITE:
        raise Failure(
            NOT_PERMITTED,
            f"the mode {wanted.mode[:40]} is not supported: this registry is always {READWRITE}; "
            "who may write is said by accounts and rules",
        )
    return {"mode": READWRITE}


async def unset_mode(catalogue: Catalogue, asked: Asked, subject: str) -> dict[str, Any]:
    """``DELETE /mode/{subject}``: there is nothing to be unset."""
    raise Failure(NO_MODE, f"{subject} has no mode of its own")
