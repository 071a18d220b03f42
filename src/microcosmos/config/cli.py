"""`micro config`: settings and secrets."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import click
import msgspec

from microcosmos.base import codec, errors

from . import wire


class Session(Protocol):
    """What these commands ask of the command line."""

    output: str

    def core(
        self,
        service: str,
        endpoint: str,
        request: Any = None,
        *,
        timeout: float = 10.0,
        retry: bool = True,
    ) -> bytes: ...

    def stream(self, service: str, endpoint: str, body: bytes) -> Iterator[bytes]: ...


@click.group()
def config() -> None:
    """Keep settings and secrets.

    A path is keys with dots between them: helloworld.somekey. A dot that belongs to a key is
    written after a backslash.
    """


@config.command(short_help="Print a value")
@click.argument("path", default="", metavar="[PATH]")
@click.option("--secret", "-s", is_flag=True, help="Show secrets in the clear.")
@click.pass_obj
def get(session: Session, path: str, secret: bool) -> Any:
    """Print what is at a path, or everything.

    A text is printed as it is, a number or a boolean as JSON, a map as JSON with sorted keys;
    secrets read [secret].
    """
    answer = _ask(session, "Get", {"path": path, "options": {"secret": secret}})
    found = msgspec.json.decode(answer, type=wire.GetResponse).value
    value: Any = codec.decode(found.data)
    if session.output == "json" and value is not None:
        return value
    return value if isinstance(value, str) else found.data


@config.command("set", short_help="Set a value", context_settings={"ignore_unknown_options": True})
@click.argument("path")
@click.argument("value")
@click.option("--secret", "-s", is_flag=True, help="Encrypt it, each leaf of a map.")
@click.pass_obj
def set_(session: Session, path: str, value: str, secret: bool) -> None:
    """Set a value.

    VALUE is JSON, or else a text; `-` reads it from the standard input, which keeps a secret out
    of the shell's history. A map merges with the one that is there, anything else replaces. What
    replaces a secret is a secret.
    """
    data = codec.encode(_parsed(_typed(value))).decode()
    request = {"path": path, "value": {"data": data, "format": wire.FORMAT}}
    _ask(session, "Set", {**request, "options": {"secret": secret}})


@config.command("del", short_help="Delete a value")
@click.argument("path")
@click.pass_obj
def del_(session: Session, path: str) -> None:
    """Delete a value, or a map with all that is in it."""
    _ask(session, "Delete", {"path": path})


class Row(msgspec.Struct):
    """A line of `micro config history`."""

    revision: int
    updated: datetime.datetime
    account: str
    action: str
    path: str
    old: str | None
    new: str | None


@config.command(short_help="Show what was changed, when and by whom")
@click.argument("path", default="", metavar="[PATH]")
@click.option("--limit", "-l", type=click.IntRange(1), default=20, help="How many revisions.")
@click.pass_obj
def history(session: Session, path: str, limit: int) -> list[Row]:
    """Show the changes at, below and above a path, the newest first; secrets read [secret]."""
    rows: list[Row] = []
    before = 0
    while limit > 0:
        asked = min(limit, wire.MAX_LISTED)
        request = {"path": path, "limit": asked, "before": before}
        answer = _ask(session, "History", request)
        found = msgspec.json.decode(answer, type=wire.HistoryResponse).revisions
        rows += [row for one in found for row in _rows(one)]
        if len(found) < asked:
            break
        limit -= asked
        before = found[-1].revision
    return rows


@config.command(short_help="Make everything what it was after a revision")
@click.argument("revision", type=click.IntRange(0))
@click.pass_obj
def rollback(session: Session, revision: int) -> str:
    """Make everything what it was after a revision, as a new revision."""
    answer = _ask(session, "Rollback", {"revision": revision})
    now = msgspec.json.decode(answer, type=wire.SetResponse).revision
    return f"Config is as it was after revision {revision}; this is revision {now}."


@config.command("rotate-key", short_help="Encrypt all secrets with a new key")
@click.pass_obj
def rotate_key(session: Session) -> str:
    """Encrypt the secrets of all namespaces with a new key.

    The old one is kept until that is done. A key that was given by --config_secret_key or
    MICRO_CONFIG_SECRET_KEY is changed there: put the new one before it, with a comma between
    them, restart the server, then use this.
    """
    answer = _ask(session, "RotateKey", {}, timeout=wire.ROTATION)
    done = msgspec.json.decode(answer, type=wire.RotateResponse)
    return f"The key is {done.key} now; secrets encrypted with it: {done.secrets}."


class Changed(wire.Changed):
    """A change, for people."""

    def readable(self) -> str:
        """Its path, and what is there now."""
        return f"{self.path} {'is deleted' if self.value is None else self.value.data}"


@config.command(short_help="Print changes as they are made")
@click.argument("path", default="", metavar="[PATH]")
@click.option("--secret", "-s", is_flag=True, help="Show secrets in the clear.")
@click.pass_obj
def watch(session: Session, path: str, secret: bool) -> Iterator[Changed]:
    """Print the changes at and below a path as they are made, until Ctrl-C."""
    request = {"path": path, "options": {"secret": secret}}
    messages = session.stream(wire.NAME, "Config.Watch", codec.encode(request))
    return (msgspec.json.decode(message, type=Changed) for message in messages)


def _ask(session: Session, method: str, request: dict[str, Any], *, timeout: float = 10.0) -> bytes:
    try:
        return session.core(wire.NAME, f"Config.{method}", request, timeout=timeout)
    except errors.BadRequest as error:
        # A path or a value that cannot be is a word of the command line.
        raise click.UsageError(error.detail) from None


def _typed(value: str) -> str:
    if value != "-":
        return value
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeError:
        raise click.UsageError("the standard input is not valid UTF-8") from None


def _parsed(text: str) -> Any:
    """The JSON of a text, or the text."""
    try:
        return codec.decode(text)
    except errors.BadRequest:
        return text


def _rows(revision: wire.ShownRevision) -> Iterator[Row]:
    when = datetime.datetime.fromtimestamp(revision.time, datetime.UTC)
    for one in revision.changes:
        yield Row(
            revision.revision,
            when,
            revision.account,
            revision.action,
            one.path,
            one.old or None,
            one.new or None,
        )
