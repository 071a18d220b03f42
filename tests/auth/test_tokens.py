"""Access tokens: only ours, whole and in time; and what a process does by them."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.auth.access import Access
from microcosmos.auth.interface import DEFAULT_RULE, Account, Policy, Resource, Rule
from microcosmos.auth.keys import TokenKeys, platform_token
from microcosmos.auth.tokens import LONGEST, Signer, verify
from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.rpc import Call, Endpoint

KEYS = TokenKeys()
JANE = Account(id="jane", scopes=("editor",), metadata={"team": "red"}, name="Jane")
NOW = 1_700_000_000.0
GOOD = KEYS.signer.sign(JANE, "s1", NOW, 900)


def parts(token: str) -> list[str]:
    return token.split(".")


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def forged() -> dict[str, str]:
    """Tokens that somebody else made, by name."""
    header, payload, signature = parts(GOOD)
    claims = jwt.decode(GOOD, options={"verify_signature": False})
    other = Signer(KEYS.signer.id, Ed25519PrivateKey.generate())
    x = KEYS.public()[KEYS.signer.id]
    kid = {"kid": KEYS.signer.id}
    secret = base64.urlsafe_b64decode(x + "=")
    return {
        "another key": other.sign(JANE, "s1", NOW, 900),
        "an unknown key": Signer("x", Ed25519PrivateKey.generate()).sign(JANE, "", NOW, 900),
        "no algorithm": f"{encoded({'alg': 'none', 'typ': 'JWT', **kid})}.{payload}.",
        "no algorithm, signed": f"{encoded({'alg': 'none', **kid})}.{payload}.{signature}",
        "other claims": f"{header}.{encoded({**claims, 'scopes': ['admin']})}.{signature}",
        "HS256 with the public key": jwt.encode(claims, secret, algorithm="HS256", headers=kid),
        "HS256 with its text": jwt.encode(claims, x.encode(), algorithm="HS256", headers=kid),
        "no signature": f"{header}.{payload}.",
        "half of it": f"{header}.{payload}",
        "an embedded key": jwt.encode(
            claims,
            Ed25519PrivateKey.generate(),
            algorithm="EdDSA",
            headers={**kid, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}},
        ),
        "no kid": jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA"),
        "nothing": "",
        "dots": "..",
        "not ascii": "ü.ü.ü",
    }


FORGED = forged()


@pytest.mark.parametrize("how", FORGED)
def test_a_token_that_we_did_not_sign_is_refused(how: str) -> None:
    with pytest.raises(errors.Unauthorized, match="not one of this server's"):
        verify(FORGED[how], KEYS.public(), NOW + 1)


def test_a_token_says_who_it_is_of() -> None:
    token = verify(GOOD, KEYS.public(), NOW + 1)
    assert token.account == JANE
    assert (token.session, token.issued, token.expires) == ("s1", NOW, NOW + 900)


def test_a_token_of_a_longer_life_is_cut() -> None:
    text = KEYS.signer.sign(JANE, "", NOW, 10 * LONGEST)
    assert verify(text, KEYS.public(), NOW).expires == NOW + LONGEST


@pytest.mark.parametrize(("now", "says"), [(NOW + 900, "expired"), (NOW - 6, "not good yet")])
def test_a_token_out_of_its_time_is_refused(now: float, says: str) -> None:
    with pytest.raises(errors.Unauthorized, match=says):
        verify(GOOD, KEYS.public(), now)


@pytest.mark.parametrize("missing", ["sub", "iss", "iat", "exp", "type"])
def test_a_token_has_to_say_all_of_it(missing: str) -> None:
    claims = jwt.decode(GOOD, options={"verify_signature": False})
    del claims[missing]
    signer = KEYS.signer
    text = jwt.encode(claims, signer._key, algorithm="EdDSA", headers={"kid": signer.id})
    with pytest.raises(errors.Unauthorized):
        verify(text, KEYS.public(), NOW)


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_any_text_is_refused_as_a_token(text: str) -> None:
    with pytest.raises(errors.Unauthorized):
        verify(text, KEYS.public(), NOW)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("AQZaqz09-_.="))
def test_a_token_with_another_letter_is_refused_or_the_same(place: int, letter: str) -> None:
    changed = GOOD[:place] + letter + GOOD[place + 1 :]
    try:
        assert verify(changed, KEYS.public(), NOW).account == JANE
    except errors.Unauthorized:
        return
    # The last letter of base64 has bits that stand for nothing.
    head, tail = changed.rpartition(".")[::2], GOOD.rpartition(".")[::2]
    assert head[0] == tail[0]
    assert _bytes(head[1]) == _bytes(tail[1])


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# By them.


def call(header: str | None = None, namespace: str = "") -> Call:
    metadata = {}
    if header is not None:
        metadata["Authorization"] = header
    if namespace:
        metadata["Micro-Namespace"] = namespace
    return Call("foo", "Foo.Call", b"{}", metadata)


CALLED = Endpoint("Foo.Call")


def opened(
    rules: list[Rule] | None = None, revoked: dict[str, float] | None = None
) -> tuple[Access, ManualClock]:
    clock = ManualClock(NOW + 1)
    access = Access(clock=clock)
    rules = [DEFAULT_RULE] if rules is None else rules
    policy = Policy(
        keys=KEYS.public(), rules={"micro": rules, "blue": rules}, revoked=revoked or {}
    )
    access.follow(policy)
    return access, clock


def test_nobody_is_let_in_before_the_policy_is_known() -> None:
    with pytest.raises(errors.Unavailable):
        Access()(call(f"Bearer {GOOD}"), CALLED)


@pytest.mark.parametrize("header", ["", "Basic YTpi", GOOD, f"Token {GOOD}", "Bearer", "Bearer x"])
def test_a_header_that_shows_no_token_is_not_taken_for_nobody(header: str) -> None:
    access, _ = opened()
    with pytest.raises(errors.Unauthorized):
        access(call(header), CALLED)


def test_what_was_allowed_once_is_refused_when_the_token_has_ended() -> None:
    access, clock = opened()
    assert access(call(f"Bearer {GOOD}"), CALLED) == JANE
    clock._now = NOW + 901
    with pytest.raises(errors.Unauthorized, match="expired"):
        access(call(f"Bearer {GOOD}"), CALLED)


@pytest.mark.parametrize("what", ["account/micro/jane", "session/s1", "namespace/micro"])
def test_what_was_allowed_once_is_refused_when_it_is_revoked(what: str) -> None:
    access, _ = opened()
    assert access(call(f"Bearer {GOOD}"), CALLED) == JANE
    policy = access.policy
    assert policy is not None
    rules = policy.rules
    access.follow(Policy(keys=KEYS.public(), rules=rules, revoked={what: NOW}))
    with pytest.raises(errors.Unauthorized, match="revoked"):
        access(call(f"Bearer {GOOD}"), CALLED)
    access.follow(Policy(keys=KEYS.public(), rules=rules, revoked={what: NOW - 0.001}))
    assert access(call(f"Bearer {GOOD}"), CALLED) == JANE


def test_an_account_of_another_namespace_is_nobody() -> None:
    access, _ = opened([DEFAULT_RULE])
    assert access(call(f"Bearer {GOOD}", "blue"), CALLED) is None
    closed, _ = opened([Rule(id="in", scope="*")])
    with pytest.raises(errors.Forbidden, match=r"call made to foo:Foo\.Call by jane"):
        closed(call(f"Bearer {GOOD}", "blue"), CALLED)


def test_a_process_of_the_platform_enters_every_namespace() -> None:
    token = platform_token(KEYS, "gateway-1")
    access = Access()
    access.follow(Policy(keys=KEYS.public(), rules={"blue": [Rule(id="in", scope="*")]}))
    account = access(call(f"Bearer {token}", "blue"), CALLED)
    assert account is not None
    assert (account.id, account.type) == ("gateway-1", "platform")


def test_there_is_nothing_in_a_namespace_that_is_unknown() -> None:
    access, _ = opened()
    with pytest.raises(errors.NotFound, match="red"):
        access(call(namespace="red"), CALLED)


@pytest.mark.parametrize(
    ("access", "who", "allowed"),
    [
        ("open", None, True),
        ("read", None, True),
        ("account", None, False),
        ("account", JANE, True),
        ("service", JANE, False),
        ("service", Account(id="s", type="service", scopes=("service",)), True),
        ("service", Account(id="a", scopes=("admin",)), True),
        ("admin", JANE, False),
        ("admin", Account(id="a", scopes=("admin",)), True),
        ("admin", Account(id="a", scopes=("admin",), namespace="blue"), False),
        ("platform", Account(id="a", scopes=("admin",)), True),
        ("platform", Account(id="a", scopes=("admin",), namespace="blue"), False),
        ("platform", Account(id="g", type="platform"), True),
    ],
)
def test_what_core_services_ask_for(access: Any, who: Account | None, allowed: bool) -> None:
    checks, _ = opened()
    if allowed:
        checks.check(who, "micro", "foo", "Foo.Call", access)
        return
    with pytest.raises(errors.Unauthorized if who is None else errors.Forbidden):
        checks.check(who, "micro", "foo", "Foo.Call", access)


def test_a_rule_closes_core_services_but_locks_no_admin_out_of_auth() -> None:
    admin = Account(id="a", scopes=("admin",))
    denied = Rule(id="no", access="DENIED", resource=Resource("*", "*", "*"))
    checks, _ = opened([denied])
    with pytest.raises(errors.Forbidden):
        checks.check(admin, "micro", "registry", "Registry.GetService", "read")
    checks.check(admin, "micro", "auth", "Rules.Delete", "admin")
    with pytest.raises(errors.Forbidden):
        checks.check(JANE, "micro", "auth", "Accounts.Read", "account")
