"""`micro functions diff`, `rollback`, `split` and `delete`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from microcosmos.functions.interface import Function, Version
from microcosmos.functions.requests import (
    DEPLOYING,
    Diff,
    DiffRequest,
    NameRequest,
    NumberRequest,
    Pardoned,
    SplitRequest,
)

from .deploying import Deployed, deployed
from .looking import Shown
from .session import Session, ask, change, number


@click.command(short_help="Compare two versions of a function")
@click.argument("name")
@click.argument("old", default="", metavar="[VERSION]")
@click.argument("new", default="", metavar="[VERSION]")
@click.pass_obj
def diff(session: Session, name: str, old: str, new: str) -> Any:
    """Show what differs between two versions of a function.

    Without versions they are the newest that gets requests and the one before it, with one that
    and the newest.
    """
    request = DiffRequest(name, number(old), number(new))
    found = ask(session, "Diff", request, Diff, timeout=30.0)
    if session.output == "json":
        return found
    return found.text or f"v{found.old} and v{found.new} are the same."


@click.command(short_help="Deploy an old version once more")
@click.argument("name")
@click.argument("version", default="", metavar="[VERSION]")
@click.pass_obj
def rollback(session: Session, name: str, version: str) -> Deployed:
    """Deploy an old version of a function once more, as a new version.

    Without one it is that before the newest that gets requests. Secrets have the values of now.
    """
    answer = change(session, "Rollback", NumberRequest(name, number(version)), DEPLOYING)
    return deployed(session, name, msgspec.json.decode(answer, type=Version))


@click.command(short_help="Divide requests among versions")
@click.argument("name")
@click.argument("shares", metavar="v12=90,v13=10")
@click.pass_obj
def split(session: Session, name: str, shares: str) -> Function | str:
    """Divide the requests of a function among versions, by hundredths."""
    answer = change(session, "Split", SplitRequest(name, _shares(shares)))
    found = msgspec.json.decode(answer, type=Shown)
    if session.output == "json":
        return found
    return ", ".join(f"{version} gets {part} %" for version, part in found.shares.items())


def _shares(text: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for pair in text.split(","):
        version, _, part = pair.partition("=")
        chosen = number(version.strip())
        part = part.strip().removesuffix("%")
        if not part.isdecimal() or len(part) > 3 or chosen in (0, *found):
            raise click.UsageError(f"{pair!r:.40} is not of the form v12=90")
        found[chosen] = int(part)
    return found


@click.command(short_help="Forget what a function has done")
@click.argument("name")
@click.pass_obj
def pardon(session: Session, name: str) -> Pardoned | str:
    """Let all versions of a function run as if they had never held up or killed their worker.

    `micro functions get` shows which of them have strikes, and why.
    """
    found = msgspec.json.decode(change(session, "Pardon", NameRequest(name)), type=Pardoned)
    if session.output == "json":
        return found
    return f"{name} is pardoned." if found.versions else f"{name} has no strikes."


@click.command(short_help="Delete a function")
@click.argument("name")
@click.pass_obj
def delete(session: Session, name: str) -> str:
    """Delete a function, with its versions, secrets, counts and log."""
    change(session, "Delete", NameRequest(name))
    return f"{name} is deleted."
