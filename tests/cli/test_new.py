"""`micro new service`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from microcosmos.runtime.source import examples_folder

from .conftest import Micro


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_files_of_a_service_are_written(micro: Micro, folder: Path) -> None:
    result = micro("new", "service", "greeter")
    assert result.code == 0
    assert "./greeter/main.py\n" in result.out
    assert result.out.endswith("\nmicro run ./greeter\nmicro greeter\n")
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {
        "greeter/.gitignore",
        "greeter/README.md",
        "greeter/main.py",
        "greeter/pyproject.toml",
        "greeter/tests/test_greeter.py",
    }


def test_as_json(micro: Micro, folder: Path) -> None:
    assert json.loads(micro("new", "greeter", "-o", "json").out)["name"] == "greeter"


def test_what_is_there_is_not_touched(micro: Micro, folder: Path) -> None:
    (folder / "greeter").mkdir()
    result = micro("new", "service", "greeter")
    assert (result.code, result.err) == (128, "micro: greeter is there already\n")
    assert list((folder / "greeter").iterdir()) == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["a b", ".hidden", "x*", "a..b", "-x"])
def test_a_bad_name_is_refused(micro: Micro, name: str) -> None:
    assert micro("new", "service", "--", name).code in (64, 127)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("name", ["greeter", "my-service", "v1.foo", "9lives", "call", "class"])
def test_its_own_tests_pass(micro: Micro, folder: Path, name: str) -> None:
    assert micro("new", "service", name).code == 0
    # Nor the plugins of ours that whoever has the package does not have, and that take a second.
    without = ("no:cacheprovider", "no:schemathesis", "no:hypothesispytest")
    argv = [sys.executable, "-m", "pytest", "-q", *(f"-p{one}" for one in without)]
    ended = subprocess.run(argv, cwd=folder / name, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_service_in_javascript(micro: Micro, folder: Path) -> None:
    assert micro("new", "service", "my.greeter", "--language", "node").code == 0
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {
        f"my.greeter/{name}"
        for name in (
            ".gitignore",
            "README.md",
            "hello.mjs",
            "package.json",
            "service.mjs",
            "tests/hello.test.mjs",
        )
    }
    package = json.loads((folder / "my.greeter" / "package.json").read_text())
    example = json.loads((examples_folder() / "node" / "package.json").read_text())
    assert package["dependencies"] == example["dependencies"]
    checks = [["node", "--check", "service.mjs"], ["node", "--test"]]
    for argv in checks:
        ended = subprocess.run(
            argv, cwd=folder / "my.greeter", capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert micro("new", "service", "other", "--language", "cobol").code == 64
