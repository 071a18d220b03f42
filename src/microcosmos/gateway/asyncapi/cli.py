"""`micro events asyncapi`: the document of what is published, for tools that read a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

FORMATS = ("json", "yaml", "html")


class Session(Protocol):
    """What this command asks of the command line."""

    namespace: str

    @property
    def caller(self) -> Caller: ...

    @property
    def server(self) -> ServerInfo | None: ...

    def core(self, service: str, endpoint: str, request: Any = None) -> bytes: ...


class Caller(Protocol):
    """Lists what can be called."""

    def names(self) -> list[str]: ...


class ServerInfo(Protocol):
    """Where the doors of the server are."""

    @property
    def addresses(self) -> dict[str, str]: ...


@click.command(short_help="Print the AsyncAPI document")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=None,
    help="What is written: a document, or a page; as FILE ends, else json.",
)
@click.option(
    "--output", "-o", default="-", metavar="FILE", help="Where it is written; `-` prints it."
)
@click.pass_obj
def asyncapi(session: Session, form: str | None, output: str) -> None:
    """Print the AsyncAPI document of the namespace: its topics, and who publishes and reads them.

    With `--format html` it is a page that needs nothing else.
    """
    # Imported here: other commands of `micro events` need none of it.
    from . import page, yaml
    from .document import document
    from .known import CONSUMERS, EVENTS, LIST, flows

    subjects, consumers = (session.core(EVENTS, endpoint, {}) for endpoint in (LIST, CONSUMERS))
    info = session.server
    server = info.addresses.get("nats", "") if info is not None else ""
    services = frozenset(session.caller.names())
    found = document(flows(session.namespace, subjects, consumers, services, server))
    match form or _form(output):
        case "yaml":
            text = yaml.write(found)
        case "html":
            text = page.write(found)
        case _:
            text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
    if output == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        Path(output).write_bytes(text.encode())
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise click.ClickException(f"{output} cannot be written: {reason}") from None


def _form(output: str) -> str:
    """The form that a file's name asks for."""
    suffix = Path(output).suffix.lower()
    return {".yaml": "yaml", ".yml": "yaml", ".html": "html", ".htm": "html"}.get(suffix, "json")
