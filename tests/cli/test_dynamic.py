"""``micro <service> [endpoint] --flags``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Micro

pytestmark = pytest.mark.usefixtures("platform")


def echo(micro: Micro, *flags: str) -> dict[str, Any]:
    result = micro("things", "echo", *flags)
    assert result.code == 0, result.err
    answer: dict[str, Any] = json.loads(result.out)
    return answer


def test_a_bare_service_means_its_call_endpoint(micro: Micro) -> None:
    assert micro("helloworld", "--name=John").out == '{\n  "msg": "Hello John"\n}\n'


def test_one_word_is_a_method_of_the_service(micro: Micro) -> None:
    assert micro("helloworld", "call", "--name", "John").out == '{\n  "msg": "Hello John"\n}\n'


@pytest.mark.parametrize("flags", [["--output", "json"], ["--output=json"], ["-o", "json"]])
def test_json_may_be_asked_for_although_it_is_what_comes(micro: Micro, flags: list[str]) -> None:
    assert micro("helloworld", *flags, "--name=Jo").out == '{\n  "msg": "Hello Jo"\n}\n'


def test_another_output_than_json_is_a_usage_error(micro: Micro) -> None:
    result = micro("helloworld", "--output", "table")
    assert (result.code, result.out) == (64, "")
    assert "JSON" in result.err


def test_two_words_are_handler_and_method(micro: Micro) -> None:
    assert micro("things", "other", "thing").out == '"a thing"\n'


def test_a_word_is_found_in_any_case(micro: Micro) -> None:
    assert json.loads(micro("registry", "listservices").out)["services"]


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--text=a=b"], "text", "a=b"),
        (["--text", "two words"], "text", "two words"),
        (["--text="], "text", ""),
        (["--text", "-x"], "text", "-x"),
        (["--text=--x"], "text", "--x"),
        (["--text=1"], "text", "1"),
        (["--count", "-5"], "count", -5),
        (["--ratio=2.5"], "ratio", 2.5),
        (["--loud"], "loud", True),
        (["--loud=true"], "loud", True),
        (["--loud", "false"], "loud", False),
        (["--loud=false"], "loud", False),
        (["--loud", "--count=1"], "loud", True),
        (["--tags=a,b"], "tags", ["a", "b"]),
        (["--tags=a", "--tags", "b"], "tags", ["a", "b"]),
        (['--tags=["a,b"]'], "tags", ["a,b"]),
        (["--tags="], "tags", []),
        (["--numbers=1,2", "--numbers=3"], "numbers", [1, 2, 3]),
        (['--labels={"a": "b=c"}'], "labels", {"a": "b=c"}),
        (['--labels={"a":"1"}', '--labels={"b":"2"}'], "labels", {"a": "1", "b": "2"}),
        (["--address_zip_code=7"], "address", {"street": "", "zip_code": 7}),
        (["--address-zip-code=7"], "address", {"street": "", "zip_code": 7}),
        (['--address={"street":"x"}'], "address", {"street": "x", "zip_code": 0}),
        (
            ['--address={"street":"x"}', "--address_zip_code=1"],
            "address",
            {"street": "x", "zip_code": 1},
        ),
    ],
)
def test_flags_become_fields(micro: Micro, flags: list[str], field: str, value: object) -> None:
    assert echo(micro, *flags)[field] == value


def test_a_field_with_an_underscore_wins_over_a_nested_one(micro: Micro) -> None:
    answer = echo(micro, "--address_street=here")
    assert answer["address_street"] == "here"
    assert answer["address"]["street"] == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--txt=a"], "no such option '--txt'. Did you mean '--text'?"),
        (["--text"], "--text needs a value (string)"),
        (["--text", "--count=1"], "--text needs a value (string)"),
        (["--count=x"], "--count: 'x' is not a whole number"),
        (["--count=1.5"], "--count: '1.5' is not a whole number"),
        (["--loud=perhaps"], "--loud: 'perhaps' is not true or false"),
        (["--numbers=1,x"], "--numbers: 'x' is not a whole number"),
        (["--labels=x"], "--labels: 'x' is not JSON"),
        (["--address=x", "--address_zip_code=1"], "address has been given a value already"),
        (["--text=a", "stray"], "unexpected 'stray'"),
        (["-x"], "unexpected '-x'"),
        (["--"], "unexpected '--'"),
        (["--=1"], "no such option '--'"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_that_says_so(
    micro: Micro, words: list[str], said: str
) -> None:
    result = micro("things", "echo", *words)
    assert result.code == 64
    assert said in result.err
    assert result.err.count("\n") == 1


def test_an_unknown_endpoint_lists_those_there_are(micro: Micro) -> None:
    result = micro("helloworld", "cal")
    assert result.code == 5
    assert "it has: Helloworld.Call" in result.err


def test_an_unknown_word_names_close_services(micro: Micro) -> None:
    result = micro("helloword", "--name=x")
    assert result.code == 4
    assert result.err == (
        "micro: there is no command or service 'helloword'; did you mean helloworld?"
        + result.err[result.err.index(" (trace") :]
    )


def test_an_unknown_word_names_close_commands(micro: Micro) -> None:
    assert "did you mean services" in micro("servics").err
