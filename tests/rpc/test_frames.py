"""Frames survive any cutting of the stream, and damage never passes for a message."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.rpc import Call, frames
from microcosmos.rpc.frames import (
    CANCEL,
    CHUNK,
    DATA,
    END,
    ERROR,
    GOAWAY,
    ITEM,
    MORE,
    OPEN,
    REPLY,
    REQUEST,
    Reader,
)

Message = tuple[int, int, bytes]

payloads = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 3 * CHUNK + 7).map(lambda size: (b"0123456789" * (size // 10 + 1))[:size]),
    st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK]).map(bytes),
)
messages = st.tuples(
    st.sampled_from([REQUEST, REPLY, ERROR, OPEN, ITEM]), st.integers(0, 2**32 - 1), payloads
)


def _cut(data: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted({mark % (len(data) + 1) for mark in at}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks) if a < b]


def _feed(reader: Reader, pieces: list[bytes]) -> list[Message]:
    return [message for piece in pieces for message in reader.feed(piece)]


@given(st.lists(messages, max_size=4), st.lists(st.integers(0, 10**6), max_size=12))
def test_messages_come_out_as_they_went_in_however_the_bytes_are_cut(
    sent: list[Message], at: list[int]
) -> None:
    data = b"".join(b"".join(frames.chunks(*message)) for message in sent)
    assert _feed(Reader(), _cut(data, at)) == sent


@given(st.lists(payloads, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_messages_of_several_streams_may_be_interleaved(
    bodies: list[bytes], random: object
) -> None:
    queues = [frames.chunks(REPLY, stream, body) for stream, body in enumerate(bodies)]
    reader, received = Reader(), []
    while any(queues):
        queue = random.choice([queue for queue in queues if queue])  # type: ignore[attr-defined]
        received += reader.feed(queue.pop(0))
    assert sorted(received) == sorted((REPLY, n, body) for n, body in enumerate(bodies))


def test_a_message_is_told_byte_by_byte_only_when_it_is_whole() -> None:
    reader = Reader()
    data = frames.pack(REQUEST, 7, b"hello")
    for byte in data[:-1]:
        assert reader.feed(bytes([byte])) == []
    assert reader.feed(data[-1:]) == [(REQUEST, 7, b"hello")]


@given(st.text(), st.text(), st.binary(), st.dictionaries(st.text(), st.text()), st.floats(0, 99))
def test_a_call_is_read_as_it_was_written(
    service: str, endpoint: str, body: bytes, metadata: dict[str, str], timeout: float
) -> None:
    sent = Call(service, endpoint, body, metadata, timeout)
    assert frames.decode_call(frames.encode_call(sent)) == sent


def test_short_kinds_carry_no_parts() -> None:
    data = frames.pack(CANCEL, 3, b"") + frames.pack(GOAWAY, 0, b"")
    assert Reader().feed(data) == [(CANCEL, 3, b""), (GOAWAY, 0, b"")]


@pytest.mark.parametrize("length", [0, 4, CHUNK + 10, 2**31, 2**32 - 1])
def test_an_impossible_length_is_refused_before_its_bytes_are_awaited(length: int) -> None:
    with pytest.raises(errors.BadRequest, match="impossible length"):
        Reader().feed(struct.pack("<IBI", length, REQUEST, 1))


def test_the_end_of_a_message_that_never_began_is_refused() -> None:
    for kind in (DATA, DATA | MORE):
        with pytest.raises(errors.BadRequest):
            Reader().feed(frames.pack(kind, 1, b"x"))


@pytest.mark.parametrize(
    "kind", [0, 12, 0x7F, MORE, CANCEL | MORE, END | MORE, GOAWAY | MORE, 0xFF]
)
def test_a_frame_of_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(errors.BadRequest):
        Reader().feed(frames.pack(kind, 1, b"x"))


def test_a_message_over_the_limit_is_refused_while_it_comes() -> None:
    reader = Reader()
    reader.feed(frames.pack(REQUEST | MORE, 1, bytes(CHUNK)))
    piece = frames.pack(DATA | MORE, 1, bytes(CHUNK))
    for _ in range(frames.MAX_MESSAGE // CHUNK - 1):
        reader.feed(piece)
    with pytest.raises(errors.BadRequest, match="over the limit"):
        reader.feed(piece)


@given(st.lists(st.binary(min_size=1, max_size=64), max_size=8))
def test_any_bytes_are_messages_or_refused(pieces: list[bytes]) -> None:
    reader = Reader()
    try:
        received = _feed(reader, pieces)
    except errors.BadRequest:
        return
    assert all(REQUEST <= kind <= GOAWAY for kind, _, _ in received)


def test_the_rest_of_an_unwanted_message_is_passed_over() -> None:
    reader = Reader()
    first, *rest, last = frames.chunks(REPLY, 1, bytes(4 * CHUNK))
    reader.feed(first)
    reader.forget(1)
    assert _feed(reader, rest) == []
    assert reader.feed(last) == []
    again = b"".join(frames.chunks(REPLY, 1, b"x" * (CHUNK + 1)))
    assert reader.feed(again) == [(REPLY, 1, b"x" * (CHUNK + 1))]


def test_forgetting_a_message_that_has_not_begun_loses_nothing() -> None:
    reader = Reader()
    reader.forget(1)
    assert reader.feed(frames.pack(REPLY, 1, b"x")) == [(REPLY, 1, b"x")]
