"""`micro gen`: clients and stubs of services that run."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from .conftest import HELLOWORLD, Micro, Platform


@pytest.fixture(autouse=True)
def described(platform: Platform) -> None:
    """Let the registry have the whole schemas of helloworld, and of things only value trees."""
    schemas = {one.name: msgspec.Raw(one.schema) for one in HELLOWORLD.endpoints.values()}
    known = platform.record(HELLOWORLD)
    platform.register(msgspec.structs.replace(known, schemas=schemas))


def test_a_client_is_printed(micro: Micro) -> None:
    said = micro("gen", "client", "helloworld")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("# Made by `micro gen client helloworld --language=python`;")
    assert 'async def call(self, *, name: str = "World") -> Greeting:' in said.out
    ast.parse(said.out)


def test_the_language_and_the_carrier_are_chosen(micro: Micro) -> None:
    assert "import httpx" in micro("gen", "client", "helloworld", "--http").out
    said = micro("gen", "client", "helloworld", "-l", "typescript").out
    assert "call(request: CallRequest = {}, options: CallOptions = {}): Promise<Greeting> {" in said


def test_the_command_in_the_header_makes_it_again(micro: Micro) -> None:
    for words in ([], ["--http"], ["--language", "typescript"]):
        first = micro("gen", "client", "helloworld", *words).out
        found = re.search("`micro (.*)`", first)
        assert found is not None
        assert micro(*found[1].split()).out == first


def test_a_service_without_schemas_is_told_by_its_value_trees(micro: Micro) -> None:
    said = micro("gen", "client", "things")
    assert said.code == 0
    assert "class Echo(msgspec.Struct, kw_only=True):" in said.out
    assert "    address: Address | UnsetType = UNSET" in said.out
    assert "labels: dict[str, str] | UnsetType = UNSET" in said.out
    assert "async def other_thing(self" in said.out


def test_a_file_is_written_and_checked(micro: Micro, tmp_path: Path) -> None:
    path = tmp_path / "new" / "client.py"
    words = ["gen", "client", "helloworld", "--output", str(path)]
    assert micro(*words, "--check").code == 1
    said = micro(*words)
    assert (said.code, said.out) == (0, f"{path}\n")
    assert micro(*words, "--check").code == 0
    path.write_text(path.read_text().replace("World", "Mars"))
    said = micro(*words, "--check")
    assert said.code == 1
    assert said.err == (
        f"micro: {path} not up to date; write it again: "
        "micro gen client helloworld --language=python\n"
    )
    assert "Mars" in path.read_text()


def test_stubs_are_written_checked_and_cleared(micro: Micro, tmp_path: Path) -> None:
    words = ["gen", "stubs", "--output", str(tmp_path)]
    said = micro(*words)
    assert said.code == 0
    clients = tmp_path / "microcosmos" / "clients"
    assert {path.stem for path in clients.glob("*.pyi")} == {
        *("__init__", "helloworld", "registry", "things"),
    }
    assert micro(*words, "--check").code == 0
    (clients / "mine.pyi").write_text("x: int\n")
    assert micro("gen", "stubs", "helloworld", "--check", "--output", str(tmp_path)).code == 1
    assert micro("gen", "stubs", "helloworld", "--output", str(tmp_path)).code == 0
    assert {path.stem for path in clients.glob("*.pyi")} == {"__init__", "helloworld", "mine"}
    root = (tmp_path / "microcosmos" / "__init__.pyi").read_text()
    assert 'def Client(name: Literal["helloworld"]) -> _helloworld: ...' in root
    ast.parse(root)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["client", "nobody"], 4, "service nobody not found; `micro services` lists them"),
        (["stubs", "nobody"], 4, "service nobody not found"),
        (["client", "helloworld", "--language", "cobol"], 64, "'cobol' is not one of"),
        (["client", "a/b"], 64, "'a/b' is no service name"),
        (["client", "helloworld", "--check"], 64, "--check compares with a file"),
        (["client", "helloworld", "-l", "typescript", "--http"], 64, "--http is for python"),
        (["client", "helloworld", "-o", "/proc/none/a.py"], 128, "/proc/none/a.py cannot be"),
        (["client", "helloworld", "-o", "/"], 128, "/ cannot be written: Is a directory"),
        (["client", "helloworld", "-o", "/", "--check"], 128, "/ cannot be read"),
        (["stubs", "-o", "/proc/none"], 128, "cannot be written"),
        (["client", "helloworld", "--service_version", "v9"], 4, "no version v9; it has: latest"),
    ],
)
def test_what_is_wrong_is_one_line(micro: Micro, words: list[str], code: int, says: str) -> None:
    said = micro("gen", *words)
    assert (said.code, said.out) == (code, "")
    assert says in said.err
    assert said.err.count("\n") == 1


def test_without_a_server_nothing_is_made(micro: Micro, platform: Any) -> None:
    (platform.home.server / "server.json").unlink()
    said = micro("gen", "client", "helloworld")
    assert said.code == 4
    assert "no server is running for this MICRO_HOME" in said.err
