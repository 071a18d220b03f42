"""`micro user`: the settings of whoever types."""

from __future__ import annotations

from typing import Any

import click

from microcosmos.base import codec, errors

from .session import Session


@click.group()
def user() -> None:
    """Show and change your settings."""


@user.group(short_help="Show and change config.json")
def config() -> None:
    """Show and change config.json.

    Keys are dotted paths, such as git.baseurl: where `micro run NAME` looks up bare names.
    """


@config.command(short_help="Print a value")
@click.argument("key")
@click.pass_obj
def get(session: Session, key: str) -> Any:
    """Print a value: texts as they are, anything else as JSON."""
    value = session.settings.get(key)
    if value is None:
        raise errors.NotFound("user.config", f"{key} is not set")
    if isinstance(value, str) or session.output == "json":
        return value
    return codec.encode(value).decode()


@config.command("set", short_help="Set a value")
@click.argument("key")
@click.argument("value")
@click.pass_obj
def set_(session: Session, key: str, value: str) -> None:
    """Set a value; a text, whatever it looks like."""
    session.settings.set(key, value)


@config.command(short_help="Delete a value")
@click.argument("key")
@click.pass_obj
def delete(session: Session, key: str) -> None:
    """Delete a value."""
    if not session.settings.delete(key):
        raise errors.NotFound("user.config", f"{key} is not set")
