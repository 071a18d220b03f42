"""`micro functions secret`: the secrets that functions keep."""

from __future__ import annotations

import click

from microcosmos.functions.requests import SecretRequest

from .session import Session, change


@click.group(short_help="Delete secrets of functions")
def secret() -> None:
    """Delete secrets of functions.

    They are set by `micro functions deploy --secret`.
    """


@secret.command("delete", short_help="Delete a secret")
@click.argument("name")
@click.argument("secret")
@click.pass_obj
def delete(session: Session, name: str, secret: str) -> str:
    """Delete a secret of a function; versions that need it cannot be run any more."""
    change(session, "ForgetSecret", SecretRequest(name, secret))
    return f"{name} has no secret {secret} any more."
