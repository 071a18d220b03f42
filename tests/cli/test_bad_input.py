"""Whatever is typed, one line answers; nothing hangs, and no traceback is seen."""

from __future__ import annotations

import contextlib
import io
import sys

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microcosmos.base import schema
from microcosmos.cli import flags, pairs

from .conftest import Echo, Micro

CORPUS = [
    ["call", "helloworld", "call", '{"name":'],
    ["call", "helloworld", "call", "[" * 100_000],
    ["call", "helloworld", "call", "nope"],
    ["call", "helloworld", "call", '{"name": 1}'],
    ["call", "helloworld", "call", '{"nam": "x"}'],
    ["call", "helloworld", "call", "[]"],
    ["call", "hello*", "call"],
    ["call", "hello>", "call"],
    ["call", "../etc", "call"],
    ["call", "", ""],
    ["call", "helloworld", ""],
    ["call", "helloworld", "call", "--metadata", "x"],
    ["call", "helloworld", "call", "--metadata", "=x"],
    ["call", "helloworld", "call", "--metadata", "a=b\r\nc: d"],
    ["call", "helloworld", "call", "--metadata", "a b=c"],
    ["call", "helloworld", "call", "--request_timeout=0"],
    ["call", "helloworld", "call", "--request_timeout=-1"],
    ["call", "helloworld", "call", "--request_timeout=x"],
    ["call", "helloworld", "call", "--request_timeout=1x"],
    ["call", "helloworld", "call", "{}", "{}"],
    ["get", "service", "hello world"],
    ["get", "service", "x" * 10_000],
    ["helloworld", "--name=\udcff"],
    ["\udcff"],
    ["*"],
    ["a/b"],
    ["../../bin/ls"],
    ["x" * 10_000],
    [""],
    [" "],
    ["things", "echo", "--count=" + "9" * 5000],
    ["things", "echo", "--ratio=nan"],
    ["things", "echo", "--ratio=inf"],
    ["things", "echo", "--tags=[1"],
    ["things", "echo", "--labels=[]"],
    ["things", "echo", "--labels=" + "[" * 100_000],
    ["things", "echo", "--address=1"],
    ["things", "echo", "--address_street_x=1"],
    ["env", "set", ""],
    ["env", "add"],
    ["env", "nosuch"],
    ["user", "config", "get", ""],
    ["--env", "", "--env=nosuch", "services"],
    ["--home=/dev/null/x", "services"],
    ["run", "/no/such/folder"],
    ["run", ""],
    ["run", "https://user:pass@example.com/a/b"],
    ["run", ".", "--args='"],
    ["run", "helloworld", "--watch"],
    ["run", "helloworld", "-i", "x"],
    ["run", "helloworld", "--env_vars", "A"],
    ["logs"],
    ["logs", "x", "--since=yesterday"],
    ["logs", "x", "-n", "x"],
    ["new", "service"],
    ["new", "service", "a", "b"],
    ["new", "service", "a b"],
    ["new", "service", "."],
    ["new", "service", "/"],
    ["server", "--gateways=x"],
    ["server", "--gateways=0"],
    ["server", "--durability=never"],
    ["server", "--profile=nosuch"],
    ["server", "--api_address=nowhere"],
]


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("words", CORPUS, ids=lambda words: " ".join(words)[:40])
def test_bad_input_is_answered_in_one_line(micro: Micro, words: list[str]) -> None:
    result = micro(*words)
    assert result.code in (3, 4, 5, 64, 127, 128)
    assert result.err.startswith("micro: ")
    assert result.err.count("\n") == 1
    assert len(result.err) < 500
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.mark.usefixtures("platform")
def test_a_request_over_the_limit_is_not_sent(micro: Micro) -> None:
    body = b'{"name": "' + b"x" * (8 * 1024 * 1024) + b'"}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
        result = micro("call", "helloworld", "call", "-")
    assert result.code == 127
    assert "the limit of one call is 8388608" in result.err


SHAPE = schema.tree(Echo)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=12) | st.sampled_from(["--text", "--tags=", "--loud", "-", "--"])))
def test_any_words_are_a_request_or_a_usage_error(words: list[str]) -> None:
    with contextlib.suppress(click.UsageError):
        assert isinstance(flags.request(SHAPE, words), dict)


@given(st.lists(st.text(max_size=12)))
def test_any_pairs_are_pairs_or_a_usage_error(texts: list[str]) -> None:
    with contextlib.suppress(click.UsageError):
        assert all(pairs.parse("--metadata", texts))
