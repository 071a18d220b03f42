"""What of a folder of Node is started, and what npm has to install for it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.runtime.entry import Entry, find
from microcosmos.runtime.package import packages


def write(folder: Path, about: Any, **files: str) -> Path:
    (folder / "package.json").write_text(about if isinstance(about, str) else json.dumps(about))
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_start_script_runs_in_a_shell_without_npm(tmp_path: Path) -> None:
    scripts = {"prestart": "echo first", "start": 'printf "%s\\n"'}
    entry = find(write(tmp_path, {"main": "x.js", "scripts": scripts}), "x")
    assert entry.node
    said = subprocess.run([*entry.command, "a b", "c"], capture_output=True, text=True, check=True)
    assert said.stdout == "first\na b\nc\n"


@pytest.mark.parametrize(
    ("main", "file"),
    [("app.js", "app.js"), ("./app", "app.js"), ("lib", "lib/index.js"), ("lib/", "lib/index.js")],
)
def test_main_is_what_node_means_by_it(tmp_path: Path, main: str, file: str) -> None:
    write(tmp_path, {"main": main}, app_dot_js="", lib__index_dot_js="", index_dot_js="")
    assert find(tmp_path, "x") == Entry(command=["node", file], node=True)


@pytest.mark.parametrize("name", ["index.js", "server.js", "main.mjs"])
def test_well_known_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"scripts": {"test": "node --test"}}, **{name.replace(".", "_dot_"): ""})
    assert find(tmp_path, "x").command == ["node", name]


def test_python_goes_first_and_a_command_before_all(tmp_path: Path) -> None:
    write(tmp_path, {"main": "app.js"}, app_dot_js="", main_dot_py="")
    assert find(tmp_path, "x") == Entry(python=["main.py"])
    assert find(tmp_path, "x", "node app.js") == Entry(command=["node", "app.js"], node=True)
    project = "[tool.micro]\ncommand = 'node --no-warnings app.js'\n"
    write(tmp_path, {}, pyproject_dot_toml=project)
    assert find(tmp_path, "x").command == ["node", "--no-warnings", "app.js"]
    write(tmp_path, {}, pyproject_dot_toml="[tool.micro]\ncommand = 5\n")
    with pytest.raises(errors.BadRequest, match="command 5 is no text"):
        find(tmp_path, "x")


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({}, r"package\.json has neither scripts\.start nor main, and there is no index\.js"),
        ({"scripts": {"start": " "}}, "neither"),
        ({"scripts": [], "main": 5}, "neither"),
        ({"main": "none.js"}, r"main 'none\.js' is no file of the folder"),
        ({"main": "../x.js"}, "is no file of the folder"),
        ({"main": "/etc/passwd"}, "is no file of the folder"),
        ({"main": "a\0b"}, "is no file of the folder"),
        ("{", r"package\.json: "),
        ("[]", r"package\.json: "),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), r"package\.json: "),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_line(
    tmp_path: Path, about: Any, why: str
) -> None:
    with pytest.raises(errors.BadRequest, match=why) as caught:
        find(write(tmp_path, about), "x")
    assert "\n" not in caught.value.detail


def test_a_script_without_a_package_is_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "thing.mjs").touch()
    with pytest.raises(errors.BadRequest, match=r"--command 'node thing\.mjs'"):
        find(tmp_path, "x")


def test_nothing_to_install(tmp_path: Path) -> None:
    assert packages(tmp_path) is None
    assert packages(write(tmp_path, {"main": "a.js", "devDependencies": {"x": "1"}})) is None
    assert packages(write(tmp_path, {"dependencies": {}})) is None
    # What came with the source is taken as it is.
    write(tmp_path, {"dependencies": {"x": "1"}}, node_modules__x__index_dot_js="")
    assert packages(tmp_path) is None


def test_only_what_decides_what_is_installed_decides_its_key(tmp_path: Path) -> None:
    def texts(about: Any, **files: str) -> list[str]:
        found = packages(write(tmp_path, {"dependencies": {"x": "1"}, **about}, **files))
        assert found is not None
        return found.texts

    first = texts({})
    assert texts({"version": "2", "scripts": {"start": "node x"}, "main": "y.js"}) == first
    assert texts({"dependencies": {"x": "2"}}) != first
    assert texts({"overrides": {"y": "1"}}) != first
    assert texts({}, package_dash_lock_dot_json="{}") == first
    (tmp_path / "package-lock.json").write_text("{}")
    locked = packages(tmp_path)
    assert locked is not None
    assert (locked.locked, locked.texts != first) == (True, True)
    assert locked.files == ["package.json", "package-lock.json"]


@pytest.mark.parametrize(
    "about",
    [
        {"dependencies": {"lib": "file:./lib"}},
        {"dependencies": {"lib": "./lib"}},
        {"optionalDependencies": {"lib": "workspace:*"}},
        {"workspaces": ["lib"]},
        {"dependencies": {"x": "1"}, "scripts": {"postinstall": "node make.js"}},
    ],
)
def test_what_needs_the_source_has_it_whole(tmp_path: Path, about: Any) -> None:
    one, two = tmp_path / "hash1", tmp_path / "hash2"
    one.mkdir()
    two.mkdir()
    found, other = packages(write(one, about)), packages(write(two, about))
    assert found is not None
    assert other is not None
    assert found.files == []
    assert found.texts != other.texts
