"""What the tests of the AsyncAPI document and its page share."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from microcosmos.gateway.asyncapi import document
from microcosmos.gateway.asyncapi.flows import Flow, Flows, Payload

# Pinned: what it finds wrong changes from one to the next.
PARSER = "@asyncapi/parser@3.6.3"
CACHE = Path.home() / ".cache" / "microcosmos-tests" / "asyncapi-parser-3.6.3"

_SCRIPT = """
import { Parser } from "@asyncapi/parser";
import { readFileSync } from "node:fs";
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
console.log(JSON.stringify({
  channels: document?.channels().all().map((one) => one.address()) ?? null,
  operations: document?.operations().all().map((one) => [one.action(), one.id()]) ?? null,
  wrong: diagnostics.filter((one) => one.severity < 2).map((one) => [one.path, one.message]),
}));
"""
"""AsyncAPI's own parser: its errors and warnings; that there is a newer version is neither."""


class Line(msgspec.Struct):
    """One line of an order."""

    sku: str
    count: int = 1


class Order(msgspec.Struct):
    """An order that was placed."""

    id: str
    lines: list[Line]
    notes: dict[str, str] = {}


def schema_of(kind: Any) -> dict[str, Any]:
    return msgspec.json.schema(kind)


ORDER = Payload(
    topic="orders.placed",
    schema=schema_of(Order),
    id=7,
    version=2,
    compatibility="BACKWARD_TRANSITIVE",
)
FLOWS = [
    Flow(service="shop", action="send", topic="orders.placed"),
    Flow(service="billing", action="receive", topic="orders.placed", group="billing", ordered=True),
    Flow(service="audit", action="receive", topic="orders.>", group="audit"),
]


def made(*payloads: Payload, flows: list[Flow] | None = None, server: str = "") -> dict[str, Any]:
    """The document of some topics."""
    return document.document(
        Flows(namespace="micro", payloads=[*payloads], flows=flows or [], server=server)
    )


Parse = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def _parser() -> Path:
    """The folder of the parser, installed once for all runs."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "node_modules" / "@asyncapi" / "parser" / "package.json").exists():
            options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
            subprocess.run(
                ["npm", "install", *options, PARSER],
                cwd=CACHE,
                check=True,
                capture_output=True,
                timeout=120,
            )
        (CACHE / "parse.mjs").write_text(_SCRIPT)
    return CACHE


@pytest.fixture
def parse(_parser: Path, tmp_path: Path) -> Parse:
    """Read a document, JSON or YAML, as AsyncAPI's own parser does."""

    def read(text: str) -> dict[str, Any]:
        path = tmp_path / "document"
        path.write_text(text, "utf-8")
        done = subprocess.run(
            ["node", _parser / "parse.mjs", path],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return read
