"""The numbers of fields: given once, and kept for ever.

- A struct's fields get 1, 2, 3 … in the order in which they stand when it is first published.
- A field that comes later gets the next number that was never used, wherever it stands.
- A field that goes leaves its number unused; when it comes back, it has it again.
- A field whose type changes gets a new number, and its old one again if the type comes back.
- All versions of a service that live at one time share one table. It goes by the names of
  structs; a struct under a new name that takes the place of another as the request or the answer
  of an endpoint goes on with its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.store import Store

MAX_FIELDS = 10_000
"""The most fields, past ones included, that a service may have under protobuf."""


class Field(NamedTuple):
    """A field that needs a number.

    Attributes:
        struct: what it is of.
        name: its name in JSON.
        kind: its type on the wire.
    """

    struct: str
    name: str
    kind: str


class Wanted(NamedTuple):
    """What a service publishes.

    Attributes:
        fields: all that need numbers.
        places: the struct that is the request or the answer of an endpoint.
    """

    fields: Sequence[Field]
    places: Mapping[str, str]


class Pins(msgspec.Struct):
    """The table of a service.

    Attributes:
        structs: numbers by struct, field and type.
        places: the struct that stood last as the request or the answer of an endpoint.
    """

    structs: dict[str, dict[str, dict[str, int]]] = {}
    places: dict[str, str] = {}

    def number(self, field: Field) -> int:
        """The number of a field, 0 if it has none."""
        return self.structs.get(field.struct, {}).get(field.name, {}).get(field.kind, 0)

    def taken(self, struct: str) -> set[int]:
        """Every number that a struct has, or ever had."""
        return {one for kinds in self.structs.get(struct, {}).values() for one in kinds.values()}

    def has(self, wanted: Wanted) -> bool:
        """Whether nothing is wanted that is not here."""
        return self.places | dict(wanted.places) == self.places and all(
            self.number(field) for field in wanted.fields
        )

    def grown(self, wanted: Wanted) -> Pins:
        """A table with numbers for these fields too; what this one has stays as it is.

        Raises:
            errors.InternalServerError: that would be more than `MAX_FIELDS`.
        """
        whole = msgspec.convert(msgspec.to_builtins(self), Pins)
        for place, struct in wanted.places.items():
            before = whole.places.get(place)
            if before in self.structs and struct not in whole.structs:
                whole.structs[struct] = msgspec.to_builtins(self.structs[before])
            whole.places[place] = struct
        last = {struct: max(whole.taken(struct), default=0) for struct in whole.structs}
        for field in wanted.fields:
            kinds = whole.structs.setdefault(field.struct, {}).setdefault(field.name, {})
            if field.kind not in kinds:
                kinds[field.kind] = last[field.struct] = last.get(field.struct, 0) + 1
        if sum(last.values()) + len(whole.places) > MAX_FIELDS:
            detail = f"its messages would have had more than {MAX_FIELDS} fields; call it by JSON"
            raise errors.InternalServerError("proxy", detail)
        return whole


class Numbers:
    """The tables of all services, remembered, and kept in a store.

    Args:
        store: its table ``proxy`` is used; without one nothing outlives this process.
        namespace: whose services they are.
    """

    def __init__(self, store: Store | None = None, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._table = None if store is None else store.table("proxy")
        self._prefix = f"numbers/{namespace}/"
        self._pins: dict[str, Pins] = {}

    async def load(self) -> None:
        """Remember all there is, so that what was published is answered without the store.

        Raises:
            errors.Unavailable: the store does not answer.
        """
        if self._table is None:
            return
        for key in await self._table.list(self._prefix):
            known = await self._table.get(key, Pins)
            self._pins[key.removeprefix(self._prefix)] = known or Pins()

    async def pin(self, service: str, wanted: Wanted) -> Pins:
        """The table of a service, with a number for each field that is wanted.

        Only something new makes it ask the store, which has it for good on return.

        Raises:
            errors.Unavailable: there is something new, and the store does not answer.
            errors.InternalServerError: the service has had too many fields.
        """
        known = self._pins.get(service) or Pins()
        if known.has(wanted):
            return known
        if self._table is None:
            pins = known.grown(wanted)
        else:
            pins = await self._table.modify(
                self._prefix + service, lambda stored: (stored or Pins()).grown(wanted), Pins
            )
        self._pins[service] = pins
        return pins
