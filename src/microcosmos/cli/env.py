"""`micro env`: show, add and choose environments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
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
    port that means 443 with TLS. `local` is the server of this MICRO_HOME. Each has logins of
    its own: see `micro login`.
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
@click.option("--ca", metavar="FILE", default="", help="Who signs its certificate, in PEM.")
@click.option("--cert", metavar="FILE", default="", help="Your certificate, if it asks for one.")
@click.option("--key", metavar="FILE", default="", help="The key of your certificate.")
@click.pass_obj
def add(session: Session, /, name: str, address: str, **files: str) -> None:
    """Add an environment.

    ADDRESS is host, for port 443 with TLS, or host:port without; https://host:port is with TLS.
    """
    paths = {what: _path(f"--{what}", path) for what, path in files.items() if path}
    if ("cert" in paths) != ("key" in paths):
        raise click.UsageError("--cert and --key go together: a certificate and its key")
    before = {one.address for one in session.environments.all() if one.name == name}
    session.environments.add(name, address, **paths)
    _forget_logins(session, before)


def _path(flag: str, text: str) -> str:
    """A file's absolute path, as other folders will need it."""
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise click.UsageError(f"{flag}: there is no file {text}")
    return str(path)


@env.command("del", short_help="Delete an environment")
@click.argument("name")
@click.pass_obj
def del_(session: Session, name: str) -> None:
    """Delete an environment, with the logins there."""
    before = {one.address for one in session.environments.all() if one.name == name}
    session.environments.remove(name)
    session.keep_namespace(name, "")
    _forget_logins(session, before)


def _forget_logins(session: Session, addresses: Iterable[str]) -> None:
    """Forget the logins of addresses that are no environment's any more."""
    still = {one.address for one in session.environments.all() if not one.local}
    for address in set(addresses) - still:
        session.logins.forget(address)
