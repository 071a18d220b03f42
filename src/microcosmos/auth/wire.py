"""What travels between the auth service and those who ask it; most of the names are Micro v3's."""

from __future__ import annotations

import msgspec

from microcosmos.base import errors

from . import audit, ruling
from .granting import Granted
from .interface import Account, Resource, Rule

NAME = "auth"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which namespace is meant; empty is the one of the call."""

    namespace: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all requests have."""

    options: Options | None = None


class Shown(msgspec.Struct, frozen=True):
    """An account as Micro shows it, without its secret."""

    id: str
    type: str
    issuer: str
    metadata: dict[str, str] | None
    scopes: tuple[str, ...]
    name: str


class Made(msgspec.Struct, frozen=True):
    """A new account, with its secret, which is shown this once."""

    id: str
    type: str
    issuer: str
    metadata: dict[str, str] | None
    scopes: tuple[str, ...]
    secret: str
    name: str


class GenerateRequest(Request, frozen=True, kw_only=True):
    """What Auth.Generate takes."""

    id: str
    type: str = ""
    scopes: list[str] = []
    secret: str = ""
    name: str = ""
    metadata: dict[str, str] | None = None
    provider: str = ""


class Generated(msgspec.Struct, frozen=True):
    """What Auth.Generate answers."""

    account: Made


class InspectRequest(Request, frozen=True, kw_only=True):
    """What Auth.Inspect takes."""

    token: str


class OneAccount(msgspec.Struct, frozen=True):
    """What Auth.Inspect and Accounts.Read answer."""

    account: Shown


class TokenRequest(Request, frozen=True, kw_only=True):
    """What Auth.Token takes: an id and its secret, or a refresh token."""

    id: str = ""
    secret: str = ""
    refresh_token: str = ""
    token_expiry: float = 0


class TokenAnswer(msgspec.Struct, frozen=True):
    """What Auth.Token answers."""

    token: Granted


class LogoutRequest(Request, frozen=True, kw_only=True):
    """What Auth.Logout takes; without a refresh token the login of the call itself ends."""

    refresh_token: str = ""


class IdRequest(Request, frozen=True, kw_only=True):
    """What names an account or a rule."""

    id: str = ""


class NoRequest(Request, frozen=True, kw_only=True):
    """What takes nothing else."""


class KeySet(msgspec.Struct, frozen=True):
    """What Auth.Keys answers: a JSON Web Key Set."""

    keys: list[dict[str, str]]


class RotateRequest(Request, frozen=True, kw_only=True):
    """What Auth.Rotate takes: whether the keys until now are refused at once."""

    forget: bool = False


class ListAccountsRequest(Request, frozen=True, kw_only=True):
    """What Accounts.List takes: a page, of those after an id."""

    limit: int = 0
    after: str = ""


class AccountList(msgspec.Struct, frozen=True):
    """What Accounts.List answers; after the last one the next page begins."""

    accounts: list[Shown]


class ChangeSecretRequest(Request, frozen=True, kw_only=True):
    """What Accounts.ChangeSecret takes."""

    id: str
    old_secret: str = ""
    new_secret: str


class UpdateRequest(Request, frozen=True, kw_only=True):
    """What Accounts.Update takes; what is null stays."""

    id: str
    scopes: list[str] | None = None
    name: str | None = None
    metadata: dict[str, str] | None = None


class GivenResource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule is about, as Micro has it."""

    name: str = ""
    type: str = ""
    endpoint: str = ""


class GivenRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as it is given: its access has to be said."""

    id: str
    scope: str = ""
    resource: GivenResource | None = None
    access: str = ""
    priority: int = 0


class CreateRuleRequest(Request, frozen=True, kw_only=True):
    """What Rules.Create takes."""

    rule: GivenRule


class RuleList(msgspec.Struct, frozen=True):
    """What Rules.List answers."""

    rules: list[Rule]


class WhyRequest(Request, frozen=True, kw_only=True):
    """What Rules.Why takes; no account is somebody without one."""

    account: str = ""
    service: str
    endpoint: str = ""


class NamespaceRequest(Request, frozen=True, kw_only=True):
    """What Namespaces.Create takes."""

    name: str


class DeleteNamespaceRequest(Request, frozen=True, kw_only=True):
    """What Namespaces.Delete takes."""

    name: str
    force: bool = False


class NamespaceList(msgspec.Struct, frozen=True):
    """What Namespaces.List answers."""

    namespaces: list[str]


class AuditRequest(Request, frozen=True, kw_only=True):
    """What Audit.List takes; an id of an entry is a cursor."""

    limit: int = 0
    before: str = ""
    after: str = ""
    account: str = ""


class AuditList(msgspec.Struct, frozen=True):
    """What Audit.List answers."""

    entries: list[audit.Entry]


class FollowRequest(Request, frozen=True, kw_only=True):
    """What Policy.Follow takes; a policy that is known already is not sent again."""

    namespace: str = ""
    epoch: str = ""
    after: int = -1


def shown(account: Account) -> Shown:
    """An account without its secret."""
    return Shown(
        account.id,
        account.type,
        account.namespace,
        account.metadata or None,
        account.scopes,
        account.name or account.id,
    )


def rule_of(given: GivenRule) -> Rule:
    """The rule that a request means.

    Raises:
        errors.BadRequest: it can be none.
    """
    access = given.access.upper()
    if access not in ("GRANTED", "DENIED"):
        detail = f"access: GRANTED or DENIED, not {given.access!r:.80}"
        raise errors.BadRequest(NAME, detail)
    resource = given.resource or GivenResource()
    return ruling.check(
        Rule(
            id=given.id,
            scope=given.scope,
            resource=Resource(resource.type or "*", resource.name or "*", resource.endpoint or "*"),
            access="GRANTED" if access == "GRANTED" else "DENIED",
            priority=given.priority,
        )
    )
