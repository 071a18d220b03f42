"""Which rule decides: the one place that says what rules mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .interface import ANY, ANYWHERE, PUBLIC, Account, Resource, Rule


def deciding(
    rules: Iterable[Rule], account: Account | None, namespace: str, resource: Resource
) -> Rule | None:
    """The rule that decides whether somebody may use a resource; None when none applies.

    Args:
        rules: of the namespace.
        account: who asks; None is anonymous.
        namespace: where the resource is.
        resource: what is asked for, without wildcards.
    """
    found = [
        rule for rule in rules if applies(rule, account, namespace) and _covers(rule, resource)
    ]
    return max(found, key=weight, default=None)


def applying(
    rules: Iterable[Rule], account: Account | None, namespace: str, resource: Resource
) -> list[Rule]:
    """The rules that say something of it; the first one decides. See `deciding`."""
    found = [
        rule for rule in rules if applies(rule, account, namespace) and _covers(rule, resource)
    ]
    return sorted(found, key=weight, reverse=True)


def weight(rule: Rule) -> tuple[int, bool]:
    """Of several rules the one that weighs most decides."""
    return rule.priority, rule.access == "DENIED"


def applies(rule: Rule, account: Account | None, namespace: str) -> bool:
    """Whether a rule of a namespace is about somebody."""
    if rule.scope == PUBLIC:
        return True
    if account is None:
        return False
    if rule.scope == ANYWHERE:
        return True
    return account.enters(namespace) and (rule.scope == ANY or rule.scope in account.scopes)


def _covers(rule: Rule, resource: Resource) -> bool:
    pattern = rule.resource
    return (
        matches(pattern.type, resource.type)
        and matches(pattern.name, resource.name)
        and matches(pattern.endpoint, resource.endpoint)
    )


def matches(pattern: str, text: str) -> bool:
    """Whether a part of a rule's resource stands for a text; ``*`` is any characters in it."""
    return pattern == "*" or _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.compile(".*".join(parts), re.IGNORECASE | re.DOTALL)
