"""examples/students: the patterns of Micro's reference about the store, in a service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..e2e.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FOLDER = Path(__file__).parents[2] / "examples" / "students"

STUDENTS: list[dict[str, Any]] = [
    {"id": "id1", "name": "Jane", "class": "firstGrade", "avgScore": 98},
    {"id": "id2", "name": "Alice", "class": "secondGrade", "avgScore": 92},
    {"id": "id3", "name": "Joe", "class": "secondGrade", "avgScore": 89},
    {"id": "id4", "name": "Betty", "class": "thirdGrade", "avgScore": 94},
]


@pytest.fixture(scope="module")
def students(live: Live) -> Iterator[Live]:
    live.micro("run", str(FOLDER))
    for one in STUDENTS:
        words = [f"--{name}={value}" for name, value in one.items()]
        assert live.call("students", "add", *words) == one
    yield live
    live.micro("kill", "students")


def test_what_was_added_is_found_by_each_question(students: Live) -> None:
    assert students.call("students", "read", "--id=id1") == STUDENTS[0]
    assert students.call("students", "ofClass", "--name=secondGrade") == STUDENTS[1:3]
    names = [one["name"] for one in students.call("students", "byScore", "--low=90")]
    assert names == ["Alice", "Betty", "Jane"]
    assert students.call("students", "byScore", "--high=89") == [STUDENTS[2]]


def test_a_student_is_added_once_and_whole(students: Live) -> None:
    again = students.type("students", "add", "--id=id1", "--name=Other", "--class=x")
    assert again.code != 0
    assert students.call("students", "ofClass", "--name=x") == []
    assert (
        "id: a text without slashes" in students.type("students", "add", "--id=a/b", "--name=x").err
    )
    assert (
        "avgScore" in students.type("students", "add", "--id=z", "--name=x", "--avgScore=101").err
    )


def test_an_admin_sees_the_table(students: Live) -> None:
    listed = students.micro("store", "list", "--table=students", "usersByClass/secondGrade").lines
    assert listed == ["usersByClass/secondGrade/id2", "usersByClass/secondGrade/id3"]
    assert "students" in students.micro("store", "tables").lines


def test_the_records_outlive_the_service(students: Live) -> None:
    students.micro("update", str(FOLDER))
    assert students.call("students", "read", "--id=id3") == STUDENTS[2]
