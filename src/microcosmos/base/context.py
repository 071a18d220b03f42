"""What travels with every call: metadata, deadline, namespace, account, trace.

One context variable carries it; handlers read it with `current()`, and calls they make inherit
what is left of the deadline, the trace and the metadata that is meant to travel.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from functools import lru_cache
from typing import ClassVar

from . import errors

NAMESPACE = "Micro-Namespace"
TRACE = "Micro-Trace"
TIMEOUT = "Timeout"
AUTHORIZATION = "Authorization"

CLIENT_ADDRESS = "Micro-Client-Address"
"""Where a client is, as a door of the platform says to the service `auth`; no client's own word."""

DEFAULT_NAMESPACE = "micro"

# Of an HTTP request's headers these describe its own body and connection, not the call.
_OWN = frozenset(
    (
        "Accept",
        "Accept-Encoding",
        "Connection",
        "Content-Encoding",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Expect",
        "Host",
        "Keep-Alive",
        CLIENT_ADDRESS,
        "Te",
        "Timeout",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    )
)


@lru_cache(maxsize=2048)
def title(name: str) -> str:
    """A metadata name as it is sent: ``x-request-id`` is ``X-Request-Id``."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Control characters end a header, and halves of broken characters cannot be written at all.
_BAD_VALUE = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def sendable(name: str, value: str) -> tuple[str, str]:
    """A pair of metadata as it is sent, on every transport: Title-Cased, without outer blanks.

    Raises:
        errors.BadRequest: a name or value that could not be a header (line breaks, for one).
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise errors.BadRequest("metadata", f"{name!r:.80} cannot be the name of metadata")
    if not isinstance(value, str) or _BAD_VALUE.search(value):
        raise errors.BadRequest("metadata", f"the value of {name} cannot be sent: {value!r:.80}")
    return title(name), value.strip()


class Metadata(MutableMapping[str, str]):
    """Names and values beside a call's body; names are case-insensitive, sent Title-Cased."""

    __slots__ = ("raw",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.raw: dict[str, str] = {title(k): v for k, v in values.items()} if values else {}

    @classmethod
    def wrap(cls, titled: dict[str, str]) -> Metadata:
        """Take a dict whose names are Title-Cased already, without a copy."""
        self = cls.__new__(cls)
        self.raw = titled
        return self

    def __getitem__(self, name: str) -> str:
        return self.raw[title(name)]

    def __setitem__(self, name: str, value: str) -> None:
        # Checked here, where a handler sets it: what is inherited is sent as it stands.
        titled, text = sendable(name, value)
        self.raw[titled] = text

    def __delitem__(self, name: str) -> None:
        del self.raw[title(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and title(name) in self.raw

    def __repr__(self) -> str:
        return f"Metadata({self.raw!r})"


class Context:
    """The circumstances of one call.

    Attributes:
        metadata: what the caller sent beside the body.
        deadline: when the caller stops waiting, in `time.monotonic` seconds, or None.
        account: who calls, once a verifier has said so; None is anonymous.
        client: what the process that handles the call makes its own calls with.
    """

    __slots__ = ("account", "client", "deadline", "metadata")

    outside: ClassVar[bool] = False
    """Whether no call is being handled, so that what is called is not called for anybody."""

    def __init__(
        self,
        metadata: Metadata | None = None,
        deadline: float | None = None,
        account: object | None = None,
        client: object | None = None,
    ) -> None:
        self.metadata = Metadata() if metadata is None else metadata
        self.deadline = deadline
        self.account = account
        self.client = client

    @property
    def namespace(self) -> str:
        """The namespace the call is made in, ``micro`` unless said."""
        return self.metadata.raw.get(NAMESPACE, DEFAULT_NAMESPACE)

    @property
    def trace(self) -> str:
        """The id that ties the logs of one request together."""
        return self.metadata.raw.get(TRACE, "")

    def remaining(self) -> float | None:
        """Seconds until the deadline (0 when it has passed), or None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    def outgoing(self) -> dict[str, str]:
        """The metadata that a call made from here carries on, as a fresh dict."""
        return {k: v for k, v in self.metadata.raw.items() if k not in _OWN}


class Unasked(Context):
    """The circumstances of a program that handles no call: a message or an event at most.

    What is called is called by the process itself, with the metadata that is here.
    """

    __slots__ = ()

    outside = True


_current: ContextVar[Context | None] = ContextVar("microcosmos.context", default=None)

set_current = _current.set
"""Make a context the current one of this task."""


def current() -> Context:
    """The context of the call being handled; outside of one, an empty context."""
    return _current.get() or Unasked()


def current_or_none() -> Context | None:
    """The context of the call being handled, or None outside of one."""
    return _current.get()


@contextmanager
def carrying(metadata: Mapping[str, str]) -> Iterator[Context]:
    """Calls made in the block carry this metadata, beside what they would have carried.

        with carrying({"Foobar": "mycustomval"}):
            await users.list()

    Raises:
        errors.BadRequest: a name or value that could not be a header.
    """
    inner = copy(current())
    inner.metadata = Metadata.wrap(dict(inner.metadata.raw))
    inner.metadata.update(metadata)
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)


def new_trace() -> str:
    """A fresh trace id: 32 hexadecimal digits, as W3C trace context has them."""
    return f"{random.getrandbits(128):032x}"
