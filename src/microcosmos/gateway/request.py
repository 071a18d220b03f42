"""A request as the policies change it, in the shape that an RSGI application takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Pairs = list[tuple[str, str]]


class Headers:
    """Headers in the shape of Granian's."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def items(self) -> Pairs:
        """Names in lower case and values; a name may come again."""
        return self._pairs

    def keys(self) -> list[str]:
        return [name for name, _ in self._pairs]

    def values(self) -> list[str]:
        return [value for _, value in self._pairs]

    def get(self, name: str, default: Any = None) -> Any:
        """The last value of a name."""
        found = self.get_all(name)
        return found[-1] if found else default

    def get_all(self, name: str) -> list[str]:
        """Every value of a name."""
        name = name.lower()
        return [value for known, value in self._pairs if known == name]

    def __contains__(self, name: str) -> bool:
        return bool(self.get_all(name))


class Changed:
    """A scope with other headers; what is set on it hides what came, the rest is asked of that."""

    def __init__(self, scope: Any, pairs: Pairs, **changes: Any) -> None:
        self._scope = scope
        self.headers = Headers(pairs)
        self.change(**changes)

    def change(self, **changes: Any) -> None:
        """Let some things be others: ``path``, ``query_string``, and so on."""
        self.__dict__.update(changes)

    @property
    def connection(self) -> Any:
        """The scope as it came, with the client and scheme of the connection itself."""
        return getattr(self._scope, "connection", self._scope)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scope, name)


class Noted:
    """A protocol that adds headers to whatever is answered."""

    __slots__ = ("_headers", "_proto")

    def __init__(self, proto: Any, headers: Pairs) -> None:
        self._proto = proto
        self._headers = headers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._proto, name)

    def __call__(self) -> Any:
        return self._proto()

    def __aiter__(self) -> Any:
        return aiter(self._proto)

    def __anext__(self) -> Any:
        return anext(self._proto)

    def response_empty(self, status: int, headers: Pairs) -> None:
        self._proto.response_empty(status, self._with(headers))

    def response_str(self, status: int, headers: Pairs, body: str) -> None:
        self._proto.response_str(status, self._with(headers), body)

    def response_bytes(self, status: int, headers: Pairs, body: bytes) -> None:
        self._proto.response_bytes(status, self._with(headers), body)

    def response_file(self, status: int, headers: Pairs, file: str) -> None:
        self._proto.response_file(status, self._with(headers), file)

    def response_file_range(
        self, status: int, headers: Pairs, file: str, start: int, end: int
    ) -> None:
        self._proto.response_file_range(status, self._with(headers), file, start, end)

    def response_stream(self, status: int, headers: Pairs) -> Any:
        return self._proto.response_stream(status, self._with(headers))

    def _with(self, headers: Iterable[tuple[str, str]]) -> Pairs:
        return [*headers, *self._headers]


def without(pairs: Pairs, names: Iterable[str]) -> Pairs:
    """The headers but for some."""
    gone = frozenset(names)
    return [pair for pair in pairs if pair[0] not in gone]
