"""What the commands of functions ask of the command line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import click
import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.home import ServerInfo
from microcosmos.functions.requests import NAME

T = TypeVar("T")

_VERSION = re.compile(r"v?([1-9][0-9]{0,8})")


class Caller(Protocol):
    """Opens streams."""

    def stream(self, service: str, endpoint: str, body: bytes) -> Iterator[bytes]: ...


class Session(Protocol):
    """What these commands ask of the command line."""

    output: str

    @property
    def caller(self) -> Caller: ...

    @property
    def namespace(self) -> str: ...

    @property
    def server(self) -> ServerInfo | None: ...

    def core(
        self,
        service: str,
        endpoint: str,
        request: Any = None,
        *,
        timeout: float = 10.0,
        retry: bool = True,
    ) -> bytes: ...

    def asked(self, label: str, flag: str) -> str: ...

    def secret(self, given: str, label: str, flag: str) -> str: ...

    def progress(self, text: str) -> None: ...


def ask(session: Session, method: str, request: Any, kind: type[T], *, timeout: float = 10.0) -> T:
    """Ask the service `functions`."""
    with _typed():
        answer = session.core(NAME, f"Functions.{method}", request, timeout=timeout)
    found: T = codec.decode(answer, kind, id=NAME)
    return found


def change(session: Session, method: str, request: Any, timeout: float = 30.0) -> bytes:
    """Change something; it is not tried twice."""
    with _typed():
        return session.core(NAME, f"Functions.{method}", request, timeout=timeout, retry=False)


@contextlib.contextmanager
def _typed() -> Iterator[None]:
    """What is refused, sources aside, was typed wrongly."""
    try:
        yield
    except errors.BadRequest as error:
        if error.id != NAME:
            raise
        raise click.UsageError(error.detail) from None


def number(text: str) -> int:
    """The number of a version, ``v12`` or ``12``; 0 for an empty text.

    Raises:
        click.UsageError: it is none.
    """
    if not text:
        return 0
    if found := _VERSION.fullmatch(text):
        return int(found[1])
    raise click.UsageError(f"{text[:40]!r} is no version such as v12")


def pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """Names and values; a value may be anything, commas and equals signs included.

    Raises:
        click.UsageError: one has no name, or is said twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{flag}: {text[:40]!r} is not of the form NAME=value")
        if name in found:
            raise click.UsageError(f"{flag}: {name} is said twice")
        found[name] = value
    return found


class Line(msgspec.Struct, frozen=True):
    """A line of a log."""

    line: str

    def readable(self) -> str:
        """As it was written."""
        return self.line
