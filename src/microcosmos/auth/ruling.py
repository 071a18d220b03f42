"""Ruling: what a good rule is, and why a call is allowed or not."""

from __future__ import annotations

import re

import msgspec

from microcosmos.base import errors, names, topics
from microcosmos.base.clock import SYSTEM

from .access import Access
from .accounts import check_id, check_scope
from .interface import ADMIN, ANY, ANYWHERE, PUBLIC, Account, Policy, Resource, Rule
from .rules import applying
from .topics import TOPIC, VERBS

MAX_RULES = 1000
"""Rules of one namespace."""

LOWEST = -(2**31)
HIGHEST = 2**31 - 1
"""What a rule's priority lies between: a number of 32 bits."""

_PART = re.compile(r"[A-Za-z0-9*_.-]{1,200}")
_TYPES = ("*", "service", TOPIC)


def check(rule: Rule) -> Rule:
    """Return a rule when it is a good one.

    Raises:
        errors.BadRequest: it is not; the detail says why, and what is.
    """
    check_id(rule.id, "rule")
    if rule.scope not in (PUBLIC, ANY, ANYWHERE):
        check_scope(rule.scope)
    resource = rule.resource
    if resource.type not in _TYPES:
        raise _bad(f"resource: the type is service, topic or *, not {resource.type!r:.80}")
    if resource.type == TOPIC:
        _check_topic(resource)
    else:
        _check_service(resource)
    if not LOWEST <= rule.priority <= HIGHEST:
        raise _bad(f"priority: from {LOWEST} to {HIGHEST}, not {rule.priority}")
    return rule


def _check_service(resource: Resource) -> None:
    for part in (resource.name, resource.endpoint):
        if not _PART.fullmatch(part):
            raise _bad(
                f"resource: {part!r:.80} is no name of a service or an endpoint; use letters, "
                "digits, _ . - and *, as in service:helloworld:Helloworld.Call"
            )


def _check_topic(resource: Resource) -> None:
    try:
        topics.check_pattern(resource.name)
    except errors.BadRequest as error:
        raise _bad(f"resource: {error.detail}") from None
    if resource.endpoint not in (ANY, *VERBS):
        verbs = f"{', '.join(VERBS)} and * are"
        raise _bad(f"resource: {resource.endpoint!r:.80} is not done with topics; {verbs}")


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call is allowed or not.

    Attributes:
        allowed: whether it is.
        code: 200, or that of the error: 401, 403 or 404.
        rule: the id of the rule that decides; empty when none does.
        access: what the endpoint itself asks for; ``rules`` of what was deployed.
        reason: all of it in words.
        rules: those that apply to this account and endpoint, the deciding one first.
    """

    allowed: bool
    code: int
    rule: str
    access: str
    reason: str
    rules: list[Rule]


def why(
    policy: Policy,
    account: Account | None,
    namespace: str,
    service: str,
    endpoint: str,
    access: str = "rules",
) -> Reason:
    """Why somebody may call an endpoint, or may not.

    Args:
        policy: what decides.
        account: who; None is anonymous.
        namespace: where it is called.
        service: whose.
        endpoint: which, ``Handler.Method``.
        access: what the endpoint itself asks for, see `rpc.Endpoint`.
    """
    judge = Access(clock=SYSTEM)
    judge.follow(policy)
    resource = Resource("service", service, endpoint)
    rules = applying(policy.rules.get(namespace, ()), account, namespace, resource)
    try:
        judge.check(account, namespace, service, endpoint, access)
        code = 200
    except errors.Error as error:
        code = error.code
    who = "anybody" if account is None else account.id
    deciding = rules[0] if rules and access != "open" else None
    because = _because(deciding, account, namespace, service, access, allowed=code == 200)
    if code == 404:
        because = f"there is no namespace {namespace}"
        deciding = None
    verb = "may" if code == 200 else "may not"
    return Reason(
        allowed=code == 200,
        code=code,
        rule=deciding.id if deciding else "",
        access=access,
        reason=f"{who} {verb} call {service}:{endpoint} in {namespace}: {because}",
        rules=rules,
    )


def _because(
    rule: Rule | None,
    account: Account | None,
    namespace: str,
    service: str,
    access: str,
    *,
    allowed: bool,
) -> str:
    if access == "open":
        return "it is open to everybody, whatever the rules say"
    said = f"rule {rule.id} ({_of(rule)})" if rule else ""
    if access == "rules":
        if rule is None:
            return f"no rule of {namespace} applies, and what no rule grants is refused"
        return f"{said} {'grants' if allowed else 'denies'} it"
    asks = _ASKS[access]
    if rule is not None and rule.access == "DENIED":
        if allowed:
            return f"{said} denies it, but rules lock no {ADMIN} out of {service}"
        return f"{said} denies it"
    if allowed:
        if access == "read" and rule is not None and not _enters(account, namespace):
            return f"{said} grants it, and it only reads"
        return f"it asks for {asks}, which the account is"
    if account is not None and not account.enters(namespace):
        return f"it asks for {asks}, and the account is of {account.namespace}"
    granted = f"; {said} grants it, but rules open no core service further" if rule else ""
    return f"it asks for {asks}{granted}"


def _enters(account: Account | None, namespace: str) -> bool:
    return account is not None and account.enters(namespace)


_ASKS = {
    "read": "any account of the namespace",
    "account": "any account of the namespace",
    "service": "a service or an admin",
    "admin": "an admin of the namespace",
    "platform": "an admin of the platform",
}


def _of(rule: Rule) -> str:
    scope = "public" if rule.scope == PUBLIC else f"scope {rule.scope}"
    return f"{scope}, {rule.access}, {rule.resource}, priority {rule.priority}"


def endpoint_of(service: str, word: str) -> str:
    """An endpoint as people name it: ``call``, ``Helloworld.Call``, or nothing for the usual one.

    Raises:
        errors.BadRequest: it cannot be one.
    """
    names.check_service(service)
    if not word:
        return names.default_endpoint(service)
    return names.check_endpoint(names.endpoint_name(service, word))


def _bad(detail: str) -> errors.BadRequest:
    return errors.BadRequest("auth", detail)
