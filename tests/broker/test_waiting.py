"""What waits: so many at most, in order where that was asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from microcosmos.broker import Message
from microcosmos.broker.interface import KEY
from microcosmos.broker.waiting import Waiting


def message(key: str = "", body: bytes = b"") -> Message:
    return Message("t", body, {KEY: key} if key else {})


@given(st.lists(st.sampled_from(["put", "take", "done"])), st.lists(st.sampled_from("abc")))
def test_of_a_key_one_at_a_time_and_in_order(steps: list[str], keys: list[str]) -> None:
    waiting = Waiting(ordered=True)
    left = [message(key, str(number).encode()) for number, key in enumerate(keys)]
    put: list[Message] = []
    taken: list[Message] = []
    busy: list[Message] = []
    # Whatever is done in whichever order, and then all that is left.
    for step in [*steps, *["put"] * len(keys), *["take", "done"] * len(keys)]:
        if step == "put" and left:
            put.append(left.pop(0))
            assert waiting.put(put[-1])
        elif step == "take" and (one := waiting.take()) is not None:
            assert one.key not in [other.key for other in busy]
            taken.append(one)
            busy.append(one)
        elif step == "done" and busy:
            waiting.done(busy.pop(0))
        assert len(waiting) == len(put) - len(taken)
    while busy or waiting.ready:
        for one in busy:
            waiting.done(one)
        busy = [one for one in [waiting.take()] if one is not None]
        taken += busy
    assert len(taken) == len(put)
    for key in "abc":
        assert [m for m in taken if m.key == key] == [m for m in put if m.key == key]
    assert not waiting._behind


def test_other_keys_go_on() -> None:
    waiting = Waiting(ordered=True)
    for key in ("a", "a", "b", ""):
        waiting.put(message(key))
    assert [one.key for _ in range(4) if (one := waiting.take())] == ["a", "b", ""]


def test_messages_without_a_key_are_of_one() -> None:
    waiting = Waiting(ordered=True)
    waiting.put(message())
    waiting.put(message())
    first = waiting.take()
    assert first is not None
    assert waiting.take() is None
    waiting.done(first)
    assert waiting.take() is not None


def test_so_many_messages_at_most() -> None:
    waiting = Waiting(most=2)
    assert [waiting.put(message()) for _ in range(3)] == [True, True, False]
    waiting.take()
    assert waiting.put(message())


def test_so_many_bytes_at_most_but_one_message_always() -> None:
    waiting = Waiting(most_bytes=10)
    assert waiting.put(message(body=b"x" * 20))
    assert not waiting.put(message())
    waiting.take()
    assert [waiting.put(message(body=b"x" * 5)) for _ in range(3)] == [True, True, False]
