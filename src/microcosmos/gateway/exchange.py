"""One HTTP exchange as Granian gives it, for wrappers that look at its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Header = tuple[str, str]


class Exchange:
    """An exchange seen through: subclasses are told of its answer in `answering` and `body`.

    Everything else, of WebSockets too, is the inner one's.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def answering(self, status: int, headers: Sequence[Header]) -> list[Header]:
        """The answer begins; gives the headers to send."""
        return list(headers)

    def body(self, size: int) -> None:
        """So many bytes of the answer's body are sent."""

    def __call__(self) -> Any:
        return self._inner()

    def __aiter__(self) -> Any:
        # Refused where the body is being read already; the inner one is its own iterator.
        aiter(self._inner)
        return self

    def __anext__(self) -> Any:
        return anext(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def response_empty(self, status: int, headers: Sequence[Header]) -> None:
        self._inner.response_empty(status, self.answering(status, headers))

    def response_str(self, status: int, headers: Sequence[Header], body: str) -> None:
        sent = self.answering(status, headers)
        self.body(len(body.encode()))
        self._inner.response_str(status, sent, body)

    def response_bytes(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        sent = self.answering(status, headers)
        self.body(len(body))
        self._inner.response_bytes(status, sent, body)

    def response_file(self, status: int, headers: Sequence[Header], file: str) -> None:
        self._inner.response_file(status, self.answering(status, headers), file)

    def response_file_range(
        self, status: int, headers: Sequence[Header], file: str, start: int, end: int
    ) -> None:
        sent = self.answering(status, headers)
        self.body(end - start)
        self._inner.response_file_range(status, sent, file, start, end)

    def response_stream(self, status: int, headers: Sequence[Header]) -> Any:
        return self._inner.response_stream(status, self.answering(status, headers))
