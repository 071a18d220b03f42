"""students: records by key, and the same records under a key for each question asked of them."""

import msgspec

from microcosmos import Service, errors
from microcosmos.store import Write


class Student(msgspec.Struct):
    """A student, with the average of all scores, 0 to 100."""

    id: str
    name: str
    class_: str = msgspec.field(name="class", default="")
    avg_score: int = msgspec.field(name="avgScore", default=0)


students = Service("students")


def places(student: Student) -> list[str]:
    """The keys of a student: one a question."""
    return [
        f"usersById/{student.id}",
        f"usersByClass/{student.class_}/{student.id}",
        # Keys are ordered as text, so numbers are written with the same number of digits.
        f"usersByAvgScore/{student.avg_score:03}/{student.id}",
    ]


@students.endpoint
async def add(student: Student) -> Student:
    """Add a student; all of the copies are written, or none."""
    if not student.id or "/" in student.id:
        raise errors.BadRequest("students.Add.ID", "id: a text without slashes")
    if not 0 <= student.avg_score <= 100:
        raise errors.BadRequest("students.Add.Score", "avgScore: 0 to 100")
    value = msgspec.json.encode(student)
    await students.store.batch([Write(key, value, version=0) for key in places(student)])
    return student


@students.endpoint
async def read(id: str) -> Student:
    """A student by id."""
    record = await students.store.read(f"usersById/{id}")
    return msgspec.json.decode(record.value, type=Student)


@students.endpoint
async def of_class(name: str) -> list[Student]:
    """The students of a class."""
    records = await students.store.read(prefix=f"usersByClass/{name}/")
    return [msgspec.json.decode(record.value, type=Student) for record in records]


@students.endpoint
async def by_score(low: int = 0, high: int = 100) -> list[Student]:
    """The students with an average from low to high, the lowest first."""
    start, end = f"usersByAvgScore/{low:03}/", f"usersByAvgScore/{high + 1:03}/"
    records = await students.store.read(start=start, end=end)
    return [msgspec.json.decode(record.value, type=Student) for record in records]


if __name__ == "__main__":
    students.run()
