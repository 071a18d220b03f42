"""Tables and JSON."""

from __future__ import annotations

import datetime
import json
import time

import msgspec

from microcosmos.cli import render


class Row(msgspec.Struct):
    name: str
    size: int | None = None
    tags: dict[str, str] = {}


def test_a_table_is_aligned_two_spaces_apart_without_boxes() -> None:
    rows = [Row("a", 1, {"owner": "admin", "group": "micro"}), Row("longer")]
    assert list(render.lines(rows)) == [
        "NAME    SIZE  TAGS",
        "a       1     owner=admin, group=micro",
        "longer  n/a   n/a",
    ]


def test_the_same_rows_as_json() -> None:
    text = "\n".join(render.lines([Row("a", 1)], "json"))
    assert json.loads(text) == [{"name": "a", "size": 1, "tags": {}}]


def test_no_rows_are_no_lines_but_an_empty_list_in_json() -> None:
    assert list(render.lines([])) == []
    assert list(render.lines([], "json")) == ["[]"]


def test_nothing_is_nothing() -> None:
    assert list(render.lines(None)) == []
    assert list(render.lines(None, "json")) == []


def test_times_are_told_by_their_age() -> None:
    then = time.time() - (20 * 3600 + 43 * 60 + 45)
    assert render.cell(datetime.datetime.fromtimestamp(then, datetime.UTC)) == "20h43m45s ago"


def test_an_answer_is_indented() -> None:
    assert list(render.lines(b'{"msg":"Hello"}')) == ['{\n  "msg": "Hello"\n}']


def test_an_answer_that_is_no_json_is_shown_as_it_is() -> None:
    assert list(render.lines(b"plain \xff")) == ["plain \ufffd"]


def test_a_stream_is_shown_as_it_goes() -> None:
    assert list(render.lines(iter(["a", "b"]))) == ["a", "b"]
    assert list(render.lines(iter([Row("a")]), "json")) == ['{"name":"a","size":null,"tags":{}}']


def test_a_cell_cannot_break_its_row_or_steer_the_terminal() -> None:
    assert list(render.columns([["a\nb\tc", "\x1b[31md"]])) == ["a b c  [31md"]
