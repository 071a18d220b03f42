"""`micro services`, `micro get service`, `micro call` and `micro stream`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import click
import msgspec

from microcosmos.base import codec, errors, names
from microcosmos.base.schema import Value

from .interface import Endpoint, Found, Node, Service


class Session(Protocol):
    """What these commands ask of the command line."""

    @property
    def caller(self) -> Caller: ...

    def call(
        self,
        service: str,
        endpoint: str,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        timeout: float,
    ) -> bytes: ...

    def stream(
        self,
        service: str,
        endpoint: str,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        timeout: float | None,
        limit: int,
    ) -> Iterator[bytes]: ...

    def duration(self, text: str, where: str) -> float: ...

    def pairs(self, flag: str, texts: tuple[str, ...]) -> dict[str, str]: ...


class Caller(Protocol):
    """Finds what can be called."""

    def names(self) -> list[str]: ...

    def found(self, service: str) -> bytes: ...


@click.command()
@click.pass_obj
def services(session: Session) -> list[str]:
    """List the services."""
    return session.caller.names()


@click.group()
def get() -> None:
    """Get details of a service."""


@get.command("service", short_help="Show the nodes and endpoints of a service")
@click.argument("name")
@click.pass_obj
def get_service(session: Session, name: str) -> Description:
    """Show the nodes and endpoints of a service."""
    return msgspec.json.decode(session.caller.found(_service(name)), type=Description)


@click.command()
@click.argument("service")
@click.argument("endpoint")
@click.argument("request", default="{}", metavar="[JSON]")
@click.option("--metadata", multiple=True, metavar="key=value", help="What travels beside it.")
@click.option("--request_timeout", default="10s", metavar="duration", help="How long to wait.")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["json", "raw"]),
    default="json",
    help="The answer indented, or as it came.",
)
@click.pass_obj
def call(
    session: Session,
    service: str,
    endpoint: str,
    request: str,
    metadata: tuple[str, ...],
    request_timeout: str,
    output: str,
) -> bytes | str:
    """Call an endpoint of a service.

    ENDPOINT is Handler.Method, or Method of the service's own handler. JSON is the request; `-`
    reads it from the standard input.
    """
    timeout = session.duration(request_timeout, "--request_timeout")
    if not timeout:
        raise click.UsageError("--request_timeout: nothing answers in no time")
    answer = session.call(
        _service(service),
        _endpoint(service, endpoint),
        _body(request),
        metadata=session.pairs("--metadata", metadata),
        timeout=timeout,
    )
    return answer.decode("utf-8", "replace") if output == "raw" else answer


@click.command()
@click.argument("service")
@click.argument("endpoint")
@click.argument("request", default="{}", metavar="[JSON]")
@click.option("--metadata", multiple=True, metavar="key=value", help="What travels beside it.")
@click.option("--request_timeout", metavar="duration", help="How long it may last; no limit.")
@click.option("--limit", type=click.IntRange(0), default=0, help="End after so many messages.")
@click.pass_obj
def stream(
    session: Session,
    service: str,
    endpoint: str,
    request: str,
    metadata: tuple[str, ...],
    request_timeout: str | None,
    limit: int,
) -> Iterator[bytes]:
    """Print the messages of a stream as they come.

    ENDPOINT is Handler.Method, or Method of the service's own handler. JSON is the request. To
    an endpoint that takes a stream, each line of the standard input is sent as a message, in
    JSON. Ctrl-C ends it. --output json prints a message a line.
    """
    timeout = session.duration(request_timeout, "--request_timeout") if request_timeout else None
    if timeout == 0:
        raise click.UsageError("--request_timeout: nothing answers in no time")
    return session.stream(
        _service(service),
        _endpoint(service, endpoint),
        _json(request.encode()),
        metadata=session.pairs("--metadata", metadata),
        timeout=timeout,
        limit=limit,
    )


def _service(name: str) -> str:
    try:
        return names.check_service(name)
    except errors.BadRequest as exc:
        raise click.UsageError(exc.detail) from None


def _endpoint(service: str, word: str) -> str:
    try:
        return names.check_endpoint(names.endpoint_name(service, word))
    except errors.BadRequest as exc:
        raise errors.MethodNotAllowed(service, exc.detail) from None


def _body(request: str) -> bytes:
    return _json(sys.stdin.buffer.read() if request == "-" else request.encode())


def _json(body: bytes) -> bytes:
    try:
        codec.decode(body or b"{}")
    except errors.BadRequest as exc:
        raise click.UsageError(f"the request is no JSON: {exc.detail}") from None
    return body or b"{}"


class Description(Found):
    """A service for people: its versions, nodes, endpoints and their shapes."""

    services: list[Any]

    def readable(self) -> str:
        """As Micro prints it."""
        found = msgspec.convert(self.services, list[Service], strict=False)
        return "\n\n".join("\n".join(_version(service)) for service in found)


def _version(service: Service) -> Iterator[str]:
    yield f"service  {service.name}"
    yield ""
    yield f"version  {service.version}"
    yield ""
    rows = [("ID", "Address", "Metadata"), *map(_node, service.nodes)]
    ids, addresses = (max(len(row[at]) for row in rows) for at in (0, 1))
    yield from (f"{id:<{ids}}  {address:<{addresses}}  {rest}" for id, address, rest in rows)
    for endpoint in service.endpoints:
        yield ""
        yield from _shown(endpoint)


def _node(node: Node) -> tuple[str, str, str]:
    metadata = ",".join(f"{name}={text}" for name, text in sorted(node.metadata.items()))
    return node.id, node.address or "n/a", metadata or "n/a"


def _shown(endpoint: Endpoint) -> Iterator[str]:
    yield f"Endpoint: {endpoint.name}"
    if endpoint.metadata:
        pairs = (f"{name}={text}" for name, text in sorted(endpoint.metadata.items()))
        yield f"Metadata: {', '.join(pairs)}"
    for title, shape in (("Request", endpoint.request), ("Response", endpoint.response)):
        yield ""
        yield f"{title}: {{"
        yield from _fields(shape, "    ")
        yield "}"


def _fields(shape: Value, indent: str) -> Iterator[str]:
    for field in shape.values:
        if field.values:
            yield f"{indent}{field.name} {field.type} {{"
            yield from _fields(field, indent + "    ")
            yield f"{indent}}}"
        else:
            yield f"{indent}{field.name} {field.type}"
