"""`micro openapi`: the document of the services that run, for tools that read a file."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import click
import msgspec

from microcosmos.registry.interface import Descriptions, Endpoint, Service

from . import document, shapes
from .document import Part


class Session(Protocol):
    """What this command asks of the command line."""

    @property
    def caller(self) -> Caller: ...

    @property
    def server(self) -> ServerInfo | None: ...

    def core(self, service: str, endpoint: str, request: Any = None) -> bytes: ...

    def describe(self, service: str) -> list[Service]: ...


class Caller(Protocol):
    """Lists what can be called."""

    def names(self) -> list[str]: ...


class ServerInfo(Protocol):
    """Where the doors of the server are."""

    @property
    def addresses(self) -> dict[str, str]: ...


@click.command()
@click.argument("service", default="")
@click.pass_obj
def openapi(session: Session, service: str) -> bytes:
    """Print the OpenAPI document of all services, or of one."""
    info = session.server
    url = f"http://{info.addresses['api']}" if info is not None else "/"
    if service:
        return document.single(_part(session, service), url)
    return document.whole([_part(session, name) for name in session.caller.names()], url)


def _part(session: Session, name: str) -> Part:
    described = functools.cache(session.describe)
    answer = session.core("registry", "Registry.Describe", {"service": name})
    versions = msgspec.json.decode(answer, type=Descriptions).services

    def endpoint(service: str, wanted: str) -> Endpoint | None:
        known = (version.endpoint(wanted) for version in described(service))
        return next((one for one in known if one is not None), None)

    return document.part(shapes.completed(versions, endpoint))
