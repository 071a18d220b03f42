"""`micro functions invoke`."""

from __future__ import annotations

import base64
import datetime
import re
import sys
from pathlib import Path

import click
import msgspec

from microcosmos.base import errors
from microcosmos.functions import amounts
from microcosmos.functions.interface import Replay
from microcosmos.functions.requests import Invoked, InvokeRequest

from .session import Session, change

_PATIENCE = 70.0
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Answered(msgspec.Struct, omit_defaults=True):
    """What a function has answered, as JSON; a body that is no text is base64."""

    status: int
    headers: list[tuple[str, str]]
    body: str
    encoding: str = ""


@click.command(short_help="Send a function a request")
@click.argument("name")
@click.option("--method", "-X", default="", help="GET unless said, POST with data.")
@click.option("--path", default="", metavar="PATH", help="Below its family, with a query string.")
@click.option("--header", "-H", multiple=True, metavar="Name: value", help="A header.")
@click.option("--data", "-d", default=None, help="The body; @FILE reads one, @- standard input.")
@click.option("--include", "-i", is_flag=True, help="Print the status and the headers too.")
@click.option("--seed", default=None, help="Of its randomness, which is the same each time.")
@click.option(
    "--clock", default=None, metavar="TIME", help="When it begins: RFC 3339, or ms since 1970."
)
@click.option(
    "--step", default=None, metavar="TIME", help="How far the clock goes on at each look; 0."
)
@click.pass_obj
def invoke(
    session: Session,
    name: str,
    method: str,
    path: str,
    header: tuple[str, ...],
    data: str | None,
    include: bool,
    seed: str | None,
    clock: str | None,
    step: str | None,
) -> Answered | None:
    """Send a function a request and print what it answers.

    An answer with a status of 400 and above is printed too, and ends with an error.

    With --seed, --clock or --step it is answered in a fresh world, in which randomness and time
    are the same each time; so is the answer. The owner of a function may do so, and an admin.
    """
    body = _body(data)
    request = InvokeRequest(
        name=name,
        method=method or ("GET" if body is None else "POST"),
        path=path,
        headers=[_header(text) for text in header],
        body=body or b"",
        replay=_replay(seed, clock, step),
    )
    answer = change(session, "Invoke", request, _PATIENCE)
    found = msgspec.json.decode(answer, type=Invoked)
    if session.output == "json":
        return _answered(found)
    if include:
        click.echo(f"HTTP {found.status}")
        for pair in found.headers:
            click.echo(": ".join(pair))
        click.echo()
    sys.stdout.buffer.write(found.body)
    if sys.stdout.isatty() and not found.body.endswith(b"\n"):
        click.echo()
    sys.stdout.flush()
    if found.status >= 400:
        raise errors.of_code(found.status, name, f"{name} answered {found.status}")
    return None


def _replay(seed: str | None, clock: str | None, step: str | None) -> Replay | None:
    if seed is clock is step is None:
        return None
    try:
        seconds = amounts.read(step, "seconds", "--step") if step else 0.0
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None
    return Replay(seed=seed or "", clock=_moment(clock or "0"), step=seconds * 1000)


def _moment(text: str) -> float:
    """Milliseconds since the epoch."""
    try:
        if re.fullmatch(r"-?\d{1,18}(\.\d{1,9})?", text, re.ASCII):
            return float(text)
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        form = "2026-01-01T00:00:00Z, nor milliseconds since 1970"
        raise click.UsageError(f"--clock: {text[:40]!r} is no time such as {form}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) / datetime.timedelta(milliseconds=1)


def _answered(found: Invoked) -> Answered:
    try:
        return Answered(found.status, found.headers, found.body.decode())
    except UnicodeDecodeError:
        text = base64.b64encode(found.body).decode()
        return Answered(found.status, found.headers, text, "base64")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"--header: {text[:40]!r} is not of the form Name: value")
    return name.strip(), value.strip()


def _body(data: str | None) -> bytes | None:
    if data is None or not data.startswith("@"):
        return None if data is None else data.encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as exc:
        raise click.UsageError(f"{data[1:]}: {(exc.strerror or str(exc)).lower()}") from None
