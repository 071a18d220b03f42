"""Heads: one record for each function, and the tables of all that belongs to it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from microcosmos.base import codec, errors
from microcosmos.store import Op, Store, Write

from .interface import Live, Share
from .versions import Which

TABLE = "functions"
"""The table of functions, in the database of the platform; all else is in parts of it."""

ID = "functions"
"""The id of the errors of the control plane."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A function as the store has it, without its versions.

    Attributes:
        id: as of `Which`.
        owner: the id of the account that it belongs to.
        number: of its newest version.
        hash: of that, which is the parent of the next.
        shares: as of `Live`.
        created: when its first version was deployed.
        updated: when anything of this was changed.
        secrets: marks of those that are kept, by name.
    """

    id: str
    owner: str
    number: int
    hash: str
    shares: list[Share]
    created: str
    updated: str
    secrets: dict[str, str] = {}

    @property
    def told(self) -> Head:
        """What people say of it, without what follows from the limits of its account."""
        shares = [msgspec.structs.replace(share, key="", wall=0.0) for share in self.shares]
        return msgspec.structs.replace(self, shares=shares)

    @property
    def live(self) -> int:
        """The newest version that gets requests."""
        return max(share.number for share in self.shares)


class Found(msgspec.Struct, frozen=True):
    """A function as it was when it was looked at.

    Attributes:
        which: it is.
        head: its record.
        version: of that record.
    """

    which: Which
    head: Head
    version: int

    @property
    def name(self) -> str:
        """Of the function."""
        return self.which.name


class Tables:
    """Where functions are kept.

    Args:
        store: any table of the database `PLATFORM`.
    """

    def __init__(self, store: Store) -> None:
        self.heads = store.table(TABLE)
        self.versions = self.heads.part("versions")
        self.sources = self.heads.part("sources")
        self.code = self.heads.part("code")
        self.secrets = self.heads.part("secrets")
        self.counts = self.heads.part("counts")
        self.families = self.heads.part("families")
        self.announced = self.heads.part("announced")
        self.gone = self.heads.part("gone")
        self.about = self.heads.part("about")
        self.allowances = self.heads.part("allowances")
        self.strikes = self.heads.part("strikes")
        self.quotas = self.heads.part("quotas")
        self.quotas_of_many = self.heads.part("quotas_of_many")
        self.warned = self.heads.part("warned")

    @property
    def of_versions(self) -> Sequence[Store]:
        """Those that have records by `Which.version`."""
        return self.versions, self.sources, self.code, self.strikes

    async def find(self, namespace: str, name: str) -> Found | None:
        """A function; None if there is none."""
        try:
            record = await self.heads.read(f"{namespace}/{name}")
        except (errors.NotFound, errors.BadRequest):
            # What cannot be a key is no function's name.
            return None
        return found(record.key, record.value, record.version)

    async def get(self, namespace: str, name: str) -> Found:
        """A function.

        Raises:
            errors.NotFound: there is none.
        """
        if (one := await self.find(namespace, name)) is not None and name:
            return one
        detail = f"there is no function {name[:100]!r}; `micro functions list` lists them"
        raise errors.NotFound(ID, detail)

    async def page(self, namespace: str, after: str, limit: int) -> Sequence[Found]:
        """Functions of a namespace by name, from after one on."""
        cursor = f"{namespace}/{after}" if after else ""
        records = await self.heads.read(prefix=f"{namespace}/", after=cursor, limit=limit)
        return [found(record.key, record.value, record.version) for record in records]


def found(key: str, value: bytes, version: int) -> Found:
    """The function of a record."""
    namespace, _, name = key.partition("/")
    head: Head = codec.decode(value, Head, id=ID)
    return Found(Which(namespace, name, head.id), head, version)


def live(one: Found) -> Live:
    """A function as those know it who run it."""
    which, head = one.which, one.head
    return Live(namespace=which.namespace, name=one.name, owner=head.owner, shares=head.shares)


def write(which: Which, head: Head, before: Found | None) -> Op:
    """What puts a function in the place of what it was; a new one where there is none."""
    return Write(which.key, codec.encode(head), version=before.version if before else 0)


def busy(name: str) -> errors.Conflict:
    """The error of a change that others got in the way of all the time."""
    return errors.Conflict(ID, f"others change {name} and what is near it all the time; try again")
