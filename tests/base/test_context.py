"""The circumstances of a call, and what travels onwards."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import context, errors
from microcosmos.base.context import Context, Metadata


@pytest.mark.parametrize(
    ("name", "titled"),
    [
        ("foobar", "Foobar"),
        ("FOOBAR", "Foobar"),
        ("x-request-id", "X-Request-Id"),
        ("MICRO-namespace", "Micro-Namespace"),
        ("a--b", "A--B"),
        ("", ""),
    ],
)
def test_names_are_title_cased(name: str, titled: str) -> None:
    assert context.title(name) == titled


def test_metadata_is_found_in_any_case() -> None:
    metadata = Metadata({"x-user": "jo"})
    assert metadata["X-USER"] == metadata["x-user"] == metadata.get("X-user") == "jo"
    assert "X-uSER" in metadata
    assert "x-other" not in metadata
    assert metadata.get("x-other", "none") == "none"


def test_metadata_changes_in_any_case_and_is_listed_title_cased() -> None:
    metadata = Metadata({"x-user": "jo"})
    metadata["X-USER"] = "joe"
    metadata["foo"] = "bar"
    assert dict(metadata) == {"X-User": "joe", "Foo": "bar"}
    del metadata["FOO"]
    assert list(metadata) == ["X-User"]
    assert len(metadata) == 1


def test_something_else_than_a_name_is_not_in_metadata() -> None:
    assert 7 not in Metadata({"7": "x"})


@given(st.dictionaries(st.from_regex(r"[A-Za-z-]{1,8}", fullmatch=True), st.text()))
def test_every_name_of_metadata_is_found_by_its_upper_and_lower_case(
    values: dict[str, str],
) -> None:
    metadata = Metadata(values)
    for name in values:
        assert metadata[name.upper()] == metadata[name.lower()] == metadata[name]


def test_a_pair_is_sent_title_cased_without_outer_blanks() -> None:
    assert context.sendable("x-user", "  jo\tè ") == ("X-User", "jo\tè")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é", "a\0", "a\n", 7])
def test_a_name_that_could_not_be_a_header_is_refused(name: str) -> None:
    with pytest.raises(errors.BadRequest, match="cannot be the name of metadata"):
        context.sendable(name, "x")


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb", "\0", "\x7f", "\ud800", 7, None])
def test_a_value_that_could_not_be_a_header_is_refused(value: str) -> None:
    with pytest.raises(errors.BadRequest, match="the value of X-User cannot be sent"):
        context.sendable("X-User", value)


def test_a_refused_value_is_not_told_whole() -> None:
    with pytest.raises(errors.BadRequest) as caught:
        context.sendable("A", "b" * 10_000 + "\n")
    assert len(caught.value.detail) < 200


def test_what_describes_a_body_or_a_connection_does_not_travel_onwards() -> None:
    metadata = Metadata(
        {
            "content-length": "7",
            "content-type": "text/html",
            "host": "example.com",
            "cookie": "a=b",
            "connection": "close",
            "timeout": "7",
            "authorization": "Bearer x",
            "micro-trace": "t",
            "micro-namespace": "n",
            "x-user": "jo",
        }
    )
    outgoing = Context(metadata).outgoing()
    assert outgoing == {
        "Authorization": "Bearer x",
        "Micro-Trace": "t",
        "Micro-Namespace": "n",
        "X-User": "jo",
    }


def test_outgoing_metadata_is_a_copy() -> None:
    here = Context(Metadata({"x-user": "jo"}))
    here.outgoing()["X-User"] = "other"
    assert here.metadata["x-user"] == "jo"


def test_the_namespace_and_the_trace_come_from_the_metadata() -> None:
    here = Context(Metadata({"micro-namespace": "shop", "micro-trace": "abc"}))
    assert (here.namespace, here.trace) == ("shop", "abc")
    assert (Context().namespace, Context().trace) == ("micro", "")


def test_what_remains_of_a_deadline_is_never_negative() -> None:
    now = time.monotonic()
    assert Context().remaining() is None
    assert Context(deadline=now - 5).remaining() == 0
    remaining = Context(deadline=now + 60).remaining()
    assert remaining is not None
    assert 50 < remaining <= 60


def test_outside_of_a_call_the_context_is_empty() -> None:
    assert context.current_or_none() is None
    assert dict(context.current().metadata) == {}
    assert context.current().account is None


def test_traces_are_32_hexadecimal_digits_and_differ() -> None:
    traces = {context.new_trace() for _ in range(100)}
    assert len(traces) == 100
    assert all(len(trace) == 32 and int(trace, 16) >= 0 for trace in traces)


def test_what_could_not_be_a_header_is_not_set() -> None:
    metadata = Metadata()
    with pytest.raises(errors.BadRequest):
        metadata["Foobar"] = "a\r\nEvil: 1"
    with pytest.raises(errors.BadRequest):
        metadata["a b"] = "x"
    assert dict(metadata) == {}


def test_a_block_carries_more_metadata_and_leaves_none() -> None:
    outer = Context(Metadata({"kept": "1", "foobar": "old"}), deadline=time.monotonic() + 5)
    token = context._current.set(outer)
    try:
        with context.carrying({"FOOBAR": "new", "added": "2"}) as inner:
            assert context.current() is inner
            assert inner.outgoing() == {"Kept": "1", "Foobar": "new", "Added": "2"}
            assert inner.deadline == outer.deadline
        assert context.current() is outer
        assert outer.outgoing() == {"Kept": "1", "Foobar": "old"}
        with pytest.raises(errors.BadRequest), context.carrying({"a": "b\n"}):
            pass
        assert context.current() is outer
    finally:
        context._current.reset(token)


def test_a_block_carries_metadata_outside_of_a_call_too() -> None:
    with context.carrying({"foobar": "x"}):
        assert context.current().outgoing() == {"Foobar": "x"}
    assert context.current_or_none() is None
