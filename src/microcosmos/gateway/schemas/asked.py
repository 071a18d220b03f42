"""One request to the door: its path, its flags and its body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from microcosmos.base import codec, errors

from .failures import Failure, unsupported

MAX_SENT = 4 * 1024 * 1024
"""The longest body of a request, in bytes: a schema is sent as a text inside of JSON."""

LONGEST_LIST = 1000
"""Entries of a list that are given when a request asks for no fewer and lists may be long."""

CONTEXT = ":.:"
"""Before a subject's name it says that it is in the default context, the only one there is."""

_TRUE = frozenset({"true", "1", "yes"})


class Sent(msgspec.Struct, rename="camel"):
    """A schema as it is sent to be registered, found or checked.

    ``id`` and ``version`` are for migrations into a registry in the mode IMPORT.
    """

    schema: str = ""
    schema_type: str | None = None
    references: list[Any] | None = None
    metadata: Any = None
    rule_set: Any = None
    id: int | None = None
    version: int | None = None

    def text(self) -> str:
        """The JSON Schema.

        Raises:
            Failure: it is something else, or has what is not supported.
        """
        kind = self.schema_type or "AVRO"
        if kind.upper() != "JSON":
            raise unsupported(
                f"schemas of type {kind[:40]} are not supported: this registry has JSON Schema; "
                'send "schemaType": "JSON"'
            )
        if self.references:
            raise unsupported(
                "references to other schemas are not supported: put what is referred to under $defs"
            )
        if self.metadata or self.rule_set:
            named = "metadata" if self.metadata else "ruleSet"
            raise unsupported(f"{named} of a schema is not supported: leave it out")
        if (self.id or -1) > 0 or (self.version or -1) > 0:
            raise Failure(
                42205, "ids and versions are given by the registry: it is not in the mode IMPORT"
            )
        if not self.schema:
            raise unsupported("an empty schema: send the text of a JSON Schema as `schema`")
        return self.schema


class Asked:
    """A request.

    Attributes:
        method: ``GET`` and so on.
        path: below the door's own, without a slash at either end.

    Args:
        method: see above.
        path: see above.
        query: what stands after the question mark.
        read: gives the body.
    """

    def __init__(
        self, method: str, path: str, query: str, read: Callable[[], Awaitable[bytes]]
    ) -> None:
        self.method = method
        self.path = path
        self._query = dict(parse_qsl(query, keep_blank_values=True, errors="replace"))
        self._read = read

    def text(self, name: str) -> str:
        """A parameter; empty when there is none."""
        return self._query.get(name, "")

    def flag(self, name: str) -> bool:
        """Whether a parameter says true."""
        return self.text(name).lower() in _TRUE

    def number(self, name: str, default: int) -> int:
        """A parameter as a whole number.

        Raises:
            errors.BadRequest: it is none.
        """
        text = self.text(name)
        try:
            return int(text) if text else default
        except ValueError:
            raise errors.BadRequest("schemas", f"{name}: {text[:40]!r} is no number") from None

    def page(self, entries: list[Any]) -> list[Any]:
        """The part of a list that ``offset`` and ``limit`` ask for."""
        first = max(0, self.number("offset", 0))
        limit = self.number("limit", -1)
        return entries[first:] if limit < 0 else entries[first : first + limit]

    async def schema(self) -> str:
        """The JSON Schema that was sent.

        Raises:
            Failure: it is none that is supported.
            errors.Error: the body cannot be read.
        """
        sent: Sent = await self.body(Sent)
        return sent.text()

    async def body(self, kind: Any) -> Any:
        """The body's JSON as a type.

        Raises:
            errors.Error: it is not of that type, or too long.
        """
        try:
            return msgspec.json.decode(await self._read(), type=kind)
        except codec.DECODE_ERRORS as exc:
            raise codec.bad_input("schemas", exc) from None


def subject_in(name: str) -> str:
    """A subject's own name, without the context before it.

    Raises:
        Failure: it is in another context than the default one.
    """
    if name.startswith(":."):
        if not name.startswith(CONTEXT):
            raise Failure(42208, "there are no contexts here: namespaces keep schemas apart")
        name = name.removeprefix(CONTEXT)
    return name
