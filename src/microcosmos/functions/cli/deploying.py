"""`micro functions deploy` and `validate`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE, NAMESPACE
from microcosmos.functions.interface import Draft, Finding, Function, SecretUse, Version
from microcosmos.functions.requests import DEPLOYING, Findings, NameRequest
from microcosmos.functions.showing import path_of, shown

from . import folders
from .limits import amounts
from .session import Session, ask, change, pairs

Command = Callable[..., Any]

_OPTIONS: Sequence[Callable[[Command], Command]] = (
    click.argument("name"),
    click.argument("source", metavar="FILE|FOLDER"),
    click.option("--language", default="", help="javascript, typescript or python."),
    click.option("--engine", default="", help="quickjs, deno or monty."),
    click.option("--main", default="", metavar="FILE", help="The file that it begins with."),
    click.option("--message", "-m", default="", help="What has changed."),
    click.option("--env", "-e", multiple=True, metavar="NAME=value", help="A variable."),
    click.option(
        "--secret", multiple=True, metavar="NAME[=value]", help="A secret; see above for its value."
    ),
    click.option(
        "--secret-use",
        multiple=True,
        metavar="NAME=HOST[/HEADER]",
        help="Where a secret is filled in; in the header Authorization unless said.",
    ),
    click.option("--allow-host", multiple=True, metavar="HOST", help="What it may fetch from."),
    click.option("--route", multiple=True, metavar="/users/{id}", help="Paths below its family."),
    click.option(
        "--grant",
        multiple=True,
        help="store, config, events, broker, call[:users.read], secret[:NAME]",
    ),
    click.option("--on", multiple=True, metavar="TRIGGER", help="events:TOPIC or cron:SCHEDULE."),
    click.option(
        "--limit", multiple=True, metavar="NAME=VALUE", help="cpu=100ms, heap=128MiB and so on."
    ),
    click.option("--isolation", default="", help="isolate, process or wasm."),
)


def _drafted(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Deployed(msgspec.Struct, kw_only=True):
    """A version that has all requests."""

    name: str
    version: int
    hash: str
    form: str
    engine: str
    url: str = ""
    curl: str = ""
    command: str = ""

    def readable(self) -> str:
        """What there is now, where it is, and how to call it."""
        where = f" at {self.url}" if self.url else ""
        first = f"{self.name} v{self.version} is live{where} ({self.form}, {self.engine})"
        return "\n".join(line for line in (first, self.curl, self.command) if line)


@click.command(short_help="Deploy a function")
@_drafted
@click.pass_obj
def deploy(session: Session, /, **said: Any) -> Deployed:
    """Deploy a function: a new version, which gets all requests at once.

    SOURCE is a file, a folder with several of them, or - for a script on the standard input. All
    that is said is of this version only: what is left out, the version does without.

    Code sees a placeholder of a secret, which is filled in on the way to where --secret-use says;
    --grant secret:NAME lets it read the value. A secret without a value is taken from the
    environment variable of its name if there is one, else it is the one that is kept already, else
    it is asked for.
    """
    answer = change(session, "Deploy", _draft(session, **said), DEPLOYING)
    return deployed(session, said["name"], msgspec.json.decode(answer, type=Version))


@click.command(short_help="Find out what keeps a function from being deployed")
@_drafted
@click.pass_obj
def validate(session: Session, /, **said: Any) -> str | list[Finding]:
    """Find out what keeps a function from being deployed; nothing is stored.

    It takes what deploy takes.
    """
    draft = _draft(session, **said)
    found = ask(session, "Validate", draft, Findings, timeout=DEPLOYING).findings
    if not found:
        return [] if session.output == "json" else f"{draft.name} can be deployed."
    if session.output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    for finding in found:
        click.echo(shown(finding), err=True)
    count = "1 error" if len(found) == 1 else f"{len(found)} errors"
    raise errors.BadRequest("functions.source", f"{draft.name} cannot be deployed: {count}")


def deployed(session: Session, name: str, version: Version) -> Deployed:
    """What is printed of a version that is live."""
    api = session.server.api if session.server else ""
    url = f"{api}{path_of(name)}" if api else ""
    elsewhere = session.namespace != DEFAULT_NAMESPACE
    header = ["-H", f"{NAMESPACE}: {session.namespace}"] if elsewhere else []
    flag = [f"--namespace={session.namespace}"] if elsewhere else []
    return Deployed(
        name=name,
        version=version.number,
        hash=version.hash,
        form=version.form,
        engine=version.engine,
        url=url,
        curl=shlex.join(["curl", *header, url]) if url else "",
        command=shlex.join(["micro", *flag, "functions", "invoke", name]),
    )


def _draft(
    session: Session,
    *,
    name: str,
    source: str,
    language: str,
    engine: str,
    main: str,
    message: str,
    env: tuple[str, ...],
    secret: tuple[str, ...],
    secret_use: tuple[str, ...],
    allow_host: tuple[str, ...],
    route: tuple[str, ...],
    grant: tuple[str, ...],
    on: tuple[str, ...],
    limit: tuple[str, ...],
    isolation: str,
) -> Draft:
    files = folders.read(source)
    return Draft(
        name=name,
        files=files,
        main=main,
        language=language,
        engine=engine,
        message=message,
        env=pairs("--env", env),
        secrets=_secrets(session, name, secret),
        secret_uses=_uses(secret_use),
        hosts=list(allow_host),
        routes=list(route),
        grants=list(grant),
        on=list(on),
        limits=amounts("--limit", limit),
        isolation=isolation,
    )


def _secrets(session: Session, name: str, texts: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    kept: list[str] | None = None
    for text in texts:
        secret, equals, value = text.partition("=")
        if not secret or secret in found:
            why = "is said twice" if secret else "has no name"
            raise click.UsageError(f"--secret: {secret or text[:40]!r} {why}")
        if equals:
            # An empty value is one; - is read from the standard input.
            found[secret] = session.secret(value, secret, "--secret") if value else ""
        elif secret in os.environ:
            found[secret] = os.environ[secret]
        else:
            kept = _kept(session, name) if kept is None else kept
            found[secret] = None if secret in kept else _asked(session, secret)
    return found


def _uses(texts: Sequence[str]) -> dict[str, list[SecretUse]]:
    found: dict[str, list[SecretUse]] = {}
    for text in texts:
        name, equals, where = text.partition("=")
        host, _, header = where.partition("/")
        if not equals or not name or not host:
            form = "NAME=HOST or NAME=HOST/HEADER"
            raise click.UsageError(f"--secret-use: {text[:60]!r} is not of the form {form}")
        use = SecretUse(host, header) if header else SecretUse(host)
        found.setdefault(name, []).append(use)
    return found


def _asked(session: Session, secret: str) -> str:
    """The value of a secret, which is typed unseen."""
    if not sys.stdin.isatty():
        ways = f"--secret {secret}=value, --secret {secret}=- for the standard input"
        detail = f"there is no value for {secret}, and no terminal to ask at; give {ways}"
        raise click.UsageError(f"{detail}, or the variable {secret}")
    return session.secret("", secret, f"--secret {secret}=value")


def _kept(session: Session, name: str) -> list[str]:
    """The names of the secrets that a function has."""
    try:
        return ask(session, "Get", NameRequest(name), Function).secrets
    except errors.NotFound:
        return []
