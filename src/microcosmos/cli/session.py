"""One run of the command line: what commands are given as click's context object."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from microcosmos.base import errors, names
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home, ServerInfo

from . import durations, pairs
from .environments import Environments
from .settings import UserSettings

if TYPE_CHECKING:
    from microcosmos.auth.logins import Logins
    from microcosmos.registry import Endpoint, Service

    from .caller import Caller

NAMESPACES = "namespaces"
"""Where config.json keeps the namespace of each environment, as Micro v3 did."""


class Session:
    """Where this run's commands find the platform and the user's settings.

    Attributes:
        home: the MICRO_HOME.
        profile: the profile that was asked for; empty is none.
        output: ``table`` or ``json``.
        environment: the one that was asked for; empty is the selected one.
        at_prompt: whether other commands follow in this process.
    """

    def __init__(self, *, at_prompt: bool = False) -> None:
        self.at_prompt = at_prompt
        self.home = Home()
        self.profile = ""
        self.output = "table"
        self.environment = ""
        self._namespace = ""

    def choose(self, home: str, environment: str, namespace: str, profile: str) -> None:
        """Take over the global flags; an empty one leaves it to the environment variables."""
        if home:
            self.home = Home(home)
        self._namespace = namespace or os.environ.get("MICRO_NAMESPACE", "")
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
    def logins(self) -> Logins:
        """Who the user is at each platform."""
        # Imported here: `micro env` or a help page needs none.
        from microcosmos.auth.logins import Logins

        return Logins(self.home.path / "tokens")

    @property
    def login_key(self) -> str:
        """Under which name the logins of the selected environment are kept."""
        from .identity import key_of

        return key_of(self.environments.choose(self.environment))

    @cached_property
    def namespace(self) -> str:
        """The namespace that calls are made in.

        It is the flag's, else the variable's, else the one set for the environment, else that of
        the last login there.

        Raises:
            click.UsageError: it is no name of a namespace.
        """
        if chosen := self.chosen_namespace:
            return chosen
        last = self.logins.last(self.login_key)
        return last.namespace if last else DEFAULT_NAMESPACE

    @property
    def chosen_namespace(self) -> str:
        """The namespace, if the user has said one; else empty.

        Raises:
            click.UsageError: it is no name of a namespace.
        """
        chosen = self._namespace or self.kept_namespace
        return checked(chosen) if chosen else ""

    @property
    def kept_namespace(self) -> str:
        """The one that `micro user namespace set` chose for the environment; empty is none."""
        kept = self.settings.read().get(NAMESPACES)
        name = self.environments.choose(self.environment).name
        return str(kept.get(name) or "") if isinstance(kept, dict) else ""

    def keep_namespace(self, name: str, namespace: str) -> None:
        """Choose the namespace of an environment; empty forgets it."""

        def change(document: dict[str, Any]) -> None:
            if not isinstance(document.get(NAMESPACES), dict):
                document[NAMESPACES] = {}
            document[NAMESPACES].pop(name, None)
            if namespace:
                document[NAMESPACES][name] = namespace
            if not document[NAMESPACES]:
                del document[NAMESPACES]

        self.settings.change(change)

    def enter(self, namespace: str) -> None:
        """Make calls in another namespace from now on."""
        self._namespace = namespace
        for known in ("namespace", "caller"):
            self.__dict__.pop(known, None)

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

    def asked(self, label: str, flag: str) -> str:
        """What the user types after a label; see `asking.asked`."""
        from . import asking

        return asking.asked(label, flag)

    def secret(self, given: str, label: str, flag: str) -> str:
        """A password that was given or is asked for; see `asking.secret`."""
        from . import asking

        return asking.secret(given, label, flag)

    @property
    def exposed(self) -> str:
        """The address that passwords are sent to for everybody on the way to read; or empty."""
        from .environments import exposed

        environment = self.environments.choose(self.environment)
        return environment.address if exposed(environment) else ""

    def progress(self, text: str) -> None:
        """Tell somebody who watches that something takes its time."""
        if sys.stderr.isatty():
            click.echo(text, err=True)


def checked(namespace: str) -> str:
    """The name of a namespace when it is a good one.

    Raises:
        click.UsageError: it is not.
    """
    try:
        return names.check_namespace(namespace)
    except errors.BadRequest as exc:
        raise click.UsageError(exc.detail) from None


def streams(endpoint: Endpoint | None) -> bool:
    """Whether an endpoint answers with a stream or takes one."""
    return endpoint is not None and endpoint.metadata.get("stream") == "true"


def takes_stream(endpoint: Endpoint | None) -> bool:
    """Whether the caller of an endpoint may stream, too."""
    return endpoint is not None and endpoint.metadata.get("micro.stream") in ("client", "both")
