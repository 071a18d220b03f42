"""Errors keep their class, code, id and text from one process to another."""

from __future__ import annotations

import json
import pickle

import pytest

from microcosmos.base import errors

# Of the tree itself: other rooms may have a class of their own, which does not travel.
ON_THE_WIRE = [
    kind
    for kind in map(errors.__dict__.get, errors.__all__)
    if isinstance(kind, type) and kind not in (errors.Error, errors.ConnectionLost)
]


@pytest.mark.parametrize("kind", ON_THE_WIRE)
def test_every_class_comes_back_from_the_wire_as_itself(kind: type[errors.Error]) -> None:
    sent = kind("users.Read.MissingID", "Missing ID: «é»")
    back = errors.from_wire(sent.to_wire())
    assert type(back) is kind
    assert (back.id, back.code, back.detail, back.status) == (
        "users.Read.MissingID",
        kind.code,
        "Missing ID: «é»",
        kind.status,
    )


@pytest.mark.parametrize("kind", ON_THE_WIRE)
def test_every_class_is_read_from_an_http_answer_too(kind: type[errors.Error]) -> None:
    back = errors.from_wire(kind("helloworld", "why").to_http())
    assert (type(back), back.id, back.detail) == (kind, "helloworld", "why")


def test_the_codes_of_the_classes_are_each_their_own() -> None:
    codes = [kind.code for kind in ON_THE_WIRE]
    assert sorted(codes) == sorted(set(codes))
    assert set(codes) == {
        *(400, 401, 403, 404, 405, 408, 409, 413, 429, 499),
        *(500, 501, 502, 503, 504),
    }


def test_exactly_the_passing_failures_are_retryable() -> None:
    retryable = {kind.__name__ for kind in [*ON_THE_WIRE, errors.ConnectionLost] if kind.retryable}
    assert retryable == {
        "RequestTimeout",
        "InternalServerError",
        "DeadlineExceeded",
        "ConnectionLost",
    }


def test_a_lost_connection_is_told_onwards_as_unavailable_and_is_not_retried_there() -> None:
    back = errors.from_wire(errors.ConnectionLost("users", "the line broke").to_wire())
    assert type(back) is errors.Unavailable
    assert not back.retryable


def test_errors_are_caught_by_the_words_of_the_standard_library() -> None:
    with pytest.raises(LookupError):
        raise errors.NotFound("users", "none")
    with pytest.raises(TimeoutError):
        raise errors.DeadlineExceeded("users", "late")
    with pytest.raises(TimeoutError):
        raise errors.RequestTimeout("users", "slow")


def test_an_unknown_code_keeps_its_code_and_status() -> None:
    sent = errors.Error("teapot", "short and stout", code=418, status="I'm a teapot")
    back = errors.from_wire(sent.to_wire())
    assert type(back) is errors.Error
    assert (back.code, back.status, back.id) == (418, "I'm a teapot", "teapot")


@pytest.mark.parametrize("code", [0, -1, 200, 302, 399, 600, 10**30])
def test_a_code_that_is_no_errors_is_a_500(code: int) -> None:
    body = json.dumps({"id": "x", "code": code, "detail": "d"}).encode()
    back = errors.from_wire(body)
    assert (type(back), back.code, back.id) == (errors.InternalServerError, 500, "x")


def test_the_http_form_has_the_keys_of_the_reference() -> None:
    error = errors.Unauthorized(
        "helloworld", "Unauthorized call made to helloworld:Helloworld.Call"
    )
    assert error.to_http() == (
        b'{"Id":"helloworld","Code":401,'
        b'"Detail":"Unauthorized call made to helloworld:Helloworld.Call",'
        b'"Status":"Unauthorized"}'
    )


def test_the_wire_form_has_lower_case_keys() -> None:
    assert errors.NotFound("a", "b").to_wire() == (
        b'{"id":"a","code":404,"detail":"b","status":"Not Found"}'
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"boom", b"[1]", b'{"code":"404"}', b"\xff\xfe", b"[" * 5000, b'{"error":"x"}', b"null"],
)
def test_what_is_no_error_body_becomes_a_500_that_quotes_it(body: bytes) -> None:
    back = errors.from_wire(body)
    assert type(back) is errors.InternalServerError
    assert back.detail == body[:200].decode("utf-8", "replace")


def test_missing_and_null_fields_are_empty() -> None:
    back = errors.from_wire(b'{"code":404,"id":null}')
    assert (type(back), back.id, back.detail) == (errors.NotFound, "", "")


def test_an_exception_tells_the_caller_nothing_private() -> None:
    error = errors.from_exception(RuntimeError("password=hunter2"), "users")
    assert type(error) is errors.InternalServerError
    assert error.id == "users"
    assert "hunter2" not in error.to_wire().decode()
    assert "RuntimeError" not in error.to_wire().decode()


def test_an_error_of_the_tree_is_passed_on_as_it_is() -> None:
    error = errors.Conflict("users", "taken")
    assert errors.from_exception(error, "other") is error


def test_a_detail_that_is_no_text_is_sent_as_its_text() -> None:
    back = errors.from_wire(errors.NotFound("users", ValueError("no 7")).to_wire())  # type: ignore[arg-type]
    assert back.detail == "no 7"


def test_a_detail_with_half_a_character_can_be_sent() -> None:
    broken = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert errors.from_wire(errors.NotFound("f", broken).to_wire()).detail == "caf?"
    assert json.loads(errors.NotFound(broken, broken).to_http())["Id"] == "caf?"


def test_an_endless_detail_is_cut() -> None:
    back = errors.from_wire(errors.BadRequest("x", "y" * 10_000_000).to_wire())
    assert back.detail == "y" * errors.LONGEST_DETAIL


def test_an_error_prints_its_id_and_detail() -> None:
    assert str(errors.NotFound("users", "none")) == "users: none"
    assert str(errors.NotFound("users")) == "users"


def test_an_error_survives_pickling() -> None:
    back = pickle.loads(pickle.dumps(errors.Error("teapot", "short", code=418, status="Teapot")))
    assert (type(back), back.code, back.status, back.detail) == (
        errors.Error,
        418,
        "Teapot",
        "short",
    )


def test_when_to_try_again_travels_where_it_is_known() -> None:
    error = errors.Unavailable("a", "b")
    assert b"retry_after" not in error.to_wire()
    assert errors.from_wire(error.to_wire()).retry_after == 0
    error.retry_after = 2.5
    back = errors.from_wire(error.to_wire())
    assert (type(back), back.retry_after) == (errors.Unavailable, 2.5)
    for said, taken in (("-1", 0), ("1e300", errors.LONGEST_RETRY), ('"x"', 0), ("null", 0)):
        body = f'{{"code": 503, "id": "a", "retry_after": {said}}}'.encode()
        assert errors.from_wire(body).retry_after == taken
