"""What a function may, as the host tells it with each of its sub-requests."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from microcosmos.functions.interface import SecretUse, Unit


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the sub-requests of a version may do; the worker has no say in it.

    Attributes:
        namespace: where the function lives.
        name: of the function.
        number: of the version.
        key: as of `interface.Share`.
        owner: the id of the account that it belongs to.
        hosts: as of `interface.Draft`.
        placeholders: names of secrets by their placeholders.
        secret_uses: as of `interface.Draft`.
    """

    namespace: str
    name: str
    number: int
    key: str
    owner: str
    hosts: list[str] = []
    placeholders: dict[str, str] = {}
    secret_uses: dict[str, list[SecretUse]] = {}

    @property
    def function(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def whose(self) -> str:
        """The owner, told from those of the same id in other namespaces."""
        return f"{self.namespace}/{self.owner}"


def pack(unit: Unit) -> bytes:
    """The policy of a unit, as it is sent."""
    return msgspec.json.encode(
        Policy(
            namespace=unit.namespace,
            name=unit.name,
            number=unit.number,
            key=unit.key,
            owner=unit.owner,
            hosts=unit.hosts,
            placeholders=unit.placeholders,
            secret_uses=unit.secret_uses,
        )
    )


@lru_cache(maxsize=1024)
def unpack(data: bytes) -> Policy:
    """A policy that was sent.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return msgspec.json.decode(data, type=Policy)
