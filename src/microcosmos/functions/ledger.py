"""What functions have used: their part of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from microcosmos.base import codec
from microcosmos.monitor.ledger import Counts, Subject, checks
from microcosmos.monitor.ledger.ledger import Ledger, Owned, Whose
from microcosmos.store import Check, Delete

from .heads import Tables

TOGETHER = 200
"""Functions whose counts move to the ledger at once."""

MOVED = "$moved"
"""What the names of those begin with who have counted what moves; they are no workers."""


def whose(tables: Tables) -> Whose:
    """Says whose functions are; what is counted of one that is deleted meanwhile is not kept."""

    async def owner(namespace: str, name: str) -> Owned | None:
        found = await tables.find(namespace, name)
        if found is None:
            return None
        check = Check(found.which.key, found.version, table=tables.heads.scope[1])
        return Owned(found.head.owner, (check,))

    return owner


def subjects(counts: Mapping[str, Counts]) -> dict[Subject, Counts]:
    """Counts as the ledger takes them.

    Args:
        counts: by ``NAMESPACE/NAME/v3``, or ``NAMESPACE/NAME``.

    Raises:
        errors.BadRequest: they cannot be.
    """
    taken: dict[Subject, Counts] = {}
    for key, one in counts.items():
        checks.counts(key, one, "functions")
        namespace, _, rest = key.partition("/")
        name, _, version = rest.partition("/")
        subject = Subject(
            namespace=namespace, kind="function", account="", name=name, version=version
        )
        taken[subject] = one
    return taken


async def move(tables: Tables, ledger: Ledger) -> None:
    """Move counts that were kept without hours and versions into the ledger, each once."""
    while records := await tables.counts.read(limit=TOGETHER):
        adding = (
            # Whoever is killed before the record is deleted moves it again: as the same worker.
            ledger.add(
                f"{MOVED}/{record.key}@{record.version}",
                1,
                subjects({record.key: codec.decode(record.value, Counts)}),
            )
            for record in records
        )
        await asyncio.gather(*adding)
        await tables.counts.batch([Delete(record.key) for record in records])
