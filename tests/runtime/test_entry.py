"""What of a folder is the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.runtime.entry import Entry, find


def fill(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_main_py_is_the_entry(tmp_path: Path) -> None:
    assert find(fill(tmp_path, main_dot_py=""), "x") == Entry(python=["main.py"])


def test_a_command_goes_before_everything(tmp_path: Path) -> None:
    fill(tmp_path, main_dot_py="")
    assert find(tmp_path, "x", "node 'my app.js'") == Entry(command=["node", "my app.js"])
    with pytest.raises(errors.BadRequest, match="command: No closing quotation"):
        find(tmp_path, "x", "node 'a")


def test_tool_micro_entry_names_a_file_or_a_function(tmp_path: Path) -> None:
    fill(tmp_path, main_dot_py="", app__run_dot_py="")
    fill(tmp_path, pyproject_dot_toml="[tool.micro]\nentry = 'app/run.py'\n")
    assert find(tmp_path, "x") == Entry(python=["app/run.py"])
    for bad in ["../x.py", "/etc/passwd", "none.py", "-c", ""]:
        fill(tmp_path, pyproject_dot_toml=f"[tool.micro]\nentry = '{bad}'\n")
        with pytest.raises(errors.BadRequest, match="neither a file nor"):
            find(tmp_path, "x")
    fill(tmp_path, pyproject_dot_toml="[tool.micro]\nentry = 5\n")
    with pytest.raises(errors.BadRequest, match="entry 5"):
        find(tmp_path, "x")


def test_project_scripts(tmp_path: Path) -> None:
    fill(tmp_path, pkg__app_dot_py="import sys\ndef main():\n    print('ran', sys.argv[1:])\n")
    fill(tmp_path, pyproject_dot_toml="[project.scripts]\nserve = 'pkg.app:main'\n")
    entry = find(tmp_path, "x")
    out = subprocess.run(
        [sys.executable, *entry.python, "--port", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout == "ran ['--port', '1']\n"
    two = "[project]\nname='shop'\n[project.scripts]\nother = 'a:b'\nshop = 'pkg.app:main'\n"
    fill(tmp_path, pyproject_dot_toml=two)
    assert find(tmp_path, "x") == entry
    fill(tmp_path, pyproject_dot_toml="[project.scripts]\na = 'a:b'\nb = 'a:b'\n")
    with pytest.raises(errors.BadRequest, match="say which script with --name: a, b"):
        find(tmp_path, "x")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "found nothing; add a main.py or a package.json, or say what to start with --comm"),
        ({"README_dot_md": ""}, r"found README\.md; add a main\.py"),
        ({"app_dot_py": ""}, r"found app\.py; rename .* --command 'python app\.py'"),
        ({"users__main_dot_py": "", "x": ""}, r"found users/, x; .* micro run \./users"),
    ],
)
def test_a_folder_without_an_entry_is_refused_in_one_line(
    tmp_path: Path, files: dict[str, str], why: str
) -> None:
    with pytest.raises(errors.BadRequest, match=why) as caught:
        find(fill(tmp_path, **files), "x")
    assert "\n" not in caught.value.detail


def test_a_pyproject_that_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match=r"pyproject\.toml: "):
        find(fill(tmp_path, pyproject_dot_toml="[["), "x")
