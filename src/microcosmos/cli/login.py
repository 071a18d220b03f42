"""`micro login`, `micro logout` and `micro signup`."""

from __future__ import annotations

from typing import Any, NoReturn

import click
import msgspec

from microcosmos.auth.logins import (
    DEFAULT_ID,
    DEFAULT_SECRET,
    LOCAL,
    Ask,
    Login,
    drive,
    log_in,
    received,
)
from microcosmos.base import codec, errors
from microcosmos.base.context import DEFAULT_NAMESPACE

from .session import Session, checked


@click.command()
@click.option("--username", "--email", "username", default="", help="The id of your account.")
@click.option("--password", default="", help="Its password; - reads it from the standard input.")
@click.option("--namespace", default="", help="Of the account; micro unless said.")
@click.pass_obj
def login(session: Session, username: str, password: str, namespace: str) -> str:
    """Log in to the selected environment.

    What is not given is asked for. The login is kept in the file tokens of MICRO_HOME, each
    environment and namespace has its own.
    """
    if address := session.exposed:
        _warn(f"{address} is reached without TLS: the password can be read on the way")
    username = username or session.asked("Enter username", "--username")
    password = session.secret(password, "Enter password", "--password")
    namespace = checked(namespace) if namespace else session.chosen_namespace or DEFAULT_NAMESPACE
    made = drive(log_in(username, password, namespace), session.caller.stranger)
    before = session.logins.get(session.login_key, namespace)
    session.logins.put(session.login_key, made)
    if before is not None:
        _end(session, before)
    if (username, password) == (DEFAULT_ID, DEFAULT_SECRET):
        _warn("everybody knows this password; `micro user set password` changes it")
    return "Successfully logged in."


@click.command()
@click.pass_obj
def logout(session: Session) -> str:
    """End the login, here and at the server."""
    key = session.login_key
    found = session.logins.find(key, session.namespace)
    if found is None:
        return _NOBODY
    if error := _end(session, found):
        _warn(f"the server could not be told, and does not know: {error.detail}")
    session.logins.remove(key, found.namespace)
    # What nobody typed, nobody takes for a login.
    return _NOBODY if found.implicit else "Successfully logged out."


def _end(session: Session, login: Login) -> errors.Error | None:
    """End a login at the server, if that has not done so; what has gone wrong, or None."""
    request = codec.encode({"refresh_token": login.refresh_token})
    try:
        session.caller.stranger(Ask("Auth.Logout", request))
    except (errors.Unauthorized, errors.BadRequest, errors.NotFound):
        return None
    except errors.Error as error:
        return error
    return None


def _warn(text: str) -> None:
    click.echo(f"micro: {text}", err=True)


_NOBODY = "Nobody was logged in."
_SIGNUP = "signup"


class _Account(msgspec.Struct):
    id: str
    issuer: str


class _Inspected(msgspec.Struct):
    """The answer of Auth.Inspect."""

    account: _Account


class _SignedUp(msgspec.Struct, rename="camel"):
    """The answer of Signup.CompleteSignup."""

    auth_token: msgspec.Raw
    namespace: str = DEFAULT_NAMESPACE


@click.command()
@click.option("--email", default="", help="Your e-mail address; it becomes the account's id.")
@click.option("--code", default="", help="The code that was sent there.")
@click.option("--password", default="", help="What you will log in with; - is standard input.")
@click.pass_obj
def signup(session: Session, email: str, code: str, password: str) -> str:
    """Make an account for yourself.

    Asks the service signup of the environment, where one runs; examples/signup is one. It sends
    a code to your e-mail address, and with that you choose a password and are logged in.
    """
    if not _runs(session, _SIGNUP):
        _no_signup(session)
    email = email or session.asked("Enter email address", "--email")
    if not code:
        _sign_up(session, "SendVerificationEmail", email=email)
        code = session.asked("Enter the code sent to it", "--code")
    _sign_up(session, "Verify", email=email, token=code)
    password = session.secret(password, "Enter a new password", "--password")
    answer = _sign_up(session, "CompleteSignup", email=email, token=code, secret=password)
    done: _SignedUp = codec.decode(answer, _SignedUp, id=_SIGNUP)
    made = received(done.auth_token, email, done.namespace)
    session.logins.put(session.login_key, _named(session, made))
    return "Successfully signed up and logged in."


def _named(session: Session, login: Login) -> Login:
    """A login by the id that its account has got, whatever was typed."""
    answer = session.caller.stranger(
        Ask("Auth.Inspect", codec.encode({"token": login.access_token}))
    )
    found: _Inspected = codec.decode(answer, _Inspected, id=_SIGNUP)
    whose = found.account
    return msgspec.structs.replace(login, account=whose.id, namespace=whose.issuer)


def _runs(session: Session, service: str) -> bool:
    try:
        session.describe(service)
    except errors.NotFound:
        return False
    return True


def _no_signup(session: Session) -> NoReturn:
    how = "an administrator makes accounts with `micro auth create account`"
    if session.login_key == LOCAL:
        how += f"; a fresh server has {DEFAULT_ID} with the password {DEFAULT_SECRET}"
    raise errors.NotFound(_SIGNUP, f"no service {_SIGNUP} runs here: {how}")


def _sign_up(session: Session, method: str, **request: str) -> bytes:
    return session.call(_SIGNUP, f"Signup.{method}", _encoded(**request), timeout=30.0)


def _encoded(**request: Any) -> bytes:
    return codec.encode(request)
