"""`micro config show`: which settings hold, and who said so."""

from __future__ import annotations

from typing import Any, Protocol

import click
import msgspec

from microcosmos.base import errors
from microcosmos.base.home import Home

from .settings import resolve


class Session(Protocol):
    """What this command asks of the command line."""

    @property
    def home(self) -> Home: ...

    @property
    def profile(self) -> str: ...


class Shown(msgspec.Struct):
    """A setting that holds."""

    setting: str
    value: Any


class Explained(Shown):
    """A setting that holds, and who said so."""

    origin: str


@click.command(short_help="Show the settings of a server")
@click.option("--origin", is_flag=True, help="Tell where each value comes from.")
@click.option(
    "--config", "config_file", metavar="FILE", help="In place of micro.toml [MICRO_CONFIG_FILE]."
)
@click.option("--profile", help="As if the server were given it [MICRO_PROFILE].")
@click.pass_context
def show(ctx: click.Context, origin: bool, config_file: str, profile: str) -> list[Shown]:
    """Show the settings of a server.

    They are those that `micro server` would start with here and now: defaults, the profile,
    micro.toml, variables and flags, each of which wins over those before it. Secrets are masked.
    """
    session: Session = ctx.obj
    # Where there is no flag, the variable or the default is what decided.
    home = ctx.find_root().params.get("home") or ""
    chosen = profile or session.profile
    try:
        found = resolve(home=home, profile=chosen, config_file=config_file)
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None
    found.sort(key=lambda one: (one.path.count("."), one.path))
    if origin:
        return [Explained(one.path, one.shown, one.origin) for one in found]
    return [Shown(one.path, one.shown) for one in found]
