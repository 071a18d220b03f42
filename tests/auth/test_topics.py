"""Who may do what with which topic."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account, Policy, Resource, Rule
from microcosmos.auth.ruling import check as check_rule
from microcosmos.auth.topics import VERBS, authorising, check, open_to_all
from microcosmos.base import context, errors
from microcosmos.base.context import NAMESPACE, Context, Metadata
from microcosmos.base.topics import covers, matches, overlap

ADMIN = Account(id="root", scopes=("admin",))
LOCAL_ADMIN = Account(id="anna", namespace="foo", scopes=("admin",))
SERVICE = Account(id="shop", type="service", scopes=("service",))
USER = Account(id="jane", scopes=("readers",))
GATEWAY = Account(id="gateway", type="platform")


def rule(topic="*", verb="*", *, id="one", **fields) -> Rule:
    return check_rule(Rule(id=id, resource=Resource("topic", topic, verb), **fields))


def may(account, topic, verb, *rules, namespace="micro") -> bool:
    try:
        check(account, namespace, rules, topic, verb)
    except errors.Forbidden:
        return False
    return True


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("topic", ["orders", "orders.*", ">"])
def test_without_rules_admins_may_all_and_services_all_but_administer(topic, verb) -> None:
    assert may(ADMIN, topic, verb)
    assert may(ADMIN, topic, verb, namespace="foo")
    assert may(GATEWAY, topic, verb)
    assert may(LOCAL_ADMIN, topic, verb, namespace="foo")
    assert not may(LOCAL_ADMIN, topic, verb, namespace="micro")
    assert may(SERVICE, topic, verb) == (verb != "admin")
    assert not may(SERVICE, topic, verb, namespace="foo")
    assert not may(USER, topic, verb)


@pytest.mark.parametrize("verb", VERBS)
def test_the_anonymous_may_nothing_whatever_the_rules_say(verb) -> None:
    with pytest.raises(errors.Unauthorized, match="micro login"):
        check(None, "micro", [rule()], "orders", verb)


def test_a_rule_grants_a_verb_of_a_topic_to_who_it_is_for() -> None:
    reads = rule("orders.*", "read", scope="readers")
    assert may(USER, "orders.eu", "read", reads)
    assert may(USER, "orders.*", "read", reads)
    assert not may(USER, "orders.eu", "consume", reads)
    assert not may(USER, "orders", "read", reads)
    assert not may(USER, "orders.eu.1", "read", reads)
    assert not may(USER, "orders.>", "read", reads)
    other = Account(id="joe", scopes=("writers",))
    assert not may(other, "orders.eu", "read", reads)
    assert may(other, "orders.eu", "read", rule("orders.eu", "*"))
    assert may(other, "orders.eu", "admin", rule("*", "*", scope="*"))


def test_a_rule_denies_a_pattern_of_which_it_denies_a_topic() -> None:
    secret = rule("orders.secret", "consume", access="DENIED")
    assert not may(SERVICE, "orders.secret", "consume", secret)
    assert not may(SERVICE, "orders.*", "consume", secret)
    assert not may(SERVICE, ">", "consume", secret)
    assert may(SERVICE, "orders.eu", "consume", secret)
    assert may(SERVICE, "orders.secret", "publish", secret)
    assert may(ADMIN, "orders.secret", "consume", secret)


def test_the_highest_priority_decides_and_of_equals_the_one_that_denies() -> None:
    grants = rule("orders.>", "*", id="grants", scope="readers", priority=1)
    denies = rule("orders.eu", "*", id="denies", access="DENIED", priority=1)
    assert not may(USER, "orders.eu", "read", grants, denies)
    assert may(USER, "orders.us", "read", grants, denies)
    above = rule("orders.>", "*", id="above", scope="readers", priority=2)
    assert may(USER, "orders.eu", "read", above, denies)
    assert may(USER, "orders.*", "read", above, denies)


def test_rules_of_any_type_open_no_topics() -> None:
    assert not may(USER, "orders", "read", Rule(id="default"))
    assert not may(USER, "orders", "read", Rule(id="all", resource=Resource("*", "orders", "read")))
    service = Rule(id="s", resource=Resource("service", "orders", "read"))
    assert not may(USER, "orders", "read", service)


def test_a_rule_about_topics_says_nothing_of_services() -> None:
    access = Access()
    access.follow(Policy(rules={"micro": [rule(access="DENIED"), Rule(id="default")]}))
    access.check(USER, "micro", "helloworld", "Helloworld.Call", "rules")


@pytest.mark.parametrize(
    ("topic", "verb", "says"),
    [
        ("a..b", "read", "neither a topic nor a pattern"),
        ("a.>.b", "read", "neither a topic nor a pattern"),
        ("a b", "read", "neither a topic nor a pattern"),
        ("orders", "reed", "publish, subscribe, consume, read, admin"),
    ],
)
def test_a_rule_that_can_be_about_no_topic_is_refused(topic, verb, says) -> None:
    with pytest.raises(errors.BadRequest, match=says):
        rule(topic, verb)


def test_who_calls_is_asked_in_the_namespace_of_the_call() -> None:
    access = Access()
    authorise = authorising(access)
    with pytest.raises(errors.Unavailable):
        authorise("orders", "read")
    access.follow(Policy(rules={"micro": [], "foo": [rule(scope="+")]}))

    def asked(account, namespace):
        context.set_current(Context(Metadata({NAMESPACE: namespace}), account=account))
        authorise("orders", "read")

    asked(SERVICE, "micro")
    asked(USER, "foo")
    for account, namespace, kind in [
        (USER, "micro", errors.Forbidden),
        (None, "micro", errors.Unauthorized),
        (SERVICE, "nowhere", errors.NotFound),
    ]:
        with pytest.raises(kind):
            asked(account, namespace)
    context.set_current(None)
    open_to_all("orders", "admin")


PARTS = ("a", "b")
TOPICS = [".".join(parts) for n in (1, 2, 3, 4) for parts in itertools.product(PARTS, repeat=n)]
_patterns = st.lists(st.sampled_from([*PARTS, "*"]), min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([".".join(parts), ".".join([*parts, ">"]), ">"])
)


@given(_patterns, _patterns)
def test_patterns_cover_and_overlap_as_their_topics_do(one, other) -> None:
    of_one = {topic for topic in TOPICS if matches(one, topic)}
    of_other = {topic for topic in TOPICS if matches(other, topic)}
    # One of three parts and a > has topics of four: enough to tell all of these apart, but for
    # what no topic of two letters tells: that * is more than both letters.
    assert overlap(one, other) == bool(of_one & of_other)
    assert not covers(one, other) or of_other <= of_one
    assert covers(one, other) or "*" in other or ">" in other or not of_other <= of_one
