"""Topics: who may publish, listen, read and administer under which name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, cast

from microcosmos.base import context, errors, topics

from .access import Access, unknown
from .interface import ANY, SERVICE, Account, Rule
from .rules import applies, matches, weight

TOPIC = "topic"
"""The type of a resource that is a topic."""

Verb = Literal["publish", "subscribe", "consume", "read", "admin"]
"""What is done with a topic: ``subscribe`` is the broker's, ``consume`` and ``read`` are of
events, and ``admin`` makes, purges, resets and removes."""

VERBS: tuple[Verb, ...] = ("publish", "subscribe", "consume", "read", "admin")

Authorise = Callable[[str, str], None]
"""Refuses who calls just now what they may not do: a topic or a pattern, and a `Verb`."""


def authorising(access: Access) -> Authorise:
    """What refuses who calls, in the namespace of the call, by the rules that a process follows.

    Admins of the namespace may do everything. Of everybody else the rules about topics decide
    that apply; where none does, services may do all but administer.
    """

    def authorise(topic: str, verb: str) -> None:
        here = context.current()
        policy = access.policy
        if policy is None:
            raise errors.Unavailable("auth", "it is not known yet who may call; try again")
        rules = policy.rules.get(here.namespace)
        if rules is None:
            raise unknown(here.namespace)
        check(cast("Account | None", here.account), here.namespace, rules, topic, verb)

    return authorise


def open_to_all(topic: str, verb: str) -> None:
    """What refuses nobody: a platform without accounts, as in memory."""


def check(
    account: Account | None, namespace: str, rules: Iterable[Rule], topic: str, verb: str
) -> None:
    """Refuse who may not do something with a topic, or with all topics of a pattern.

    Args:
        account: who; None is anonymous.
        namespace: where the topic is.
        rules: of that namespace.
        topic: a topic or a pattern.
        verb: what is done.

    Raises:
        errors.Unauthorized: nobody knows who asks.
        errors.Forbidden: the account may not; the detail says what would let it.
    """
    if account is None:
        raise errors.Unauthorized(TOPIC, f"topics are not for the anonymous: {topic}; micro login")
    if account.administers(namespace):
        return
    rule = deciding(rules, account, namespace, topic, verb)
    if rule is not None:
        allowed = rule.access == "GRANTED"
    else:
        allowed = verb != "admin" and account.enters(namespace) and _is_service(account)
    if not allowed:
        raise errors.Forbidden(TOPIC, _refusal(account, topic, verb, rule))


def deciding(
    rules: Iterable[Rule], account: Account, namespace: str, topic: str, verb: str
) -> Rule | None:
    """The rule that decides of a topic or a pattern; None when none does.

    Of a pattern, a rule that grants counts if it is about all of its topics, and one that denies
    if it is about any.
    """
    found = [
        rule
        for rule in rules
        if rule.resource.type.lower() == TOPIC
        and applies(rule, account, namespace)
        and matches(rule.resource.endpoint, verb)
        and _speaks(rule, topic)
    ]
    return max(found, key=weight, default=None)


def _speaks(rule: Rule, topic: str) -> bool:
    named = ">" if rule.resource.name == ANY else rule.resource.name
    if rule.access == "GRANTED":
        return topics.covers(named, topic)
    return topics.overlap(named, topic)


_SAID = {"publish": "publish to", "subscribe": "subscribe to", "admin": "administer"}


def _is_service(account: Account) -> bool:
    return account.type == "service" or SERVICE in account.scopes


def _refusal(account: Account, topic: str, verb: str, rule: Rule | None) -> str:
    said = f"{account.id} may not {_SAID.get(verb, verb)} {topic}"
    if rule is not None:
        return f"{said}: rule {rule.id} denies it"
    if verb == "admin":
        said += ": that takes the scope admin"
    scope = account.scopes[0] if account.scopes else ANY
    return (
        f"{said}; an admin can let it: `micro auth create rule ID --scope '{scope}' "
        f"--resource '{TOPIC}:{topic}:{verb}'`"
    )
