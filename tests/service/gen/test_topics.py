"""Types of what is published: Python that reads and writes it, TypeScript that is strict."""

from __future__ import annotations

import datetime
import types
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from microcosmos.rpc.schemas import Schemas
from microcosmos.service.gen import python_topics, topics, typescript

from .conftest import MYPY, TOOLS, Run
from .test_typescript import STRICT

Load = Callable[[str], types.ModuleType]


class Line(msgspec.Struct):
    sku: str
    count: int = 1


class Order(msgspec.Struct):
    """An order that was placed."""

    id: uuid.UUID
    lines: list[Line]
    at: datetime.datetime
    total: Decimal
    state: Literal["new", "paid"] = "new"
    note: str | None = None
    tags: dict[str, str] = {}


class Cat(msgspec.Struct, tag="cat"):
    lives: int = 9


class Dog(msgspec.Struct, tag="dog"):
    good: bool


DRAFT_7 = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "User",
    "type": "object",
    "properties": {"class": {"type": "string"}, "best": {"$ref": "#/definitions/Friend"}},
    "required": ["class"],
    "definitions": {"Friend": {"type": "object", "properties": {"name": {"type": "string"}}}},
}


def schema_of(kind: Any) -> dict[str, Any]:
    schemas = Schemas()
    found = schemas.of(kind)
    return {**found, "$defs": schemas.defs} if schemas.defs else found


SCHEMAS: dict[str, Any] = {
    "orders.placed": schema_of(Order),
    "orders.shipped": schema_of(Order),
    "chat.1": schema_of(list[Line]),
    "pets": schema_of(Cat | Dog),
    "count": {"type": "integer"},
    "anything": True,
    "users.created": DRAFT_7,
    "a/b:c": {"title": "Line", "type": "object", "properties": {"other": {"type": "null"}}},
}


def python(schemas: dict[str, Any]) -> str:
    found = topics.read(schemas, python_topics.RESERVED)
    return python_topics.write(found, again="micro events schema types")


def script(schemas: dict[str, Any]) -> str:
    found = topics.read(schemas, typescript.RESERVED)
    return typescript.write_topics(found, again="micro events schema types")


async def test_python_reads_and_writes_what_is_published(loaded: Load) -> None:
    module = loaded(python(SCHEMAS))
    assert module.TOPICS.keys() == SCHEMAS.keys()
    assert module.TOPICS["orders.placed"] is module.TOPICS["orders.shipped"] is module.Order
    sent = Order(
        uuid.UUID(int=7),
        [Line("a", 2)],
        datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC),
        Decimal("9.99"),
        state="paid",
    )
    read = msgspec.json.decode(msgspec.json.encode(sent), type=module.TOPICS["orders.placed"])
    assert (read.lines[0].count, read.state, read.note, read.at) == (2, "paid", None, sent.at)
    assert msgspec.json.decode(msgspec.json.encode(read), type=Order) == sent
    pets = module.TOPICS["pets"]
    assert msgspec.json.decode(b'{"type": "dog", "good": true}', type=pets) == module.Dog(good=True)
    user = msgspec.json.decode(b'{"class": "x", "best": {"name": "Eve"}}', type=module.User)
    assert (user.class_, user.best.name) == ("x", "Eve")
    lines = msgspec.json.decode(b'[{"sku": "a"}]', type=module.TOPICS["chat.1"])
    assert [(one.sku, one.count) for one in lines] == [("a", 1)]
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'"x"', type=module.TOPICS["count"])


async def test_python_is_strictly_typed_and_as_formatters_have_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "topics.py").write_text(python(SCHEMAS))
    done = run(*MYPY, "topics.py")
    assert done.returncode == 0, done.stdout
    done = run(TOOLS / "ruff", "format", "--isolated", "--diff", "topics.py")
    assert done.returncode == 0, done.stdout


async def test_typescript_is_strict(npm: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "topics.ts").write_text(script(SCHEMAS))
    (tmp_path / "use.ts").write_text(
        """
import type { Cat, Topics } from "./topics.js";
export function handle<T extends keyof Topics>(topic: T, message: Topics[T]): [T, Topics[T]] {
  return [topic, message];
}
const pet: Cat = { type: "cat" };
handle("pets", pet);
handle("chat.1", [{ sku: "a" }]);
handle("count", 1);
// @ts-expect-error: it is a number
handle("count", "one");
// @ts-expect-error: there is no such topic
handle("nothing", 1);
"""
    )
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = run("node", npm / "typescript" / "bin" / "tsc", *STRICT, "--noEmit", "use.ts")
    assert done.returncode == 0, done.stdout


HOSTILE: dict[str, Any] = {
    "any": {},
    "Topics": {"type": "object", "properties": {"TOPICS": {"type": "string"}}},
    "TOPICS": {"title": "TOPICS", "enum": ["a", "b"]},
    "str": {"title": "str", "type": "object", "properties": {"list": {"type": "string"}}},
    "1": {"type": "array", "items": {"enum": ['"""', "*/", "\\", "\u2028"]}},
    "a.b": {"title": '"""; import os', "description": '*/ """ \\', "properties": {"a": True}},
    "a-b": {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
    "loop": {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}},
    "odd": {"type": "object", "properties": {"a b": {"type": "string"}, "class": {"const": 1}}},
    "bad": {"type": 5, "properties": [], "required": 7, "$defs": []},
    "no": False,
    "text": "text",
}  # fmt: skip


async def test_no_schema_can_spoil_it(loaded: Load, npm: Path, run: Run, tmp_path: Path) -> None:
    module = loaded(python(HOSTILE))
    assert module.TOPICS.keys() == HOSTILE.keys()
    for kind in module.TOPICS.values():
        msgspec.json.Decoder(kind)
    (tmp_path / "topics.ts").write_text(script(HOSTILE))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = run("node", npm / "typescript" / "bin" / "tsc", *STRICT, "--noEmit", "topics.ts")
    assert done.returncode == 0, done.stdout


async def test_without_topics_there_are_no_types(loaded: Load) -> None:
    assert loaded(python({})).TOPICS == {}
    assert "interface Topics {\n}" in script({})
