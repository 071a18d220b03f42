"""Claiming: a function takes its name and its routes, or is told whose they are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store import Op

from .conflicts import Claims, Others, Seen, ancestors, overlap
from .drafts import family
from .heads import ID, Found, Head, Tables
from .showing import path_of
from .versions import Which


class Claimant(msgspec.Struct, frozen=True):
    """Who deploys.

    Attributes:
        id: of the account.
        administers: whether it may change what is others'.
    """

    id: str
    administers: bool = False


class Claiming:
    """Takes names and routes for functions.

    Args:
        tables: where functions are kept.
        claims: whose families are.
        others: the services that are in the way of functions.
    """

    def __init__(self, tables: Tables, claims: Claims, others: Others) -> None:
        self._tables = tables
        self._claims = claims
        self._others = others

    async def look(
        self, namespace: str, name: str, routes: Sequence[str], who: Claimant
    ) -> Found | None:
        """The function of a name that is to be deployed; None if it is a new one.

        Raises:
            errors.Conflict: the name or a route is another's, or a service's.
        """
        found = await self._tables.find(namespace, name)
        which = found.which if found else Which(namespace, name)
        await self.claim(which, found, routes, who)
        return found

    async def owner(self, namespace: str, name: str, who: Claimant) -> str:
        """Whose a new function is to be.

        Raises:
            errors.Conflict: the name is another's.
        """
        which = Which(namespace, name)
        return _owner(which, await self._claims.family(namespace, name), who)

    async def claim(
        self, which: Which, found: Found | None, routes: Sequence[str], who: Claimant
    ) -> tuple[str, list[Op]]:
        """Whose a function is, and what makes it take its name and its routes.

        These fail if anything that was looked at here has changed when they are done.

        Raises:
            errors.Conflict: the name or a route is another's, or a service's.
        """
        seen = await self._claims.family(which.namespace, which.name)
        owner = found.head.owner if found else _owner(which, seen, who)
        ops: list[Op] = []
        if found is None:
            await self._check_services(which)
            await self._claims.check_announced(which.namespace, which.name)
            ops = self._claims.take(which, owner, seen)
        elif routes:
            ops = [self._claims.touch(which, seen)]
        await self._check_routes(which, routes)
        return owner, ops

    async def _check_services(self, which: Which) -> None:
        for service, whose in (await self._others(which.namespace, which.name)).items():
            # Functions are registered too.
            if not await self._tables.heads.has(f"{which.namespace}/{service}"):
                first = family(which.name)
                what = (
                    f"/{first} belongs to" if family(service) == first else "that name has on NATS"
                )
                raise errors.Conflict(ID, f"{what} {whose}; choose another name")

    async def _check_routes(self, which: Which, routes: Sequence[str]) -> None:
        """Refuse routes that meet those of another function.

        Names part paths, so that only functions above and below this one can have any.
        """
        if not routes:
            return
        for name, head in (await self._near(which)).items():
            for share in head.shares:
                if met := overlap(which.name, routes, name, share.routes):
                    detail = f"route {met[0]} meets route {met[1]} of function {name}, which "
                    raise errors.Conflict(ID, f"{detail}belongs to {head.owner}")

    async def _near(self, which: Which) -> dict[str, Head]:
        """The functions above and below one."""
        above = [await self._tables.find(which.namespace, one) for one in ancestors(which.name)]
        below = await self._tables.heads.read(prefix=f"{which.key}.")
        return {
            **{one.name: one.head for one in above if one},
            **{one.key.partition("/")[2]: codec.decode(one.value, Head) for one in below},
        }


def _owner(which: Which, seen: Seen, who: Claimant) -> str:
    """Whose a new function is: an admin may make one in a family that is another's.

    Raises:
        errors.Conflict: the family is another's.
    """
    if not seen.version or seen.owner == who.id:
        return who.id
    if not who.administers:
        detail = f"{path_of(which.name)} belongs to {seen.owner}; choose another name"
        raise errors.Conflict(ID, detail)
    return seen.owner
