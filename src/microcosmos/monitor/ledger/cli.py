"""`micro ledger`: what functions, services and apps have used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import click
import msgspec

from microcosmos.base import codec, errors

from .showing import Cells, readable, table
from .wire import NAME, Consumption, ConsumptionRequest

F = TypeVar("F", bound=Callable[..., Any])

Ask = Callable[[ConsumptionRequest], Consumption]
"""Asks for one page of what was used."""


class Session(Protocol):
    """What these commands ask of the command line."""

    output: str

    def core(self, service: str, endpoint: str, request: Any = None) -> bytes: ...


class Used(Consumption):
    """What was used, for people."""

    def readable(self) -> str:
        """A line for each measure."""
        return readable(self, self.since)


def asked(function: F) -> F:
    """The flags that say what is shown."""
    for option in (
        click.option(
            "--by",
            type=click.Choice(["version", "hour", "day", "account", "namespace"]),
            default=None,
            help="What the rows are; names unless said.",
        ),
        click.option("--since", default="", help="From when on: 24h, 7d, 2026-11-01; ever."),
        click.argument("name", required=False, default=""),
    ):
        function = option(function)
    return function


def shown(
    ask: Ask, request: ConsumptionRequest, output: str, *labels: str
) -> Used | Consumption | list[Cells] | str:
    """What was used, all pages of it.

    Args:
        ask: gives one page.
        request: of what.
        output: ``table`` or ``json``.
        labels: fields of rows that are shown beside what tells them apart.
    """
    try:
        found = ask(request)
        while found.next:
            page = ask(msgspec.structs.replace(request, after=found.next))
            found.rows += page.rows
            found.next = page.next
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None
    if output == "json":
        return found
    if request.name and not request.by:
        return Used(**{name: getattr(found, name) for name in Consumption.__struct_fields__})
    return table(found, [*_labels(request), *labels])


def _labels(request: ConsumptionRequest) -> list[str]:
    if request.by in ("hour", "day"):
        return ["begin"]
    if request.by == "version":
        return ["version"] if request.name else ["name", "version"]
    return [request.by or "name"]


@click.command(short_help="Show what was used")
@asked
@click.option("--kind", type=click.Choice(["function", "service", "app"]), help="Only these.")
@click.pass_obj
def ledger(
    session: Session, name: str, since: str, by: str | None, kind: str | None
) -> Used | Consumption | list[Cells] | str:
    """Show what functions, services and apps have used: one's own, as an admin all.

    Hours and days are those of UTC. BYTE·MS is the sum over requests of the bytes of memory times
    the milliseconds that they took; memory and processor with a * are their part of a process.
    """
    request = msgspec.convert(
        {"name": name, "kind": kind or "", "since": since, "by": by or ""}, ConsumptionRequest
    )

    def ask(request: ConsumptionRequest) -> Consumption:
        answer = session.core(NAME, "Ledger.Consumption", request)
        found: Consumption = codec.decode(answer, Consumption, id=NAME)
        return found

    kinds = [] if kind or by in ("hour", "day") else ["kind"]
    return shown(ask, request, session.output, *kinds)
