"""Which files of a folder are its source: .gitignore (Git is the judge), links, limits."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.runtime import folder as folders
from microcosmos.runtime.folder import content_hash, entries, leaves
from microcosmos.runtime.ignore import Ignore

NAMES = ["a", "b", "build", "x.log", "keep.log", "y.py", "#h", "with space"]
PATTERNS = [
    *["*.log", "!keep.log", "/build", "build/", "a/**", "*", "!*/", "!*.py", "a/b", "**/b/"],
    *["a/*/y.py", "build/*", "!build/keep.log", "b", "!b", "/a/", "a/**/x.log", "\\#h", "?"],
    *[
        "[!a]",
        "!a/keep.log",
        "with space ",
        "with\\ space",
        "/*",
        "!/a",
        "**",
        "# c",
        "",
        "*.p[yx]",
    ],
]


def names(folder: Path) -> list[str]:
    return [entry.name for entry in entries(folder)]


@pytest.mark.parametrize("seed", range(40))
def test_git_and_we_agree_on_what_is_ignored(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)

    def fill(folder: Path, depth: int) -> None:
        for name in dice.sample(NAMES, dice.randint(1, 5)):
            if depth < 3 and dice.random() < 0.4:
                (folder / name).mkdir()
                fill(folder / name, depth + 1)
            else:
                (folder / name).write_text("x")
        if dice.random() < (0.9 if depth == 0 else 0.25):
            lines = [dice.choice(PATTERNS) for _ in range(dice.randint(1, 5))]
            (folder / ".gitignore").write_text("\n".join(lines) + "\n")

    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    fill(tmp_path, 0)
    listed = subprocess.run(
        ["git", "-C", tmp_path, "ls-files", "-coz", "--exclude-standard"],
        check=True,
        capture_output=True,
    ).stdout.decode()
    assert names(tmp_path) == sorted(listed.split("\0")[:-1])


def test_some_folders_are_always_left_out(tmp_path: Path) -> None:
    for name in [".git", ".venv", "__pycache__", "node_modules", "deep/__pycache__"]:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("x")
    (tmp_path / ".gitignore").write_text("!.venv\n")
    (tmp_path / "template.html").write_text("assets and templates are kept")
    assert names(tmp_path) == [".gitignore", "template.html"]
    assert Ignore(tmp_path).ignores("deep/__pycache__/x.pyc")
    assert not Ignore(tmp_path).ignores("deep/x.py")


def test_a_change_below_an_ignored_folder_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / ".gitignore").write_text("data/\n")
    (tmp_path / "data" / ".gitignore").write_text("!*\n")
    ignore = Ignore(tmp_path)
    assert ignore.ignores("data/x/y.txt")
    assert not ignore.ignores("datas/x")


@pytest.mark.parametrize(
    ("name", "target", "out"),
    [
        ("link", "file", False),
        ("link", "./a/b", False),
        ("a/link", "../file", False),
        ("link", "..", True),
        ("a/link", "../../x", True),
        ("link", "/etc/passwd", True),
        ("a/b/link", "../../d/..", True),
        ("link", "a/../../x", True),
        ("a/b/link", "../..", False),
    ],
)
def test_links_that_may_lead_out(name: str, target: str, out: bool) -> None:
    assert leaves(name, target) is out


def test_a_link_out_of_the_folder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "secrets").symlink_to("../../elsewhere")
    with pytest.raises(errors.BadRequest, match=r"a/secrets is a link that leaves the folder"):
        entries(tmp_path)


def test_links_inside_are_kept_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "gone").symlink_to("nowhere")
    assert [(entry.name, entry.target) for entry in entries(tmp_path)] == [
        ("file", ""),
        ("gone", "nowhere"),
        ("loop", "."),
    ]


def test_sockets_and_pipes_are_skipped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert names(tmp_path) == []


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / str(number)).write_text("12345")
    monkeypatch.setattr(folders, "MAX_FILES", 2)
    with pytest.raises(errors.TooLarge, match=r"more than 2 files.*\.gitignore"):
        entries(tmp_path)
    monkeypatch.setattr(folders, "MAX_FILES", 3)
    monkeypatch.setattr(folders, "MAX_SIZE", 14)
    with pytest.raises(errors.TooLarge, match="MiB"):
        entries(tmp_path)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")).write_text("x")
    with pytest.raises(errors.BadRequest, match="not UTF-8"):
        entries(tmp_path)


def test_the_hash_tells_names_modes_and_contents_apart(tmp_path: Path) -> None:
    def hash_of(label: str, name: str, text: str, mode: int = 0o644) -> str:
        folder = tmp_path / label
        folder.mkdir()
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
        return content_hash(entries(folder))

    plain = hash_of("1", "a", "x")
    assert plain == hash_of("2", "a", "x", 0o600)
    different = {
        plain,
        hash_of("3", "b", "x"),
        hash_of("4", "a", "y"),
        hash_of("5", "a", "x", 0o755),
        hash_of("6", "ax", ""),
    }
    assert len(different) == 5
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "a").symlink_to("x")
    assert content_hash(entries(tmp_path / "7")) not in different
