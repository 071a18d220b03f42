"""`micro user`: who types, and their settings."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from microcosmos.auth.logins import LOG_IN, Login, drive, log_in
from microcosmos.base import codec, errors
from microcosmos.base.context import DEFAULT_NAMESPACE

from .session import Session, checked


class Account(msgspec.Struct, kw_only=True):
    """Who is logged in."""

    id: str
    type: str = ""
    issuer: str = ""
    metadata: dict[str, str] | None = None
    scopes: list[str] = []
    name: str = ""

    def readable(self) -> str:
        """The id alone, as Micro shows it."""
        return self.id


class _Found(msgspec.Struct):
    account: Account


@click.group(invoke_without_command=True)
@click.pass_context
def user(ctx: click.Context) -> Any:
    """Show who you are, and change your settings.

    Alone it prints the id of the account that is logged in, as the server knows it.
    """
    if ctx.invoked_subcommand:
        return None
    session: Session = ctx.obj
    _login(session)
    try:
        answer = session.core("auth", "Accounts.Read")
    except errors.Unauthorized:
        # The server may have ended it since.
        _login(session)
        raise
    return codec.decode(answer, _Found, id="auth").account


def _login(session: Session) -> Login:
    """The login of the environment.

    Raises:
        errors.Unauthorized: there is none.
    """
    login = session.caller.login()
    if login is None:
        name = session.environments.choose(session.environment).name
        raise errors.Unauthorized("user", f"nobody is logged in to {name}; {LOG_IN}")
    return login


class Token(msgspec.Struct):
    """An access token."""

    access_token: str
    expiry: float

    def readable(self) -> str:
        """The token alone."""
        return self.access_token


@user.command(short_help="Print your access token")
@click.pass_obj
def token(session: Session) -> Token:
    """Print your access token, for programs that call with it.

    It is renewed when it is about to end.
    """
    login = _login(session)
    return Token(login.access_token, login.expiry)


# Its password.


@user.group("set", short_help="Change your password")
def set_group() -> None:
    """Change your password."""


@set_group.command(short_help="Change your password")
@click.option("--email", "--username", "email", default="", help="The id of your account.")
@click.option("--old_password", default="", help="The one you have; - is the standard input.")
@click.option("--new_password", default="", help="The one you want; - is the standard input.")
@click.pass_obj
def password(session: Session, email: str, old_password: str, new_password: str) -> str:
    """Change your password.

    Every login of the account ends, and this one begins anew.
    """
    login = session.caller.login()
    id = email or (login.account if login else session.asked("Enter username", "--email"))
    own = login is not None and login.account == id
    namespace = login.namespace if login is not None and own else _namespace(session)
    old = session.secret(old_password, "Enter current password", "--old_password")
    new = session.secret(new_password, "Enter new password", "--new_password")
    if not new_password and session.secret("", "Enter it again", "--new_password") != new:
        raise click.UsageError("the new passwords are not the same")
    options = {"namespace": namespace}
    request = {"id": id, "old_secret": old, "new_secret": new, "options": options}
    session.core("auth", "Accounts.ChangeSecret", request)
    if own:
        fresh = drive(log_in(id, new, namespace), session.caller.stranger)
        session.logins.put(session.login_key, fresh)
    return "Successfully changed the password."


def _namespace(session: Session) -> str:
    return session.chosen_namespace or DEFAULT_NAMESPACE


# Its namespace.


@user.group(invoke_without_command=True, short_help="Show and choose the namespace of calls")
@click.pass_context
def namespace(ctx: click.Context) -> str | None:
    """Show and choose the namespace that calls are made in.

    Each environment has its own. --namespace and MICRO_NAMESPACE go before it; without any, it is
    that of the login.
    """
    session: Session = ctx.obj
    return None if ctx.invoked_subcommand else session.namespace


@namespace.command("get", short_help="Print it")
@click.pass_obj
def get_namespace(session: Session) -> str:
    """Print the namespace that calls are made in."""
    return session.namespace


@namespace.command("set", short_help="Choose it")
@click.argument("name")
@click.pass_obj
def set_namespace(session: Session, name: str) -> None:
    """Choose the namespace that calls are made in.

    The server says whether there is one of that name.
    """
    session.enter(checked(name))
    # Refused where there is no such namespace; nothing else is wanted of it.
    session.core("auth", "Namespaces.List")
    session.keep_namespace(session.environments.choose(session.environment).name, name)


# Settings.


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
