"""`micro events schema`: what a pipeline and a person type."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from microcosmos.events.schema import Declaration, Reader
from microcosmos.events.schema.catalogue import Catalogue

from .conftest import Micro, Platform

ORDER: dict[str, Any] = {
    "title": "Order",
    "type": "object",
    "properties": {"id": {"type": "integer"}},
    "required": ["id"],
}
WIDER = {**ORDER, "properties": {"id": {"type": "number"}}}
OTHER = {**ORDER, "properties": {"number": {"type": "integer"}}, "required": ["number"]}

TYPES = """
import msgspec


class Order(msgspec.Struct):
    id: int


class Inner:
    class Later(msgspec.Struct):
        id: float


anything = bytes
"""


@pytest.fixture(autouse=True)
def catalogue(platform: Platform) -> Catalogue:
    platform.register(platform.record(platform.events))
    return platform.schemas.of("micro")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are, of a module `shop_types` too."""
    monkeypatch.chdir(tmp_path)
    for name, schema in (("order", ORDER), ("wider", WIDER), ("other", OTHER)):
        (tmp_path / f"{name}.json").write_text(json.dumps(schema))
    (tmp_path / "shop_types.py").write_text(TYPES)
    monkeypatch.delitem(sys.modules, "shop_types", raising=False)
    return tmp_path


def test_a_schema_is_registered_and_looked_at(micro: Micro, folder: Path) -> None:
    said = micro("events", "schema", "register", "orders.placed", "order.json")
    assert (said.code, said.out, said.err) == (0, "orders.placed version 1, id 1\n", "")
    assert micro("events", "schema", "register", "orders.placed", "wider.json").code == 0
    assert json.loads(micro("events", "schema", "get", "orders.placed").out) == WIDER
    assert json.loads(micro("events", "schema", "get", "orders.placed", "-v", "1").out) == ORDER
    assert json.loads(micro("events", "schema", "get", "--id", "1").out) == ORDER
    listed = micro("events", "schema", "list").out.splitlines()
    assert listed[0].split() == ["TOPIC", "VERSION", "ID", "MODE", "AUTO", "AUTHOR", "UPDATED"]
    assert listed[1].split()[:4] == ["orders.placed", "2", "2", "BACKWARD"]
    assert len(micro("events", "schema", "versions", "orders.placed-value").out.splitlines()) == 3
    versions = json.loads(micro("events", "schema", "versions", "orders.placed", "-o", "json").out)
    assert [one["version"] for one in versions] == [1, 2]


def test_a_schema_is_that_of_a_type(micro: Micro, folder: Path) -> None:
    for place, id in (("shop_types:Order", 1), ("shop_types.py:Inner.Later", 2)):
        said = micro("events", "schema", "register", "orders", "--type", place)
        assert (said.code, said.out) == (0, f"orders version {id}, id {id}\n")
    assert json.loads(micro("events", "schema", "get", "orders").out)["title"] == "Later"


def test_a_pipeline_is_told_what_would_break(
    micro: Micro, folder: Path, platform: Platform, catalogue: Catalogue
) -> None:
    micro("events", "schema", "register", "orders", "order.json")
    said = micro("events", "schema", "check", "orders", "wider.json")
    assert (said.code, said.out) == (0, "orders: nothing breaks (BACKWARD, 0 consumers).\n")
    readers = (Reader("orders", "billing", json.dumps(ORDER)), Reader(">", "audit"))
    platform.do(catalogue.declare(Declaration("billing", readers)))
    said = micro("events", "schema", "check", "orders", "wider.json")
    assert said.code == 127
    assert said.out == (
        "consumer billing of billing cannot read it: $.id: a number may be written, and only an "
        "integer is taken\n"
    )
    assert said.err.startswith("micro: orders (BACKWARD): it would break 1; one that is gone: ")
    said = micro("events", "schema", "check", "orders", "other.json", "--output", "json")
    assert said.code == 127
    assert [one["path"] for one in json.loads(said.out)["breaches"]] == ["$.number", "$.id"]
    listed = micro("events", "schema", "consumers", "orders").out.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        ["orders", "billing", "billing"],
        [">", "billing", "audit"],
    ]
    said = micro("events", "schema", "consumers", "orders", "--forget", "billing")
    assert said.out == "billing is taken to consume no more: orders.\n"
    assert micro("events", "schema", "check", "orders", "wider.json").code == 0


