"""One run of the command line: what commands are given as click's context object."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from microcosmos.base.home import Home, ServerInfo

from . import durations, pairs
from .environments import Environments
from .settings import UserSettings

if TYPE_CHECKING:
    from microcosmos.registry import Endpoint, Service

    from .caller import Caller

DEFAULT_NAMESPACE = "micro"


class Session:
    """Where this run's commands find the platform and the user's settings.

    Attributes:
        home: the MICRO_HOME.
        namespace: the namespace that calls are made in.
        profile: the profile that was asked for; empty is none.
        output: ``table`` or ``json``.
        environment: the one that was asked for; empty is the selected one.
        at_prompt: whether other commands follow in this process.
    """

    def __init__(self, *, at_prompt: bool = False) -> None:
        self.at_prompt = at_prompt
        self.home = Home()
        self.namespace = DEFAULT_NAMESPACE
        self.profile = ""
        self.output = "table"
        self.environment = ""

    def choose(self, home: str, environment: str, namespace: str, profile: str) -> None:
        """Take over the global flags; an empty one leaves it to the environment variables."""
        if home:
            self.home = Home(home)
        self.namespace = namespace or os.environ.get("MICRO_NAMESPACE") or DEFAULT_NAMESPACE
        self.profile = profile
        self.environment = environment or os.environ.get("MICRO_ENV", "")

    @cached_property
    def settings(self) -> UserSettings:
        """The user's config.json."""
        return UserSettings(self.home.path / "config.json")

    @cached_property
    def environments(self) -> Environments:
        """The platforms that the user knows."""
        return Environments(self.home, self.settings)

    @cached_property
    def caller(self) -> Caller:
        """Calls services of the selected environment."""
        # Imported here: `micro env` or a help page calls nobody.
        from .caller import Caller

        return Caller(self.home, self.environments.choose(self.environment), self.namespace)

    @property
    def server(self) -> ServerInfo | None:
        """The running server of this home, when calls go there."""
        here = self.environments.choose(self.environment).local
        return self.home.server_info() if here else None

    @property
    def trace(self) -> str:
        """The trace of the calls made so far; empty before the first."""
        return self.caller.trace if "caller" in self.__dict__ else ""

    def core(self, service: str, endpoint: str, request: Any = None, **options: Any) -> bytes:
        """Call a core service; see `Caller.core`."""
        return self.caller.core(service, endpoint, request, **options)

    def call(
        self,
        service: str,
        endpoint: str,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float,
    ) -> bytes:
        """Call any service; see `Caller.call`."""
        return self.caller.call(service, endpoint, body, metadata=metadata, timeout=timeout)

    def stream(
        self,
        service: str,
        endpoint: str,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = 0,
        known: Iterable[Service] | None = None,
    ) -> Iterator[bytes]:
        """The messages of a stream, at most ``limit`` unless that is 0; see `Caller.stream`.

        Lines of the standard input are sent to an endpoint that takes a stream.
        """
        from .items import InputLines

        versions = list(self.describe(service) if known is None else known)
        takes = any(takes_stream(version.endpoint(endpoint)) for version in versions)
        lines = InputLines() if takes else None
        messages = self.caller.stream(
            service,
            endpoint,
            body,
            metadata=metadata,
            timeout=timeout,
            items=lines or (),
            known=versions,
        )
        try:
            yield from itertools.islice(messages, limit or None)
        finally:
            if lines is not None:
                lines.close()

    def describe(self, service: str) -> list[Service]:
        """Every version of a service; see `Caller.describe`."""
        return self.caller.describe(service)

    def proto(self, service: str) -> bytes:
        """The protobuf file of a service; see `Caller.proto`."""
        return self.caller.proto(service)

    def duration(self, text: str, where: str) -> float:
        """Seconds of ``5s`` or ``1m30s``; see `durations.parse`."""
        return durations.parse(text, where)

    def pairs(self, flag: str, texts: Iterable[str]) -> dict[str, str]:
        """Names and values of ``a=1`` given repeatedly; see `pairs.parse`."""
        return pairs.parse(flag, texts)

    def example(self, service: str) -> dict[str, str]:
        """How to call a service that runs; see `examples.of`."""
        from . import examples

        return examples.of(service, self.caller, self.server)

    def progress(self, text: str) -> None:
        """Tell somebody who watches that something takes its time."""
        if sys.stderr.isatty():
            click.echo(text, err=True)


def streams(endpoint: Endpoint | None) -> bool:
    """Whether an endpoint answers with a stream or takes one."""
    return endpoint is not None and endpoint.metadata.get("stream") == "true"


def takes_stream(endpoint: Endpoint | None) -> bool:
    """Whether the caller of an endpoint may stream, too."""
    return endpoint is not None and endpoint.metadata.get("micro.stream") in ("client", "both")
