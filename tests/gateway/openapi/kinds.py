"""A service that uses every kind of type that requests and answers can have."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pydantic
from msgspec import Meta

from microcosmos import Service, errors

T = TypeVar("T")

Percent = Annotated[int, Meta(ge=0, le=100, description="Between nothing and all.")]
Code = Annotated[str, Meta(pattern="^[A-Z]{3}$", examples=["EUR"])]


class Colour(enum.Enum):
    """What it looks like."""

    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Box(TypedDict, total=False):
    wide: Percent
    label: str | None


@dataclass
class Size:
    width: int
    tags: list[str] = field(default_factory=list)


class Cat(msgspec.Struct, tag=True):
    """A cat.

    Attributes:
        lives: how many are left.
    """

    lives: Annotated[int, Meta(ge=1, le=9)] = 9


class Dog(msgspec.Struct, tag=True):
    name: Annotated[str, Meta(min_length=1, max_length=20)]
    friend: Dog | None = None


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    more: bool = False


class Paint(pydantic.BaseModel):
    """What pydantic knows."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    name: str = pydantic.Field(min_length=1)
    coats: int = pydantic.Field(default=1, ge=1, le=5)


class Wall(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    paint: Paint
    others: list[Paint] = []


class Everything(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One of each."""

    whole_number: int
    bounded: Percent = 50
    small: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    even: Annotated[int, Meta(multiple_of=2, ge=-10, le=10)] = 2
    flag: bool = False
    text: Annotated[str, Meta(max_length=40)] = "text"
    code: Code = "EUR"
    blob: bytes = b""
    moment: datetime.datetime | None = None
    day: datetime.date = datetime.date(2026, 1, 31)
    hour: datetime.time = datetime.time(12, 30)
    span: datetime.timedelta = datetime.timedelta(seconds=90)
    id: uuid.UUID | None = None
    price: decimal.Decimal = decimal.Decimal("9.99")
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    word: Literal["yes", "no", 3] = "yes"
    pet: Cat | Dog = msgspec.field(default_factory=Cat)
    maybe: int | str | None = None
    names: Annotated[list[str], Meta(max_length=5)] = []
    numbers: set[int] = set()
    pair: tuple[int, str] = (1, "one")
    point: Point = Point(0, 0)
    box: Box | None = None
    size: Size | None = None
    counts: dict[str, int] = {}
    by_number: dict[int, Percent] = {}
    by_id: dict[uuid.UUID, str] = {}
    wall: Wall | None = None
    pages: Page[Cat] | None = None
    left_out: int | msgspec.UnsetType = msgspec.UNSET
    anything: Any = None


MOMENT = datetime.datetime(2026, 1, 31, 12, 30, tzinfo=datetime.UTC)
SPAN = datetime.timedelta(days=-1, seconds=1)


class Found(msgspec.Struct):
    at: datetime.datetime
    keys: list[uuid.UUID]
    price: decimal.Decimal
    span: datetime.timedelta
    blob: bytes
    pet: Cat | Dog
    pages: Page[int]


kinds = Service("kinds", version="1.0.0", metadata={"description": "One of each kind."})


@kinds.endpoint
async def echo(request: Everything) -> Everything:
    """Give it back.

    Nothing is changed on the way.
    """
    return request


@kinds.endpoint
async def plain(
    count: Percent,
    keys: list[uuid.UUID],
    text: str = "text",
    ratio: float = 0.5,
    flag: bool = False,
    day: datetime.date | None = None,
    hour: datetime.time = datetime.time(12, 30),
    colour: Colour | None = None,
    level: Level = Level.LOW,
    word: Literal["yes", "no"] = "yes",
    price: decimal.Decimal = decimal.Decimal(1),
    blob: bytes = b"",
    tags: list[str] = [],  # noqa: B006 - copied for every call
    numbers: list[int] | None = None,
    maybe: int | None = None,
) -> Found:
    """Take what fits into a query string.

    Args:
        count: how many there are.
        keys: which ones,
            at least one.
    """
    return Found(MOMENT, keys, price, SPAN, blob, Cat(), Page([count]))


@kinds.endpoint
async def mixed(pet: Cat | Dog, size: Size, counts: dict[str, int], note: str = "") -> Cat | Dog:
    """Take what fits into a query string as JSON only."""
    return pet


@kinds.endpoint(metadata={"deprecated": "true"})
async def paint(wall: Wall) -> Paint:
    """Paint a wall."""
    return wall.paint


@kinds.endpoint
async def nothing() -> None:
    """Take nothing, give nothing."""


@kinds.endpoint
def anything(value: Any = None) -> Any:
    """Take anything, in a thread."""
    return value


@kinds.endpoint
async def count(to: Annotated[int, Meta(ge=0, le=20)] = 3) -> AsyncIterator[Found]:
    """Count to a number."""
    for number in range(to):
        yield Found(MOMENT, [], decimal.Decimal(number), SPAN, b"", Cat(), Page([number]))


@kinds.endpoint
async def total(numbers: AsyncIterator[int], start: int = 0) -> int:
    """Add up what the caller sends."""
    async for number in numbers:
        start += number
    return start


@kinds.endpoint
async def fail(code: Literal[404, 409] = 404) -> str:
    """Fail, always."""
    raise errors.of_code(code, "kinds", "as you like it")
