"""`micro env`: show, add and choose environments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from .environments import DEFAULT_ADDRESS, Environment
from .render import columns
from .session import Session


class _Listing(list[Environment]):
    """The environments as Micro lists them: a star at the selected one, no headings."""

    def readable(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rows = [("*" if one.selected else " ", one.name, one.address) for one in self]
        return columns(rows, gap=" ")


@click.group(invoke_without_command=True)
@click.pass_context
def env(ctx: click.Context) -> Any:
    """Show, add and choose environments.

    An environment is a platform that commands talk to, by the address of its proxy; without a
    port that means 443 with TLS. `local` is the server of this MICRO_HOME.
    """
    session: Session = ctx.obj
    return None if ctx.invoked_subcommand else _Listing(session.environments.all())


@env.command(short_help="Print the selected environment")
@click.pass_obj
def get(session: Session) -> str:
    """Print the selected environment."""
    return session.environments.choose().name


@env.command("set", short_help="Choose an environment")
@click.argument("name")
@click.pass_obj
def set_(session: Session, name: str) -> None:
    """Choose an environment."""
    session.environments.select(name)


@env.command(short_help="Add an environment")
@click.argument("name")
@click.argument("address", default=DEFAULT_ADDRESS)
@click.pass_obj
def add(session: Session, name: str, address: str) -> None:
    """Add an environment."""
    session.environments.add(name, address)


@env.command("del", short_help="Delete an environment")
@click.argument("name")
@click.pass_obj
def del_(session: Session, name: str) -> None:
    """Delete an environment."""
    session.environments.remove(name)
