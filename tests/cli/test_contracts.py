"""`micro events asyncapi` and `micro events schema types`: what is known of topics, in files."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from microcosmos.events.schema import Declaration, Reader
from microcosmos.events.schema.catalogue import Catalogue

from .conftest import Micro, Platform

ORDER: dict[str, Any] = {
    "title": "Order",
    "type": "object",
    "properties": {"id": {"type": "string"}, "count": {"type": "integer", "default": 1}},
    "required": ["id"],
}


@pytest.fixture(autouse=True)
def known(platform: Platform) -> Catalogue:
    """Two topics with schemas; helloworld publishes one, and billing reads it."""
    platform.register(platform.record(platform.events))
    catalogue = platform.schemas.of("micro")
    register = catalogue.register("orders.placed-value", ORDER, author="helloworld")
    platform.do(register)
    platform.do(catalogue.register("chat.1-value", {"type": "array", "items": ORDER}))
    platform.do(catalogue.register("things/Things.Echo-request", ORDER))
    reader = Reader("orders.>", "billing")
    platform.do(catalogue.declare(Declaration("billing", (reader,))))
    return catalogue


def test_the_document_is_printed(micro: Micro) -> None:
    said = micro("events", "asyncapi")
    assert (said.code, said.err) == (0, "")
    api = json.loads(said.out)
    assert api["channels"].keys() == {"chat.1", "orders.placed"}
    assert api["servers"]["nats"] == {**api["servers"]["nats"], "host": "127.0.0.1:4222"}
    told = {(one["x-service"], one["action"]) for one in api["operations"].values()}
    assert told == {("helloworld", "send"), ("billing", "receive")}


def test_its_form_is_chosen_or_follows_the_file(micro: Micro, tmp_path: Path) -> None:
    api = json.loads(micro("events", "asyncapi").out)
    assert yaml.safe_load(micro("events", "asyncapi", "--format", "yaml").out) == api
    for name, begins in (("a.yml", "asyncapi:"), ("a.html", "<!doctype html>"), ("a", "{")):
        said = micro("events", "asyncapi", "--output", str(tmp_path / name))
        assert (said.code, said.out) == (0, "")
        assert (tmp_path / name).read_text("utf-8").startswith(begins)


def test_a_file_that_cannot_be_written_is_said(micro: Micro, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in (["asyncapi"], ["schema", "types"]):
        said = micro("events", *words, "-o", str(tmp_path / "file" / "x"))
        assert said.code != 0
        assert said.err.count("\n") == 1
        assert "cannot be written" in said.err


def test_types_are_printed_for_each_language(micro: Micro) -> None:
    said = micro("events", "schema", "types")
    assert (said.code, said.err) == (0, "")
    assert "class Order(msgspec.Struct, kw_only=True):" in said.out
    assert 'TOPICS: dict[str, Any] = {"chat.1": Chat1, "orders.placed": Order}' in said.out
    ast.parse(said.out)
    typed = micro("events", "schema", "types", "orders.*", "-l", "typescript").out
    assert 'export interface Topics {\n  "orders.placed": Order;\n}' in typed


def test_the_command_in_the_header_makes_them_again(micro: Micro) -> None:
    for words in ([], ["chat.1"], ["--language", "typescript"]):
        first = micro("events", "schema", "types", *words).out
        found = re.search("`micro (.*)`", first)
        assert found is not None
        assert micro(*found[1].split()).out == first


def test_types_are_written_and_checked(
    micro: Micro, platform: Platform, known: Catalogue, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "types.py"
    words = ["events", "schema", "types", "--output", str(path)]
    assert micro(*words, "--check").code == 1
    said = micro(*words)
    assert (said.code, said.out) == (0, f"{path}\n")
    assert micro(*words, "--check").code == 0
    wider = {**ORDER, "properties": {**ORDER["properties"], "note": {"type": "string"}}}
    platform.do(known.register("orders.placed-value", wider))
    stale = micro(*words, "--check")
    assert stale.code == 1
    assert stale.err.count("\n") == 1
    assert "not up to date" in stale.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "topic nothing has no schema"),
        (["a..b"], "neither a topic nor a pattern"),
        (["--check"], "--check compares with a file"),
        (["--language", "cobol"], "cobol"),
    ],
)
def test_what_cannot_be_is_said(micro: Micro, words: list[str], said: str) -> None:
    done = micro("events", "schema", "types", *words)
    assert done.code != 0
    assert said in done.err
    assert done.out == ""
