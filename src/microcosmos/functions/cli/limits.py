"""`micro functions limits`, and limits as flags take them."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from microcosmos.base import errors
from microcosmos.functions import limits as known
from microcosmos.functions.requests import AccountLimits, LimitsRequest, SetLimitsRequest

from .session import Session, ask, change, pairs


class Row(msgspec.Struct):
    """A line of `micro functions limits`."""

    limit: str
    default: str
    ceiling: str
    server: str


@click.command(short_help="Show or set what the functions of an account may use")
@click.argument("account", default="")
@click.option(
    "--default", multiple=True, metavar="NAME=VALUE", help="What they may use unless they say so."
)
@click.option("--ceiling", multiple=True, metavar="NAME=VALUE", help="The most that they may say.")
@click.option("--reset", is_flag=True, help="Forget what was said of the account before.")
@click.pass_obj
def limits(
    session: Session, account: str, default: tuple[str, ...], ceiling: tuple[str, ...], reset: bool
) -> list[Row] | AccountLimits:
    """Show what the functions of an account may use; for an admin, set it.

    Without ACCOUNT it is about one's own. What is set holds for all that runs at once; a version
    that says more than a new ceiling keeps to that. SERVER is the most that a ceiling may be.
    """
    if default or ceiling or reset:
        request = SetLimitsRequest(
            account=account,
            defaults=amounts("--default", default),
            ceilings=amounts("--ceiling", ceiling),
            reset=reset,
        )
        found = msgspec.json.decode(change(session, "SetLimits", request), type=AccountLimits)
    else:
        found = ask(session, "Limits", LimitsRequest(account), AccountLimits)
    return found if session.output == "json" else [_row(name, found) for name in known.NAMES]


def _row(name: str, found: AccountLimits) -> Row:
    said = (found.default, found.ceiling, known.CEILINGS)
    return Row(name, *(known.written(name, getattr(one, name)) for one in said))


def amounts(flag: str, texts: Sequence[str]) -> dict[str, float]:
    """Limits by name, as a flag takes them.

    Raises:
        click.UsageError: one is not well said.
    """
    try:
        return known.read(flag, pairs(flag, texts))
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None
