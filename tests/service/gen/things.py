"""A service with every kind of type, for its clients to be made and called."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import msgspec

from microcosmos import Service, errors

T = TypeVar("T")


class Color(enum.Enum):
    """What it is painted with."""

    RED = "red"
    NIGHT = "night blue"


class Tree(msgspec.Struct):
    """A tree, and what grows on it.

    Attributes:
        name: what it is called.
        kids: its branches.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=10)]
    kids: list[Tree] = []


class Cat(msgspec.Struct, tag="cat", tag_field="kind"):
    lives: int = 9


class Dog(msgspec.Struct, tag="dog", tag_field="kind"):
    good: bool = True


@dataclasses.dataclass
class Place:
    x: int
    y: str = "a"


class Labels(TypedDict, total=False):
    size: int


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    next: str | None = None


_NAMES = {"class_": "class", "list_": "list", "str_": "str", "uuid_": "uuid"}


class Odd(msgspec.Struct, rename={"first_name": "firstName", **_NAMES}):
    """Names that Python has other uses for."""

    first_name: str
    class_: str = ""
    list_: int = 0
    str_: int = 0
    uuid_: int = 0


class Everything(msgspec.Struct):
    """One of each."""

    when: dt.datetime
    day: dt.date
    time: dt.time
    wait: dt.timedelta
    id: uuid.UUID
    raw: bytes
    price: decimal.Decimal
    color: Color
    pet: Cat | Dog
    place: Place
    labels: Labels
    odd: Odd
    counts: dict[str, int]
    pair: tuple[int, str]
    tags: set[str]
    some: int | str | None = None
    word: Literal["a", "b"] = "a"
    anything: Any = None
    pages: Page[Tree] | None = None


things = Service("things")

FAILURES = {"left": 0}


@things.endpoint
async def echo(request: Everything) -> Everything:
    """Give back what came."""
    return request


@things.endpoint
async def call(
    name: str,
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10,
    tags: list[str] = [],  # noqa: B006
) -> dict[str, Any]:
    """Say what came.

    Args:
        name: whose.
        limit: how many.
    """
    return {"name": name, "limit": limit, "tags": tags}


@things.endpoint(name="List")
async def all_trees() -> list[Tree]:
    """Every tree."""
    return [Tree("oak", [Tree("twig")])]


@things.endpoint
async def count(list: int = 0, class_: str = "", self_: str = "") -> int | None:
    return list or None


@things.endpoint(name="Other.Thing")
async def thing(pets: list[Cat | Dog]) -> Page[Cat | Dog]:
    """Another handler's, with */ and \"\"\" and \\ in what it says."""
    return Page(pets)


@things.endpoint
async def fail(code: int) -> None:
    raise errors.of_code(code, "things.Fail", "as you wish")


@things.endpoint
async def shaky() -> int:
    """Fails as often as it is told."""
    FAILURES["left"] -= 1
    if FAILURES["left"] >= 0:
        raise errors.InternalServerError("things.Shaky", "not now")
    return 1


@things.endpoint(name="Once", retry=False)
async def once() -> int:
    return await shaky()


@things.endpoint
async def watch(limit: int = 3, fail: bool = False) -> AsyncIterator[Tree]:
    """Trees as they grow."""
    for number in range(limit):
        yield Tree(f"tree\u2028{number}")
    if fail:
        raise errors.NotFound("things.Watch", "no more")


@things.endpoint
async def total(numbers: AsyncIterator[int], start: int = 0) -> int:
    """Add up what is sent."""
    async for number in numbers:
        start += number
    return start


@things.endpoint
async def chat(words: AsyncIterator[str], name: str = "you") -> AsyncIterator[str]:
    """Answer each word."""
    async for word in words:
        if word == "no":
            raise errors.Conflict("things.Chat", "no is no word")
        yield f"{word}, {name}"
