"""A service as its clients see it: methods, and the types that they take and give."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal[
    "any", "null", "bool", "int", "float", "str", "bytes",
    "datetime", "date", "time", "duration", "uuid", "decimal",
]  # fmt: skip
"""The plain types; those of the second line travel as texts."""


class Plain(msgspec.Struct, frozen=True):
    """A value without parts."""

    kind: Kind


class Choice(msgspec.Struct, frozen=True):
    """One of some texts, whole numbers, booleans or null."""

    values: tuple[str | int | bool | None, ...]


class Many(msgspec.Struct, frozen=True):
    """A list."""

    item: Type


class Row(msgspec.Struct, frozen=True):
    """A list with a type for each place."""

    items: tuple[Type, ...]


class Map(msgspec.Struct, frozen=True):
    """An object with any names."""

    value: Type


class Named(msgspec.Struct, frozen=True):
    """A record or a choice of the service, by its name."""

    name: str


class Either(msgspec.Struct, frozen=True):
    """One of several types."""

    options: tuple[Type, ...]


Type = Plain | Choice | Many | Row | Map | Named | Either

ANY = Plain("any")
NULL = Plain("null")


class Field(msgspec.Struct):
    """A field of a record.

    Attributes:
        name: as it travels.
        type: what it holds.
        required: False if it may be left out.
        default: what it then is; UNSET if the schema does not say.
        about: for people: what it means, and what it may be.
    """

    name: str
    type: Type
    required: bool = True
    default: Any = msgspec.UNSET
    about: str = ""


class Record(msgspec.Struct):
    """An object with known fields.

    Attributes:
        name: unique in the service.
        fields: in the schema's order.
        about: for people.
        tag: the field whose value tells it from the others of its unions; empty is none.
        parameters: whether the fields are the parameters of an endpoint's function.
    """

    name: str
    fields: list[Field]
    about: str = ""
    tag: str = ""
    parameters: bool = False

    def field(self, name: str) -> Field | None:
        """The field of a name, or None."""
        return next((field for field in self.fields if field.name == name), None)


class Alias(msgspec.Struct):
    """A choice that has a name."""

    name: str
    type: Choice
    about: str = ""


class Method(msgspec.Struct):
    """An endpoint.

    Attributes:
        endpoint: ``Handler.Method``.
        path: where it is over HTTP.
        about: for people.
        request: what a call takes.
        response: the answer, or each answer of a stream.
        items: what the caller streams; None if it does not.
        streams: whether the answers are a stream.
        retry: whether a passing failure is tried again.
    """

    endpoint: str
    path: str
    about: str
    request: Type
    response: Type
    items: Type | None = None
    streams: bool = False
    retry: bool = True


class Model(msgspec.Struct):
    """A service.

    Attributes:
        name: the service's.
        client: the name of the class that calls it.
        methods: sorted by endpoint.
        records: by name.
        aliases: by name.
    """

    name: str
    client: str
    methods: list[Method] = []
    records: dict[str, Record] = {}
    aliases: dict[str, Alias] = {}

    def parameters(self, method: Method) -> Record | None:
        """The record whose fields are the method's arguments; None: it takes one request."""
        if not isinstance(method.request, Named):
            return None
        record = self.records.get(method.request.name)
        return record if record is not None and record.parameters else None

    def optional(self, request: Type) -> bool:
        """Whether a request may be left out: nothing of it is required."""
        if request == ANY or isinstance(request, Map):
            return True
        record = self.records.get(request.name) if isinstance(request, Named) else None
        return record is not None and not any(field.required for field in record.fields)
