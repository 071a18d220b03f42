"""What rules mean, against a model written down another way; and what a good rule is."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.auth import ruling
from microcosmos.auth.interface import Account, Resource, Rule
from microcosmos.auth.rules import applying, deciding
from microcosmos.base import errors

PARTS = st.sampled_from(["*", "service", "foo", "Foo", "foo*", "*o", "f*o", "bar", "Foo.Call"])
# Many that apply, or little would have to be decided.
SOME = st.one_of(st.just("*"), st.just("foo*"), PARTS)
SCOPES = st.sampled_from(["", "*", "+", "admin", "editor"])
RULES = st.lists(
    st.builds(
        Rule,
        id=st.text("abc", min_size=1, max_size=3),
        scope=SCOPES,
        resource=st.builds(Resource, st.sampled_from(["*", "service", "topic"]), SOME, SOME),
        access=st.sampled_from(["GRANTED", "DENIED"]),
        priority=st.integers(-1, 1),
    ),
    max_size=8,
)
ACCOUNTS = st.one_of(
    st.none(),
    st.builds(
        Account,
        id=st.just("jane"),
        type=st.sampled_from(["user", "service"]),
        namespace=st.sampled_from(["micro", "blue", "red"]),
        scopes=st.lists(st.sampled_from(["admin", "editor"]), unique=True).map(tuple),
    ),
)


def naive(
    rules: list[Rule], account: Account | None, namespace: str, service: str, endpoint: str
) -> str:
    """GRANTED, DENIED or nothing, priority by priority."""
    for priority in sorted({rule.priority for rule in rules}, reverse=True):
        said = {
            rule.access
            for rule in rules
            if rule.priority == priority
            and meant(rule.scope, account, namespace)
            and all(
                fnmatchcase(text.lower(), pattern.lower())
                for pattern, text in (
                    (rule.resource.type, "service"),
                    (rule.resource.name, service),
                    (rule.resource.endpoint, endpoint),
                )
            )
        }
        if said:
            return "DENIED" if "DENIED" in said else "GRANTED"
    return ""


def meant(scope: str, account: Account | None, namespace: str) -> bool:
    if scope == "" or account is None:
        return scope == ""
    at_home = account.namespace == namespace
    platform = account.namespace == "micro" and "admin" in account.scopes
    if scope == "+":
        return True
    return (at_home or platform) and (scope == "*" or scope in account.scopes)


CALLED = st.sampled_from(["foo", "Foo.Call", "bar"])


@given(RULES, ACCOUNTS, st.sampled_from(["micro", "blue"]), CALLED, CALLED)
def test_rules_decide_as_the_model_does(
    rules: list[Rule], account: Account | None, namespace: str, service: str, endpoint: str
) -> None:
    decides = deciding(rules, account, namespace, Resource("service", service, endpoint))
    wanted = naive(rules, account, namespace, service, endpoint)
    assert (decides.access if decides else "") == wanted


@pytest.mark.parametrize("turned", [False, True])
def test_at_equal_priority_the_one_that_denies_wins(turned: bool) -> None:
    rules = [Rule(id="a"), Rule(id="b", access="DENIED"), Rule(id="c", access="GRANTED")]
    rules = rules[::-1] if turned else rules
    decides = deciding(rules, None, "micro", Resource("service", "foo", "Foo.Call"))
    assert decides is not None
    assert decides.id == "b"


@given(RULES, ACCOUNTS, CALLED)
def test_the_first_rule_that_applies_is_the_one_that_decides(
    rules: list[Rule], account: Account | None, service: str
) -> None:
    resource = Resource("service", service, "Foo.Call")
    found = applying(rules, account, "micro", resource)
    decides = deciding(rules, account, "micro", resource)
    assert [*found[:1]] == ([] if decides is None else [decides])


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (Rule(id=""), "id"),
        (Rule(id="a/b"), "id"),
        (Rule(id="x" * 101), "id"),
        (Rule(id="a", scope="two words"), "scope"),
        (Rule(id="a", scope="**"), "scope"),
        (Rule(id="a", resource=Resource("servce", "*", "*")), "topic or \\*"),
        (Rule(id="a", resource=Resource("service", "", "*")), "''"),
        (Rule(id="a", resource=Resource("service", "a b", "*")), "'a b'"),
        (Rule(id="a", resource=Resource("service", "*", "x" * 201)), "xxx"),
        (Rule(id="a", priority=2**31), "priority"),
        (Rule(id="a", priority=-(2**31) - 1), "priority"),
    ],
)
def test_a_rule_that_could_not_mean_anything_is_refused(rule: Rule, says: str) -> None:
    with pytest.raises(errors.BadRequest, match=says):
        ruling.check(rule)


@pytest.mark.parametrize("scope", ["", "*", "+", "admin", "team:red", "a@b"])
def test_scopes_that_rules_may_ask_for(scope: str) -> None:
    ruling.check(Rule(id="a", scope=scope, resource=Resource("service", "v1.foo", "Foo.*")))
