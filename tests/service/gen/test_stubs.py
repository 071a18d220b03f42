"""Stubs: `Client("things")` is typed where it is written, for mypy and pyright."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from microcosmos.registry.interface import Description
from microcosmos.service.gen import reader, stubs

from .conftest import MYPY, TOOLS, Run

USE = """\
from typing import TYPE_CHECKING

from microcosmos import Client, Service, connect, errors
from microcosmos.testing import memory

if TYPE_CHECKING:
    from microcosmos.clients.things import Tree

service = Service("mine")


async def use() -> "Tree":
    reveal_type(await Client("things").list())
    reveal_type(service.client("things"))
    reveal_type(await Client("things").invoke("Other.Thing", {"pets": []}))
    reveal_type(Client("unknown"))
    async for tree in Client("things").stream("Watch", {"limit": 1}):
        reveal_type(tree)
    async with connect() as platform, memory():
        reveal_type(platform.client("things"))
    await Client("things").call({"name": "a"})
    raise errors.NotFound("a")


async def misuse() -> None:
    print((await Client("things").list())[0]["nam"])
    await Client("things").call(nam="a")
    await Client("things").cal(name="a")
    await Client("things").invoke("Nothing")
    async with Client("things").stream("Chat") as chat:
        await chat.send(3)
"""
REVEALED = ["list", "Things", "PageCatDog", "Remote", "Tree", "Things"]
MISUSE = [26, 27, 28, 29, 31]


@pytest.fixture
def folder(described: Description, tmp_path: Path) -> Path:
    other = msgspec.structs.replace(described, name="v1.things")
    models = [reader.read(one, stubs.RESERVED) for one in (described, other)]
    for path, text in stubs.files(models, again="micro gen stubs").items():
        (tmp_path / "typings" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "typings" / path).write_text(text, "utf-8")
    (tmp_path / "main.py").write_text(USE)
    return tmp_path


def test_mypy_sees_them(folder: Path, run: Run) -> None:
    (folder / "mypy.ini").write_text("[mypy]\nmypy_path = typings\n")
    found = run(*MYPY, "main.py", "typings")
    lines = [line for line in found.stdout.splitlines() if "main.py" in line]
    revealed = [line.partition("is ")[2] for line in lines if "Revealed" in line]
    assert len(revealed) == len(REVEALED), found.stdout
    assert all(word in line for word, line in zip(REVEALED, revealed, strict=True))
    errors = [line for line in found.stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[:2] for line in errors] == [["main.py", str(at)] for at in MISUSE]


@pytest.mark.slow
def test_pyright_sees_them_without_a_setting(folder: Path, run: Run, npm: Path) -> None:
    found = run(npm / ".bin" / "pyright", "--pythonpath", TOOLS / "python", "--outputjson", ".")
    told = json.loads(found.stdout)["generalDiagnostics"]
    own = [one for one in told if one["file"].endswith("main.py")]
    errors = {one["range"]["start"]["line"] + 1 for one in own if one["severity"] == "error"}
    assert sorted(errors) == MISUSE
    revealed = [one["message"] for one in own if one["severity"] == "information"]
    assert all(word in line for word, line in zip(REVEALED, revealed, strict=True)), revealed


def test_they_are_formatted(folder: Path, run: Run) -> None:
    found = run(TOOLS / "ruff", "format", "--isolated", "--diff", "typings")
    assert (found.stdout, found.returncode) == ("", 0)
