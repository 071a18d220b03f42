"""Subjects and their versions."""

from __future__ import annotations

from typing import Any

from microcosmos.events.schema import SchemaVersion
from microcosmos.events.schema.catalogue import Catalogue
from microcosmos.events.schema.local import author

from .asked import LONGEST_LIST, Asked, subject_in
from .raw import Raw

ANY_CONTEXT = ":*:"
"""The prefix of subjects in any context."""


async def listed(catalogue: Catalogue, asked: Asked) -> list[str]:
    """``GET /subjects``."""
    prefix = _prefix(asked)
    only = asked.flag("deletedOnly")
    found = await catalogue.subjects(prefix, deleted=only or asked.flag("deleted"))
    if only:
        there = set(await catalogue.subjects(prefix))
        found = [name for name in found if name not in there]
    return asked.page(found)


async def schemas(catalogue: Catalogue, asked: Asked) -> list[dict[str, Any]]:
    """``GET /schemas``."""
    found: list[SchemaVersion] = []
    gone = asked.flag("deleted")
    for name in await catalogue.subjects(_prefix(asked), deleted=gone):
        if asked.flag("latestOnly"):
            found.append(await catalogue.version(name, deleted=gone))
        else:
            found += await catalogue.history(name, deleted=gone)
    return [shown(one) for one in asked.page(found)[:LONGEST_LIST]]


async def lookup(catalogue: Catalogue, asked: Asked, subject: str) -> dict[str, Any]:
    """``POST /subjects/{subject}``: the version that has a schema."""
    one = await catalogue.lookup(
        subject,
        await asked.schema(),
        normalize=asked.flag("normalize"),
        deleted=asked.flag("deleted"),
    )
    return shown(one)


async def delete(catalogue: Catalogue, asked: Asked, subject: str) -> list[int]:
    """``DELETE /subjects/{subject}``."""
    return await catalogue.delete(subject, permanent=asked.flag("permanent"))


async def versions(catalogue: Catalogue, asked: Asked, subject: str) -> list[int]:
    """``GET /subjects/{subject}/versions``."""
    if not asked.flag("deletedOnly"):
        return asked.page(await catalogue.versions(subject, deleted=asked.flag("deleted")))
    every = await catalogue.history(subject, deleted=True)
    return asked.page([one.version for one in every if one.deleted])


async def register(catalogue: Catalogue, asked: Asked, subject: str) -> dict[str, Any]:
    """``POST /subjects/{subject}/versions``."""
    text, normalize = await asked.schema(), asked.flag("normalize")
    one = await catalogue.register(subject, text, author=author(), normalize=normalize)
    return {"id": one.id, "version": one.version, "schemaType": one.type, "schema": one.schema}


async def version(catalogue: Catalogue, asked: Asked, subject: str, number: str) -> dict[str, Any]:
    """``GET /subjects/{subject}/versions/{version}``."""
    return shown(await catalogue.version(subject, number, deleted=asked.flag("deleted")))


async def text(catalogue: Catalogue, asked: Asked, subject: str, number: str) -> Raw:
    """``GET /subjects/{subject}/versions/{version}/schema``: the schema itself."""
    found = await catalogue.version(subject, number, deleted=asked.flag("deleted"))
    return Raw(found.schema)


async def referenced_by(catalogue: Catalogue, asked: Asked, subject: str, number: str) -> list[int]:
    """``GET …/referencedby``: nobody, since there are no references."""
    await catalogue.version(subject, number)
    return []


async def delete_version(catalogue: Catalogue, asked: Asked, subject: str, number: str) -> int:
    """``DELETE /subjects/{subject}/versions/{version}``."""
    permanent = asked.flag("permanent")
    return await catalogue.delete_version(subject, number, permanent=permanent)


def shown(one: SchemaVersion) -> dict[str, Any]:
    """A version as it is answered."""
    told: dict[str, Any] = {
        "subject": one.subject,
        "version": one.version,
        "id": one.id,
        "schemaType": one.type,
        "schema": one.schema,
    }
    return {**told, "deleted": True} if one.deleted else told


def _prefix(asked: Asked) -> str:
    return subject_in(asked.text("subjectPrefix").removeprefix(ANY_CONTEXT))
