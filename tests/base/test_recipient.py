"""Functions that take what was published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.base.recipient import Recipient, refusal


class User(msgspec.Struct):
    name: str


class Envelope: ...


class Companion: ...


ENVELOPE, COMPANION = Envelope(), Companion()


async def none() -> Any:
    return ()


async def body(user: User) -> Any:
    return user


async def raw(data: bytes) -> Any:
    return data


async def both(envelope: Envelope, user: User) -> Any:
    return user, envelope


async def all_three(user: User, along: Companion, envelope: Envelope) -> Any:
    return user, along, envelope


def in_a_thread(user: User, *, along: Companion) -> Any:
    return user, along


@pytest.mark.parametrize(
    ("function", "kind", "answer"),
    [
        (none, None, ()),
        (body, User, User("Jo")),
        (raw, bytes, b'{"name":"Jo"}'),
        (both, User, (User("Jo"), ENVELOPE)),
        (all_three, User, (User("Jo"), COMPANION, ENVELOPE)),
        (in_a_thread, User, (User("Jo"), COMPANION)),
    ],
)
async def test_a_function_gets_what_it_takes(
    function: Callable[..., Any], kind: Any, answer: Any
) -> None:
    recipient = Recipient(function, Envelope, Companion)
    given = recipient.given(ENVELOPE, b'{"name":"Jo"}')
    assert await recipient.call(given, COMPANION) == answer
    assert (recipient.kind, recipient.name) == (kind, function.__name__)


async def test_a_body_of_another_type_is_refused() -> None:
    with pytest.raises(errors.BadRequest, match=r"\$\.name"):
        await Recipient(body, Envelope)(ENVELOPE, b'{"name":5}')


def two(a: int, b: int) -> None: ...


def many(*users: User) -> None: ...


def twice(a: Companion, b: Companion) -> None: ...


@pytest.mark.parametrize("function", [two, many, twice])
def test_what_cannot_be_a_recipient_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="one payload, and one Envelope, one Companion"):
        Recipient(function, Envelope, Companion)


def test_a_refusal_is_one_line() -> None:
    assert refusal(ValueError("a\nb")) == "ValueError: a b"
    assert refusal(ValueError()) == "ValueError"
    assert refusal(errors.NotFound("x", "it is gone")) == "it is gone"
