"""`micro functions list`, `get`, `history`, `logs`, `consumption` and `verify`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import click
import msgspec

from microcosmos.base import codec, errors
from microcosmos.functions.interface import Counts, Function, Version
from microcosmos.functions.requests import (
    NAME,
    History,
    HistoryRequest,
    Listed,
    ListRequest,
    LogsRequest,
    NameRequest,
    Verified,
)

from .session import Line, Session, ask


class Row(msgspec.Struct):
    """A line of `micro functions list`."""

    name: str
    version: str
    language: str
    form: str
    engine: str
    owner: str
    updated: datetime.datetime
    message: str


@click.command("list", short_help="List the functions")
@click.pass_obj
def list_(session: Session) -> list[Row] | list[Function] | None:
    """List the functions of the namespace: one's own, as an admin all."""
    page = ask(session, "List", ListRequest(), Listed)
    found = page.functions
    while page.next:
        page = ask(session, "List", ListRequest(page.next), Listed)
        found += page.functions
    if session.output == "json":
        return found
    return [_row(one) for one in found] or None


def _row(one: Function) -> Row:
    version = one.version
    return Row(
        name=one.name,
        version=_shares(one),
        language=version.language,
        form=version.form,
        engine=version.engine,
        owner=one.owner,
        updated=_when(one.updated),
        message=version.message,
    )


def _shares(one: Function) -> str:
    """``v12``, or ``v12=90,v13=10``."""
    if len(one.shares) == 1:
        return next(iter(one.shares))
    return ",".join(f"{number}={part}" for number, part in one.shares.items())


class Shown(Function, frozen=True):
    """A function, for people."""

    def readable(self) -> str:
        """A line for each thing that is known."""
        version = self.version
        facts = {
            "name": self.name,
            "url": self.url,
            "owner": self.owner,
            "version": _shares(self),
            "hash": version.hash,
            "runs": f"{version.form} in {version.language} on {version.engine}",
            "begins": version.main,
            "files": ", ".join(version.files),
            "env": ", ".join(version.env),
            "secrets": ", ".join(self.secrets),
            "hosts": ", ".join(version.hosts),
            "routes": ", ".join(version.routes),
            "grants": ", ".join(version.grants),
            "on": ", ".join(version.on),
            "created": self.created,
            "updated": self.updated,
            "author": version.author,
            "message": version.message,
        }
        return "\n".join(f"{name + ':':10}{text}" for name, text in facts.items() if text)


@click.command(short_help="Show a function")
@click.argument("name")
@click.pass_obj
def get(session: Session, name: str) -> Shown:
    """Show what is known of a function, and of its newest version that gets requests."""
    return ask(session, "Get", NameRequest(name), Shown)


class VersionRow(msgspec.Struct):
    """A line of `micro functions history`."""

    version: str
    hash: str
    author: str
    deployed: datetime.datetime
    engine: str
    message: str


@click.command(short_help="List the versions of a function")
@click.argument("name")
@click.option("--limit", "-l", type=click.IntRange(1), default=20, help="How many of the last.")
@click.pass_obj
def history(session: Session, name: str, limit: int) -> list[VersionRow] | list[Version]:
    """List the versions of a function, the newest first."""
    found: list[Version] = []
    more = True
    while more and len(found) < limit:
        before = found[-1].number if found else 0
        page = ask(session, "History", HistoryRequest(name, before), History)
        found += page.versions
        more = page.more
    if session.output == "json":
        return found[:limit]
    return [
        VersionRow(
            f"v{one.number}", one.hash[:12], one.author, _when(one.date), one.engine, one.message
        )
        for one in found[:limit]
    ]


@click.command(short_help="Show the log of a function")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on as lines are written.")
@click.option("--lines", "-n", type=click.IntRange(0), default=15, help="How many of the last.")
@click.pass_obj
def logs(session: Session, name: str, follow: bool, lines: int) -> Iterator[Line]:
    """Show what a function has written, and why it failed."""
    body = codec.encode(LogsRequest(name, lines, follow))
    for message in session.caller.stream(NAME, "Functions.Logs", body):
        yield msgspec.json.decode(message, type=Line)


class Used(Counts):
    """What a function has used, for people."""

    def readable(self) -> str:
        """CosmoCompute's four counters, and then ours; times in microseconds."""
        facts = {
            "requests": f"{self.requests:,}",
            "response bytes": f"{self.response_bytes:,}",
            "execution time": f"{self.execution_ns // 1000:,} µs",
            "consumption": f"{self.byte_ms:,} byte·ms",
            "errors": f"{self.errors:,}",
            "cpu time": f"{self.cpu_ns // 1000:,} µs",
            "fetches": f"{self.fetches:,}",
            "cold starts": f"{self.cold_starts:,}",
        }
        return "\n".join(f"{name + ':':16}{text}" for name, text in facts.items())


@click.command(short_help="Show what a function has used")
@click.argument("name")
@click.pass_obj
def consumption(session: Session, name: str) -> Used:
    """Show what a function has used since its first deploy.

    Consumption is the sum over requests of the bytes of its heap times their milliseconds.
    """
    return ask(session, "Consumption", NameRequest(name), Used)


@click.command(short_help="Check the chain of a function's versions")
@click.argument("name")
@click.pass_obj
def verify(session: Session, name: str) -> Verified | str:
    """Compute the hashes of all versions of a function anew, from what is kept of them.

    It ends with an error if one of them is not what it was when it was deployed.
    """
    found = ask(session, "Verify", NameRequest(name), Verified, timeout=150.0)
    if not found.problems:
        many = "1 version is" if found.versions == 1 else f"all {found.versions} versions are"
        return found if session.output == "json" else f"{name}: {many} as deployed."
    for problem in found.problems:
        click.echo(problem, err=True)
    raise errors.InternalServerError("functions.chain", f"{name} is not what was deployed")


def _when(stamp: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(stamp)
