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
        rule for rule in rules if _applies(rule, account, namespace) and _covers(rule, resource)
    ]
    return max(found, key=_weight, default=None)


def applying(
    rules: Iterable[Rule], account: Account | None, namespace: str, resource: Resource
) -> list[Rule]:
    """The rules that say something of it; the first one decides. See `deciding`."""
    found = [
        rule for rule in rules if _applies(rule, account, namespace) and _covers(rule, resource)
    ]
    return sorted(found, key=_weight, reverse=True)


def _weight(rule: Rule) -> tuple[int, bool]:
    return rule.priority, rule.access == "DENIED"


def _applies(rule: Rule, account: Account | None, namespace: str) -> bool:
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
        _matches(pattern.type, resource.type)
        and _matches(pattern.name, resource.name)
        and _matches(pattern.endpoint, resource.endpoint)
    )


def _matches(pattern: str, text: str) -> bool:
    return pattern == "*" or _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.compile(".*".join(parts), re.IGNORECASE | re.DOTALL)
