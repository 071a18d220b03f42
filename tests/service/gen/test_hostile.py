"""Whatever a service says of itself, its clients are code that parses, and only that code."""

from __future__ import annotations

import ast
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from microcosmos.registry.interface import Described, Description
from microcosmos.service.gen import layout, python, reader, stubs, typescript, words

from .conftest import load

BREAKS = (
    "BREAKOUT \"\"\" BREAKOUT ''' BREAKOUT \" ' BREAKOUT",
    "*/ BREAKOUT /* BREAKOUT",
    "one\nBREAKOUT\r\nBREAKOUT\u2028BREAKOUT\u2029BREAKOUT\x85BREAKOUT\x0cBREAKOUT",
    "\\",
    '\\"""\nBREAKOUT',
    "${BREAKOUT} `BREAKOUT`",
    "\u202eBREAKOUT\x00",
    '"',
    "ends with \\",
    "",
)
NAMES = (
    *("class", "def", "self", "None", "True", "list", "str", "dict", "int", "uuid", "msgspec"),
    *("constructor", "__proto__", "__init__", "_x", "x", "X", "1", "a-b", "a_b", "a b", "é", ""),
    *("Any", "Literal", "UNSET", "Error", "Promise", "items", "answer", "request", "type", "Cat"),
    *("builtins", "dt", "delete", "await", "then", "toString", '"', "\\", "\n", "*/"),
)

FORMATS = ("date-time", "date", "uuid", "duration", "decimal", "time", "other")
KINDS = ("string", "integer", "number", "boolean", "null", "object", "array", "nonsense")
REFERENCES = ("#/$defs/A", "#/$defs/B", "#/$defs/None", "#", "http://a/b", 1)
METHODS = ("A.Class", "A.List", "A.Str", "A.X_y", "B.List", "A.BList", "A.Then", "A.Aclose")
SERVICES = ("a", "class", "v1.a", "list", "msgspec", "1", "promise", "a-b")


class Liar(random.Random):
    """A service that says anything; a thousand times quicker than a strategy that does."""

    def text(self) -> str:
        if self.random() < 0.7:
            return self.choice(BREAKS)
        return "".join(self.choice("a\"'\\*/{}\n\u2028\x00é\U0001f600 ") for _ in range(9))

    def name(self) -> str:
        return self.choice(NAMES) if self.random() < 0.8 else self.text().replace("BREAKOUT", "")

    def some(self, make: Callable[[], Any], most: int) -> list[Any]:
        return [make() for _ in range(self.randint(0, most))]

    def scalar(self) -> Any:
        return self.choice([None, True, 0, 1, -5, 2**70, 1.5, 1e300, "a", "b", self.text()])

    def schema(self, depth: int = 3) -> Any:
        if depth == 0:
            return self.choice([True, False, {}, None, 1, {"type": "string"}, {"type": "integer"}])

        def inner() -> Any:
            return self.schema(depth - 1)

        make: dict[str, Callable[[], Any]] = {
            "type": lambda: self.choice([*KINDS, self.some(lambda: self.choice(KINDS), 3)]),
            "title": self.name,
            "description": self.text,
            "default": lambda: self.choice([self.scalar(), [], {}, [1], {"a": 1}]),
            "enum": lambda: self.some(self.scalar, 3),
            "const": self.scalar,
            "format": lambda: self.choice(FORMATS),
            "pattern": self.text,
            "minimum": self.scalar,
            "contentEncoding": lambda: "base64",
            "properties": lambda: {self.name(): inner() for _ in range(self.randint(0, 4))},
            "required": lambda: self.some(self.name, 3),
            "additionalProperties": inner,
            "items": inner,
            "prefixItems": lambda: self.some(inner, 2),
            "minItems": lambda: self.randint(0, 2),
            "maxItems": lambda: self.randint(0, 2),
            "anyOf": lambda: self.some(inner, 3),
            "allOf": lambda: self.some(inner, 2),
            "$ref": lambda: self.choice(REFERENCES),
            "$defs": lambda: {"A": inner()},
        }
        words = self.sample(list(make), self.randint(0, 5))
        if self.random() < 0.4:  # what there is most of
            words = ["type", "properties", "required", "description"]
        return {word: make[word]() for word in words}

    def metadata(self) -> dict[str, str]:
        about = {"description": self.text()}
        if self.random() < 0.4:
            about["stream"] = "true"
        if self.random() < 0.3:
            about["micro.stream"] = self.choice(["client", "both", "nonsense"])
        return about

    def endpoint(self, name: str) -> Described:
        schema = {
            "request": self.schema(),
            "response": self.schema(),
            "description": self.text(),
            "$defs": {"A": self.schema(), "B": self.schema()},
        }
        if self.random() < 0.3:
            schema["items"] = self.schema()
        return Described(name=name, metadata=self.metadata(), schema=schema)

    def service(self) -> Description:
        methods = self.sample(METHODS, self.randint(0, 3))
        return Description(
            name=self.choice(SERVICES), endpoints=[self.endpoint(name) for name in methods]
        )


