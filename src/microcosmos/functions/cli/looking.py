"""`micro functions list`, `get`, `history`, `logs`, `consumption` and `verify`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import click
import msgspec

from microcosmos.base import codec, errors
from microcosmos.functions import limits, placeholders
from microcosmos.functions.interface import Function, State, Version
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
from microcosmos.monitor.ledger.cli import Used, asked, shown
from microcosmos.monitor.ledger.showing import Cells
from microcosmos.monitor.ledger.wire import Consumption, ConsumptionRequest

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
        version=_shares(one) + _standing(one),
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


def _standing(one: Function) -> str:
    """`` (refused)``, if one of the versions that get requests is."""
    states = {one.states[version].state for version in one.shares if version in one.states}
    return f" ({max(states)})" if states else ""


def _state(version: str, state: State) -> str:
    """``v3 has 2 strikes and is refused until …: why``."""
    strikes = "1 strike" if state.strikes == 1 else f"{state.strikes} strikes"
    now = "is refused" if state.state == "refused" else "runs in a process of its own"
    return f"{version} has {strikes} and {now} until {state.until[:19]}Z: it was {state.reason}"


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
            "state": "; ".join(_state(*one) for one in self.states.items()),
            "hash": version.hash,
            "runs": f"{version.form} in {version.language} on {version.engine}",
            "begins": version.main,
            "files": ", ".join(version.files),
            "env": ", ".join(version.env),
            "secrets": ", ".join(self.secrets),
            "used by": "; ".join(
                f"{name} in {placeholders.shown(uses)}"
                for name, uses in version.secret_uses.items()
            ),
            "hosts": ", ".join(version.hosts),
            "routes": ", ".join(version.routes),
            "grants": ", ".join(version.grants),
            "on": ", ".join(version.on),
            "isolation": version.isolation,
            "limits": limits.line(self.limits),
            "created": self.created,
            "updated": self.updated,
            "author": version.author,
            "message": version.message,
        }
        return "\n".join(f"{name + ':':9} {text}" for name, text in facts.items() if text)


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


@click.command(short_help="Show what functions have used")
@asked
@click.pass_obj
def consumption(
    session: Session, name: str, since: str, by: str | None
) -> Used | Consumption | list[Cells] | str:
    """Show what a function has used since its first deploy, or all of them.

    Consumption, or BYTE·MS, is the sum over requests of the bytes of its heap times their
    milliseconds. Hours and days are those of UTC. On deno heap and processor are the function's
    part of its process, which a * marks. `micro ledger` shows services and apps too.
    """
    request = msgspec.convert({"name": name, "since": since, "by": by or ""}, ConsumptionRequest)
    return shown(
        lambda asked: ask(session, "Consumption", asked, Consumption), request, session.output
    )


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
