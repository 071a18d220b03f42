"""`micro auth`, against accounts and rules that are real."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import Micro

pytestmark = pytest.mark.usefixtures("guarded")


def test_the_rule_of_a_fresh_server_as_in_the_reference(micro: Micro) -> None:
    assert micro("auth", "list", "rules").out == (
        "ID       Scope     Access   Resource  Priority\ndefault  <public>  GRANTED  *:*:*     0\n"
    )


def test_rules_as_in_the_reference(micro: Micro) -> None:
    words = ["--access=granted", "--scope=*", "--resource=*:*:*", "onlyloggedin"]
    assert micro("auth", "create", "rule", *words).out == "Rule created\n"
    words = ["--access=granted", "--resource=service:auth:*", "auth-public"]
    assert micro("auth", "create", "rule", *words).out == "Rule created\n"
    assert micro("auth", "list", "rules").out == (
        "ID            Scope     Access   Resource        Priority\n"
        "auth-public   <public>  GRANTED  service:auth:*  0\n"
        "onlyloggedin  *         GRANTED  *:*:*           0\n"
        "default       <public>  GRANTED  *:*:*           0\n"
    )
    assert micro("auth", "delete", "rule", "default").out == "Rule deleted\n"
    assert micro("auth", "delete", "rule", "default").code == 4
    assert [one["id"] for one in json.loads(micro("auth", "list", "rules", "-o", "json").out)] == [
        "auth-public",
        "onlyloggedin",
    ]


def test_a_rule_as_json_is_what_the_server_keeps(micro: Micro) -> None:
    micro("auth", "create", "rule", "x", "--access=DENIED", "--priority=7", "--scope=dev")
    (rule,) = [
        one
        for one in json.loads(micro("auth", "list", "rules", "--output=json").out)
        if one["id"] == "x"
    ]
    assert rule == {
        "id": "x",
        "scope": "dev",
        "resource": {"type": "*", "name": "*", "endpoint": "*"},
        "access": "DENIED",
        "priority": 7,
    }


@pytest.mark.parametrize("resource", ["", "a", "a:b", "a::b", ":::", "service:a b:*", "x:*:*"])
def test_a_bad_resource_is_refused(micro: Micro, resource: str) -> None:
    result = micro("auth", "create", "rule", "x", f"--resource={resource}")
    assert result.code in (64, 127)
    assert "resource: " in result.err
    assert result.err.count("\n") == 1
    assert "x  " not in micro("auth", "list", "rules").out


@pytest.mark.parametrize("words", [["--access=maybe"], ["--priority=high"], ["--nosuch=1"]])
def test_a_bad_flag_is_a_usage_error(micro: Micro, words: list[str]) -> None:
    assert micro("auth", "create", "rule", "x", *words).code == 64


def test_a_rule_that_is_there_already_is_a_conflict(micro: Micro) -> None:
    result = micro("auth", "create", "rule", "default")
    assert result.code == 127
    assert "default" in result.err


def test_accounts_as_in_the_reference(micro: Micro) -> None:
    assert micro("auth", "list", "accounts").out == (
        "ID     Name   Scopes  Metadata\nadmin  admin  admin   n/a\n"
    )
    made = micro("auth", "create", "account", "--scopes=admin", "jane").out
    assert re.fullmatch(
        r'Account created: {"id":"jane","type":"user","issuer":"micro","metadata":null,'
        r'"scopes":\["admin"\],"secret":"[0-9a-f-]{36}","name":"jane"}\n',
        made,
    )
    assert micro("auth", "list", "accounts").out == (
        "ID     Name   Scopes  Metadata\nadmin  admin  admin   n/a\njane   jane   admin   n/a\n"
    )
    secret = json.loads(made.partition(": ")[2])["secret"]
    assert micro("login", "--username=jane", f"--password={secret}").code == 0
    assert micro("user").out == "jane\n"
    micro("logout")
    assert micro("auth", "delete", "account", "jane").out == "Account deleted\n"
    assert micro("login", "--username=jane", f"--password={secret}").code == 2


def test_scopes_are_given_as_a_list_or_again(micro: Micro) -> None:
    micro("auth", "create", "account", "ann", "--scopes", "a,b", "--scopes", "c")
    assert "ann    ann    a,b,c   n/a\n" in micro("auth", "list", "accounts").out


def test_services_have_accounts_of_another_list(micro: Micro) -> None:
    micro("auth", "create", "account", "robot", "--type=service")
    assert "robot" not in micro("auth", "list", "accounts").out
    assert "robot" in micro("auth", "list", "accounts", "--type=service").out
    assert "admin" in micro("auth", "list", "accounts", "--type=all").out


def test_an_account_that_is_there_already_is_a_conflict(micro: Micro) -> None:
    result = micro("auth", "create", "account", "admin")
    assert result.code == 127
    assert "admin" in result.err


def test_a_token_for_a_program(micro: Micro) -> None:
    micro("auth", "create", "account", "robot", "--secret=a good password")
    made = micro("auth", "create", "token", "--id=robot", "--secret=a good password").out
    assert made.startswith('Token created: {"access_token":"')
    token = json.loads(made.partition(": ")[2])
    assert token["expiry"] - token["created"] == pytest.approx(900, abs=2)
    wrong = micro("auth", "create", "token", "--id=robot", "--secret=wrong")
    assert wrong.code == 2
    # An admin needs no secret.
    words = ["auth", "create", "token", "--id=robot", "--expiry=1h", "--output=json"]
    token = json.loads(micro(*words).out)
    assert token["expiry"] - token["created"] == pytest.approx(3600, abs=2)
    seen = micro("call", "auth", "Auth.Inspect", json.dumps({"token": token["access_token"]}))
    assert json.loads(seen.out)["account"]["id"] == "robot"


@pytest.mark.parametrize("expiry", ["25h", "-5s", "soon", "1e9"])
def test_a_token_has_a_bounded_life(micro: Micro, expiry: str) -> None:
    result = micro("auth", "create", "token", "--id=admin", f"--expiry={expiry}")
    assert result.code in (64, 127)
    assert result.err.count("\n") == 1


def test_a_secret_is_changed_by_an_admin_or_with_the_old_one(micro: Micro) -> None:
    micro("auth", "create", "account", "ann", "--secret=first password")
    words = ["auth", "update", "secret", "ann", "--new_secret=second password"]
    assert micro(*words).out == "Secret updated\n"
    assert micro("login", "--username=ann", "--password=second password").code == 0
    result = micro("auth", "update", "secret", "ann", "--new_secret=third password")
    assert result.code == 127
    assert "it is not the secret of ann" in result.err
    words = ["--old-secret=second password", "--new-secret=third password"]
    assert micro("auth", "update", "secret", *words, "ann").out == "Secret updated\n"
    assert micro("login", "--username=ann", "--password=third password").code == 0
    # And of others she changes nothing.
    result = micro("auth", "update", "secret", "admin", "--new_secret=mine mine mine")
    assert result.code == 2
    assert "ann" in result.err


def test_why_somebody_may_call(micro: Micro) -> None:
    said = micro("auth", "why", "admin", "helloworld", "Call").out
    assert said.startswith("admin may call helloworld:Helloworld.Call in micro: rule default (")
    micro("auth", "delete", "rule", "default")
    said = micro("auth", "why", "", "helloworld").out
    assert said.startswith("anybody may not call helloworld:Helloworld.Call in micro: no rule")
    whole = json.loads(micro("auth", "why", "", "helloworld", "--output=json").out)
    assert (whole["allowed"], whole["code"], whole["rules"]) == (False, 401, [])
    result = micro("auth", "why", "nosuch", "helloworld")
    assert result.code == 4


def test_rules_hold_for_commands(micro: Micro) -> None:
    micro("auth", "create", "account", "ann", "--secret=ann's password")
    micro("auth", "create", "rule", "no", "--access=denied", "--resource=service:helloworld:*")
    micro("login", "--username=ann", "--password=ann's password")
    result = micro("helloworld")
    assert result.code == 2
    assert "Forbidden call made to helloworld:Helloworld.Call by ann" in result.err


def test_namespaces_are_made_and_deleted(micro: Micro) -> None:
    assert micro("auth", "create", "namespace", "staging").out == "Namespace created\n"
    assert micro("auth", "list", "namespaces").out == "micro\nstaging\n"
    assert micro("auth", "create", "namespace", "staging").code == 127
    assert micro("auth", "create", "namespace", "No Name").code == 64
    words = ["auth", "create", "rule", "mine", "--namespace=staging"]
    assert micro(*words).code == 0
    assert "mine" in micro("--namespace=staging", "auth", "list", "rules").out
    assert "mine" not in micro("auth", "list", "rules").out
    micro("auth", "create", "account", "ann", "--namespace=staging")
    result = micro("auth", "delete", "namespace", "staging")
    assert result.code == 127
    assert "has accounts, such as ann" in result.err
    assert micro("auth", "delete", "namespace", "staging", "--force").out == "Namespace deleted\n"
    assert micro("auth", "list", "namespaces").out == "micro\n"
    assert micro("auth", "delete", "namespace", "micro", "--force").code != 0


def test_the_audit_log_tells_who_changed_what(micro: Micro) -> None:
    micro("auth", "create", "account", "ann", "--secret=ann's password")
    micro("auth", "create", "rule", "mine")
    result = micro("auth", "audit")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].split() == ["TIME", "WHO", "ACTION", "SUBJECT", "DETAIL"]
    made = next(line for line in lines if " ann " in line)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  admin +account created +ann ", made)
    assert any("mine" in line for line in lines)
    assert "ann's password" not in micro("auth", "audit", "--output=json").out
    assert len(micro("auth", "audit", "-n", "1").out.splitlines()) == 2


def test_pages_of_the_words(micro: Micro) -> None:
    page = micro("auth", "--help").out
    for word in ("list", "create", "delete", "update", "why", "audit"):
        assert f"    {word} " in page
    assert "--scopes" in micro("auth", "create", "account", "--help").out
    assert micro("help", "auth", "create").out == micro("auth", "create", "--help").out
