"""`micro auth`: accounts, rules, tokens and namespaces."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Protocol, TypeVar

import click
import msgspec

from microcosmos.base import codec, names

from .interface import PUBLIC, Resource, Rule
from .logins import Ask

F = TypeVar("F", bound=Callable[..., Any])

_PAGE = 1000
_METADATA = "n/a"


class Caller(Protocol):
    """Makes calls as nobody."""

    def stranger(self, ask: Ask) -> bytes: ...


class Session(Protocol):
    """What these commands ask of the command line."""

    @property
    def caller(self) -> Caller: ...

    @property
    def namespace(self) -> str: ...

    def enter(self, namespace: str) -> None: ...

    def asked(self, label: str, flag: str) -> str: ...

    def secret(self, given: str, label: str, flag: str) -> str: ...

    def duration(self, text: str, where: str) -> float: ...

    def core(self, service: str, endpoint: str, request: Any = None) -> bytes: ...


def _namespaced(command: F) -> F:
    """Add the flag that says whose namespace is meant."""

    def enter(ctx: click.Context, _: click.Parameter, namespace: str) -> None:
        if namespace and not ctx.resilient_parsing:
            ctx.obj.enter(namespace)

    return click.option(
        "--namespace",
        default="",
        expose_value=False,
        callback=enter,
        help="In which namespace; else that of the login.",
    )(command)


def _ask(session: Session, method: str, **request: Any) -> bytes:
    """Call the service auth for the namespace that is meant."""
    request["options"] = {"namespace": session.namespace}
    return session.core("auth", method, request)


@click.group()
def auth() -> None:
    """Manage accounts, rules and namespaces.

    The endpoints of the service auth are called with `micro call auth`.
    """


@auth.group("list", short_help="List rules, accounts or namespaces")
def list_() -> None:
    """List rules, accounts or namespaces."""


@auth.group(short_help="Create a rule, account, token or namespace")
def create() -> None:
    """Create a rule, an account, a token or a namespace."""


@auth.group(short_help="Delete a rule, account or namespace")
def delete() -> None:
    """Delete a rule, an account or a namespace."""


@auth.group(short_help="Change an account or its secret")
def update() -> None:
    """Change an account or its secret."""


# Rules.


class RuleRow(Rule, frozen=True, kw_only=True):
    """A line of `micro auth list rules`."""

    HEADINGS: ClassVar = ("ID", "Scope", "Access", "Resource", "Priority")

    def cells(self) -> Iterable[Any]:
        """As Micro shows it."""
        scope = "<public>" if self.scope == PUBLIC else self.scope
        return self.id, scope, self.access, str(self.resource), self.priority


class _Rules(msgspec.Struct):
    rules: list[RuleRow] = []


@list_.command(short_help="List the rules")
@_namespaced
@click.pass_obj
def rules(session: Session) -> list[RuleRow]:
    """List the rules.

    Of the rules that apply to a call, the one with the highest priority decides, and of several
    the one that denies.
    """
    return codec.decode(_ask(session, "Rules.List"), _Rules, id="auth").rules


@create.command(short_help="Create a rule")
@click.argument("id")
@click.option("--scope", default="", help="Whom it is for; else everybody. * is any account.")
@click.option("--resource", default="*:*:*", metavar="type:name:endpoint", help="What it is about.")
@click.option(
    "--access",
    type=click.Choice(["granted", "denied"], case_sensitive=False),
    default="granted",
    help="Whether that is allowed.",
)
@click.option("--priority", type=int, default=0, help="The highest that applies decides.")
@_namespaced
@click.pass_obj
def rule(session: Session, id: str, scope: str, resource: str, access: str, priority: int) -> str:
    """Create a rule: who may call what.

    RESOURCE is type:name:endpoint, such as service:helloworld:Helloworld.Call; * stands for any
    characters. Of a topic it is topic:name:verb, such as topic:orders.*:publish: * is any one part
    there, or every topic, and the verbs are publish, subscribe, consume, read and admin.
    """
    made = {
        "id": id,
        "scope": scope,
        "resource": _resource(resource),
        "access": access.upper(),
        "priority": priority,
    }
    _ask(session, "Rules.Create", rule=made)
    return "Rule created"


def _resource(text: str) -> Resource:
    # The name of a topic may have colons in it.
    type, _, rest = text.partition(":")
    name, _, endpoint = rest.rpartition(":")
    if not (type and name and endpoint):
        form = "write it like service:helloworld:*"
        raise click.UsageError(f"--resource: {text[:80]!r} is not type:name:endpoint; {form}")
    return Resource(type, name, endpoint)


@delete.command("rule", short_help="Delete a rule")
@click.argument("id")
@_namespaced
@click.pass_obj
def delete_rule(session: Session, id: str) -> str:
    """Delete a rule."""
    _ask(session, "Rules.Delete", id=id)
    return "Rule deleted"


class Reason(msgspec.Struct):
    """Whether somebody may call an endpoint, and why."""

    allowed: bool
    reason: str
    code: int = 0
    access: str = ""
    rules: list[Rule] = []

    def readable(self) -> str:
        """In one line."""
        return self.reason


@auth.command(short_help="Tell whether an account may call an endpoint, and why")
@click.argument("account")
@click.argument("service")
@click.argument("endpoint", default="")
@_namespaced
@click.pass_obj
def why(session: Session, account: str, service: str, endpoint: str) -> Reason:
    """Tell whether an account may call an endpoint, and why.

    ACCOUNT is an id; '' is somebody without a login. ENDPOINT is Handler.Method, or Method of the
    service's own handler; else its default one.
    """
    name = names.endpoint_name(service, endpoint) if endpoint else names.default_endpoint(service)
    answer = _ask(session, "Rules.Why", account=account, service=service, endpoint=name)
    return codec.decode(answer, Reason, id="auth")


# Accounts.


class AccountRow(msgspec.Struct, kw_only=True):
    """A line of `micro auth list accounts`."""

    HEADINGS: ClassVar = ("ID", "Name", "Scopes", "Metadata")

    id: str
    type: str = ""
    issuer: str = ""
    metadata: dict[str, str] | None = None
    scopes: list[str] = []
    name: str = ""

    def cells(self) -> Iterable[Any]:
        """As Micro shows it."""
        return self.id, self.name, self.scopes, self.metadata or _METADATA


class _Accounts(msgspec.Struct):
    accounts: list[AccountRow] = []


@list_.command(short_help="List the accounts")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["user", "service", "all"]),
    default="user",
    help="Those of people, those of services, or all.",
)
@_namespaced
@click.pass_obj
def accounts(session: Session, kind: str) -> list[AccountRow]:
    """List the accounts.

    Each service that was deployed has one, too: --type service lists those.
    """
    return [one for one in _accounts(session) if kind in ("all", one.type)]


def _accounts(session: Session) -> Iterator[AccountRow]:
    after = ""
    while True:
        answer = _ask(session, "Accounts.List", limit=_PAGE, after=after)
        page: list[AccountRow] = codec.decode(answer, _Accounts, id="auth").accounts
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].id


class Created(AccountRow, kw_only=True):
    """A new account, with its secret, which is shown this once."""

    secret: str = ""

    def readable(self) -> str:
        """As Micro shows it."""
        order = ("id", "type", "issuer", "metadata", "scopes", "secret", "name")
        shown = {name: getattr(self, name) for name in order}
        return f"Account created: {codec.encode(shown).decode()}"


class _Generated(msgspec.Struct):
    account: Created


@create.command(short_help="Create an account")
@click.argument("id")
@click.option("--secret", default="", help="Its password; - is standard input; else a random one.")
@click.option("--scopes", multiple=True, help="What it may, as rules name it: a,b.")
@click.option("--type", "kind", default="user", help="What it is: user or service.")
@_namespaced
@click.pass_obj
def account(session: Session, id: str, secret: str, scopes: tuple[str, ...], kind: str) -> Created:
    """Create an account.

    Its secret is the password of `micro login`, and is shown this once. The scope admin
    administers the namespace; in the namespace micro, all of them.
    """
    given = session.secret(secret, "", "--secret") if secret else ""
    answer = _ask(session, "Auth.Generate", id=id, secret=given, scopes=_split(scopes), type=kind)
    return codec.decode(answer, _Generated, id="auth").account


def _split(scopes: Iterable[str]) -> list[str]:
    return [scope for text in scopes for scope in text.split(",") if scope]


@delete.command("account", short_help="Delete an account")
@click.argument("id")
@_namespaced
@click.pass_obj
def delete_account(session: Session, id: str) -> str:
    """Delete an account; what it is logged in with ends at once."""
    _ask(session, "Accounts.Delete", id=id)
    return "Account deleted"


@update.command("secret", short_help="Change the secret of an account")
@click.argument("id")
@click.option("--old_secret", default="", help="The one it has; admins need none; - is stdin.")
@click.option("--new_secret", default="", help="The one it gets; - is standard input.")
@_namespaced
@click.pass_obj
def secret_(session: Session, id: str, old_secret: str, new_secret: str) -> str:
    """Change the secret of an account; what it is logged in with ends at once."""
    old = session.secret(old_secret, "", "--old_secret") if old_secret else ""
    new = session.secret(new_secret, "Enter new secret", "--new_secret")
    _ask(session, "Accounts.ChangeSecret", id=id, old_secret=old, new_secret=new)
    return "Secret updated"


@update.command("account", short_help="Change the scopes or the name of an account")
@click.argument("id")
@click.option("--scopes", multiple=True, help="All that it may from now on: a,b.")
@click.option("--name", help="For people.")
@_namespaced
@click.pass_obj
def update_account(session: Session, id: str, scopes: tuple[str, ...], name: str | None) -> str:
    """Change the scopes or the name of an account.

    With other scopes what it is logged in with ends at once; --scopes= takes all of them away.
    """
    changed: dict[str, Any] = {"id": id}
    if scopes:
        changed["scopes"] = _split(scopes)
    if name is not None:
        changed["name"] = name
    _ask(session, "Accounts.Update", **changed)
    return "Account updated"


@auth.command(short_help="End all logins and tokens of an account")
@click.argument("id")
@_namespaced
@click.pass_obj
def revoke(session: Session, id: str) -> str:
    """End all logins and tokens of an account, at once; it may log in again."""
    _ask(session, "Auth.Revoke", id=id)
    return "Tokens revoked"


class Token(msgspec.Struct):
    """Tokens of an account."""

    access_token: str
    refresh_token: str = ""
    created: int = 0
    expiry: int = 0

    def readable(self) -> str:
        """As the other things that are created."""
        return f"Token created: {codec.encode(self).decode()}"


class _Issued(msgspec.Struct):
    token: Token


@create.command(short_help="Create a token of an account")
@click.option("--id", "id", default="", help="The account.")
@click.option("--secret", default="", help="Its secret; - is standard input; admins need none.")
@click.option("--expiry", default="", metavar="duration", help="How long it is good for.")
@_namespaced
@click.pass_obj
def token(session: Session, id: str, secret: str, expiry: str) -> Token:
    """Create a token of an account, for programs that call with it.

    It is good for 15 minutes unless --expiry says otherwise, at most 24 hours; a bare number is
    seconds.
    """
    id = id or session.asked("Enter id", "--id")
    request: dict[str, Any] = {"id": id}
    if expiry:
        request["token_expiry"] = session.duration(expiry, "--expiry")
    if not secret:
        return _issued(_ask(session, "Auth.Token", **request))
    request["secret"] = session.secret(secret, "", "--secret")
    request["options"] = {"namespace": session.namespace}
    return _issued(session.caller.stranger(Ask("Auth.Token", codec.encode(request))))


def _issued(answer: bytes) -> Token:
    return codec.decode(answer, _Issued, id="auth").token


# Namespaces.


class _Namespace(msgspec.Struct):
    name: str


class _Namespaces(msgspec.Struct):
    namespaces: list[str] = []


@list_.command("namespaces", short_help="List the namespaces")
@click.pass_obj
def list_namespaces(session: Session) -> list[str]:
    """List the namespaces."""
    answer = session.core("auth", "Namespaces.List")
    return codec.decode(answer, _Namespaces, id="auth").namespaces


@create.command("namespace", short_help="Create a namespace")
@click.argument("name")
@click.pass_obj
def create_namespace(session: Session, name: str) -> str:
    """Create a namespace: accounts, rules, services and data of its own."""
    session.core("auth", "Namespaces.Create", {"name": names.check_namespace(name)})
    return "Namespace created"


@delete.command("namespace", short_help="Delete a namespace")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if there is something in it.")
@click.pass_obj
def delete_namespace(session: Session, name: str, force: bool) -> str:
    """Delete a namespace.

    It has to be empty; --force deletes its accounts, rules, services and data with it.
    """
    request = {"name": names.check_namespace(name), "force": force}
    session.core("auth", "Namespaces.Delete", request)
    return "Namespace deleted"


# The audit log.


class Entry(msgspec.Struct, kw_only=True):
    """A line of `micro auth audit`."""

    HEADINGS: ClassVar = ("TIME", "WHO", "ACTION", "SUBJECT", "DETAIL")

    id: str
    time: float
    who: str
    issuer: str
    action: str
    subject: str
    namespace: str
    detail: str = ""

    def cells(self) -> Iterable[Any]:
        """With the time as people read it."""
        when = datetime.datetime.fromtimestamp(self.time, datetime.UTC)
        shown = when.strftime("%Y-%m-%dT%H:%M:%SZ")
        return shown, self.who or "<nobody>", self.action, self.subject, self.detail


class _Audit(msgspec.Struct):
    entries: list[Entry] = []


@auth.command(short_help="Show who changed accounts, rules and deployments")
@click.option("--limit", "-n", type=click.IntRange(1), default=50, help="How many of the last.")
@click.option("--account", default="", help="Only what this one did.")
@_namespaced
@click.pass_obj
def audit(session: Session, limit: int, account: str) -> list[Entry]:
    """Show who changed accounts, rules and deployments, the last change last."""
    answer = _ask(session, "Audit.List", limit=limit, account=account)
    entries: list[Entry] = codec.decode(answer, _Audit, id="auth").entries
    return sorted(entries, key=lambda entry: entry.id)
