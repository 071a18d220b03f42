"""The login: who the user is at the selected environment, and whether the server agrees."""

from __future__ import annotations

import click

from microcosmos.auth.logins import LOG_IN, Login, Logins
from microcosmos.base import context, errors
from microcosmos.cli.caller import Caller
from microcosmos.cli.environments import Environment
from microcosmos.cli.identity import key_of

from .finding import Report, Subject
from .server import ANSWER_LIMIT

_PASSWORD = "micro user set password"


def login(subject: Subject, report: Report) -> None:
    """Who commands act as."""
    try:
        chosen = subject.environments.choose(subject.chosen)
    except click.ClickException:
        return  # another check says so
    logins = Logins(subject.home.path / "tokens")
    try:
        kept = logins.last(key_of(chosen))
    except errors.Error as error:
        report.fail(error.detail, f"rm {logins.path}; micro login")
        return
    if not chosen.local or subject.home.server_info():
        _at(chosen, subject, report)
    elif kept is not None:
        report.ok(f"logged in to {chosen.name} as {kept.account}")
    else:
        report.ok(f"nobody is logged in to {chosen.name}")


def _at(environment: Environment, subject: Subject, report: Report) -> None:
    """What the server says of the login; where there is none, of that of a fresh server."""
    caller = Caller(subject.home, environment, _namespace(environment, subject))
    try:
        found = caller.login(ANSWER_LIMIT)
        if found is not None:
            caller.core("auth", "Accounts.Read", timeout=ANSWER_LIMIT)
            found = caller.login(ANSWER_LIMIT)
    except errors.Unauthorized as error:
        report.fail(error.detail.partition(";")[0], "micro login")
    except errors.Error as error:
        report.warn(f"the login could not be checked: {error.detail}")
    else:
        _tell(found, environment, report)


def _namespace(environment: Environment, subject: Subject) -> str:
    last = Logins(subject.home.path / "tokens").last(key_of(environment))
    return last.namespace if last else context.DEFAULT_NAMESPACE


def _tell(found: Login | None, environment: Environment, report: Report) -> None:
    if found is None:
        report.ok(f"nobody is logged in to {environment.name}; {LOG_IN}")
    elif found.implicit:
        what = f"commands act as {found.account}, whose password is the one that everybody knows"
        report.warn(what, _PASSWORD)
    else:
        where = "" if found.namespace == context.DEFAULT_NAMESPACE else f" in {found.namespace}"
        report.ok(f"logged in to {environment.name} as {found.account}{where}")


CHECKS = (("login", login),)