descriptions = st.integers(0, 2**32).map(lambda seed: Liar(seed).service())
often = settings(
    max_examples=60,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def _names(text: str) -> set[str]:
    tree = ast.parse(text)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("http", [False, True])
@often
@given(described=descriptions)
def test_python_loads_and_decodes(http: bool, described: Description) -> None:
    model = reader.read(described, python.RESERVED)
    text = python.write(model, again="micro gen", http=http)
    assert "BREAKOUT" not in _names(text)
    module = load(text)
    for record in model.records:
        # Its annotations are read here: what they name is there, and can be told apart.
        msgspec.json.Decoder(getattr(module, record))
        assert msgspec.json.Decoder(list[getattr(module, record)]).decode(b"[]") == []
    client: Any = getattr(module, model.client)
    methods = [name for name in vars(client) if not name.startswith("_")]
    assert len(methods) == len(model.methods)


@often
@given(described=descriptions)
def test_stubs_parse(described: Description) -> None:
    model = reader.read(described, stubs.RESERVED)
    for text in stubs.files([model], again="micro gen stubs").values():
        assert "BREAKOUT" not in _names(text)


@pytest.fixture(scope="module")
def typescript_parser(npm: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    script = Path(__file__).with_name("parse.cjs")
    process = subprocess.Popen(
        ["node", str(script), str(npm / "typescript")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    into, out = process.stdin, process.stdout

    def parse(text: str) -> dict[str, Any]:
        into.write(json.dumps(text) + "\n")
        into.flush()
        told: dict[str, Any] = json.loads(out.readline())
        return told

    with process:
        yield parse
        into.close()


@often
@given(described=descriptions)
def test_typescript_parses(
    typescript_parser: Callable[[str], dict[str, Any]], described: Description
) -> None:
    model = reader.read(described, typescript.RESERVED)
    told = typescript_parser(typescript.write(model, again="micro gen"))
    assert told["wrong"] == []
    assert "BREAKOUT" not in told["names"]


@given(st.text() | st.sampled_from(BREAKS))
def test_a_text_is_what_its_literal_says(text: str) -> None:
    assert ast.literal_eval(layout.text(text)) == text


@given(st.text(max_size=60))
def test_names_are_names(text: str) -> None:
    assert words.type_name(text).isidentifier()
    assert words.identifier(text).isidentifier()
    assert words.snake(text).isidentifier()


def test_a_type_made_of_itself_ends() -> None:
    loop = {"type": "array", "items": {"$ref": "#/$defs/A"}}
    schema = {"request": {"$ref": "#/$defs/A"}, "$defs": {"A": loop}}
    described = Description(name="a", endpoints=[Described(name="A.B", schema=schema)])
    assert "list[" in python.write(reader.read(described, python.RESERVED), again="")
