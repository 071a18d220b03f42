"""Schemas by their ids."""

from __future__ import annotations

from typing import Any

from microcosmos.base import errors
from microcosmos.events.schema.catalogue import Catalogue
from microcosmos.events.schema.interface import NO_SCHEMA, TYPE

from .asked import Asked, subject_in
from .raw import Raw

_LARGEST = 2**31


async def schema(catalogue: Catalogue, asked: Asked, id: str) -> dict[str, Any]:
    """``GET /schemas/ids/{id}``."""
    found: dict[str, Any] = {
        "schemaType": TYPE,
        "schema": await catalogue.schema(_number(id)),
    }
    if asked.flag("fetchMaxId"):
        found["maxId"] = await _largest(catalogue)
    return found


async def text(catalogue: Catalogue, asked: Asked, id: str) -> Raw:
    """``GET /schemas/ids/{id}/schema``: the schema itself."""
    return Raw(await catalogue.schema(_number(id)))


async def subjects(catalogue: Catalogue, asked: Asked, id: str) -> list[str]:
    """``GET /schemas/ids/{id}/subjects``."""
    return asked.page(sorted({name for name, _ in await _uses(catalogue, asked, id)}))


async def versions(catalogue: Catalogue, asked: Asked, id: str) -> list[dict[str, Any]]:
    """``GET /schemas/ids/{id}/versions``."""
    uses = await _uses(catalogue, asked, id)
    return asked.page([{"subject": name, "version": number} for name, number in uses])


async def _uses(catalogue: Catalogue, asked: Asked, id: str) -> list[tuple[str, int]]:
    only = subject_in(asked.text("subject"))
    uses = await catalogue.uses(_number(id), deleted=asked.flag("deleted"))
    return [(name, number) for name, number in uses if only in ("", name)]


async def _largest(catalogue: Catalogue) -> int:
    """The largest id that any version has or had."""
    names = await catalogue.subjects(deleted=True)
    histories = [await catalogue.history(name, deleted=True) for name in names]
    return max((one.id for history in histories for one in history), default=0)


def _number(id: str) -> int:
    if id.isascii() and id.isdigit() and 0 < (number := int(id[:12])) < _LARGEST:
        return number
    raise errors.NotFound(NO_SCHEMA, f"{id[:40]!r} is no id of a schema")