def test_modes(micro: Micro, folder: Path) -> None:
    micro("events", "schema", "register", "orders", "order.json")
    said = micro("events", "schema", "mode", "orders")
    assert said.out == "BACKWARD, types register themselves (not set here)\n"
    assert micro("events", "schema", "mode", "full").out == "FULL, types register themselves\n"
    assert "FULL" in micro("events", "schema", "mode", "orders").out
    said = micro("events", "schema", "mode", "orders", "none", "--no-auto")
    assert said.out == "NONE, types do not register themselves\n"
    assert micro("events", "schema", "register", "orders", "other.json").code == 0
    said = micro("events", "schema", "check", "orders", "order.json")
    assert said.out == "orders: nothing is held to anything, its mode is NONE.\n"
    assert "FULL" in micro("events", "schema", "mode", "orders", "--unset").out
    assert micro("events", "schema", "mode", "users/", "BACKWARD").code == 0
    own = json.loads(
        micro("events", "schema", "mode", "users/Users.Read-request", "-o", "json").out
    )
    assert own == {"mode": "BACKWARD", "auto": True, "own": {}}


def test_versions_are_compared(micro: Micro, folder: Path) -> None:
    micro("events", "schema", "register", "orders", "order.json")
    assert micro("events", "schema", "diff", "orders").code == 64
    micro("events", "schema", "register", "orders", "wider.json")
    lines = micro("events", "schema", "diff", "orders").out.splitlines()
    assert '-      "type": "integer"' in lines
    assert '+      "type": "number"' in lines
    assert lines[-3:] == [
        "version 1 reads version 2: no",
        "  $.id: a number may be written, and only an integer is taken",
        "version 2 reads version 1: yes",
    ]
    assert micro("events", "schema", "diff", "orders", "1", "2").out.splitlines() == lines
    assert micro("events", "schema", "diff", "orders", "1", "7").code == 4


def test_schemas_are_deleted(micro: Micro, folder: Path) -> None:
    micro("events", "schema", "register", "orders", "order.json")
    micro("events", "schema", "register", "orders", "wider.json")
    assert micro("events", "schema", "delete", "orders", "-v", "1").out == "orders: deleted 1.\n"
    assert micro("events", "schema", "delete", "orders").out == "orders: deleted 2.\n"
    assert micro("events", "schema", "list").out.splitlines() == []
    assert len(micro("events", "schema", "list", "--deleted").out.splitlines()) == 2
    said = micro("events", "schema", "delete", "orders", "--permanent")
    assert said.out == "orders: deleted 1, 2 for good.\n"
    assert json.loads(micro("events", "schema", "get", "--id", "2").out) == WIDER


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["get"], 64, "name either a topic or --id"),
        (["get", "orders"], 4, "topic orders has no schema"),
        (["get", "--id", "9"], 4, "no schema 9"),
        (["register", "orders"], 64, "name either a file"),
        (["register", "orders", "order.json", "--type", "a:B"], 64, "name either a file"),
        (["register", "orders", "none.json"], 64, "none.json: no such file"),
        (["register", "orders", "shop_types.py"], 127, "it is no JSON"),
        (["register", "orders", "--type", "Order"], 64, "module:Type"),
        (["register", "orders", "--type", "nowhere:Order"], 64, "nowhere cannot be imported"),
        (["register", "orders", "--type", "shop_types:Nope"], 64, "shop_types has no Nope"),
        (["register", "orders", "--type", "shop_types:anything"], 64, "may be anything"),
        (["mode", "orders", "sideways"], 64, "is no mode"),
        (["mode", "orders", "--unset"], 4, "no mode of its own"),
        (["delete", "orders"], 4, "topic orders has no schema"),
        (["diff", "orders"], 4, "topic orders has no schema"),
        (["register", "", "order.json"], 64, "topic"),
    ],
)
def test_bad_input(micro: Micro, folder: Path, words: list[str], code: int, why: str) -> None:
    said = micro("events", "schema", *words)
    assert (said.code, said.out) == (code, "")
    assert why in said.err
    assert said.err.count("\n") == 1
