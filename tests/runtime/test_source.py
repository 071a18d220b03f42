"""What `micro run X` means, by table."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.runtime.source import (
    Source,
    check,
    check_ref,
    examples_folder,
    name_of,
    parse,
)


class Disk:
    """A file system that has these folders and repositories."""

    folders = frozenset(
        {"/disk", "/disk/shop", "/disk/helloworld", "/x y", "/disk/github.com/a/b", "/disk/at@home"}
    )
    repositories = frozenset({"/repos/mono", "/repos/plain.git"})

    def folder(self, path: str) -> bool:
        return str(Path(path).resolve()) in self.folders

    def repository(self, path: str) -> bool:
        return path in self.repositories


def folder(location: str) -> Source:
    return Source(kind="folder", location=location)


def git(location: str, path: str = "", ref: str = "") -> Source:
    return Source(kind="git", location=location, path=path, ref=ref)


GOOD = [
    (".", folder("/disk")),
    ("./shop", folder("/disk/shop")),
    ("../disk/shop", folder("/disk/shop")),
    ("shop", folder("/disk/shop")),
    ("/x y", folder("/x y")),
    ("at@home", folder("/disk/at@home")),
    ("github.com/a/b", folder("/disk/github.com/a/b")),
    ("github.com/o/r", git("https://github.com/o/r")),
    ("github.com/o/r/a/b", git("https://github.com/o/r", "a/b")),
    ("github.com/o/r@main", git("https://github.com/o/r", "", "main")),
    ("github.com/o/r/a@feature/x", git("https://github.com/o/r", "a", "feature/x")),
    ("github.com/o/r/@scope/p@v1.0", git("https://github.com/o/r", "@scope/p", "v1.0")),
    ("localhost:3000/o/r", git("https://localhost:3000/o/r")),
    ("gitlab.com/g/s/r.git/p", git("https://gitlab.com/g/s/r.git", "p")),
    ("https://github.com/o/r.git", git("https://github.com/o/r.git")),
    ("HTTPS://github.com/o/r/a@9342934e6180", git("https://github.com/o/r", "a", "9342934e6180")),
    ("ssh://git@host.org:22/o/r@v1", git("ssh://git@host.org:22/o/r", "", "v1")),
    ("git@github.com:o/r.git@main", git("ssh://git@github.com/o/r.git", "", "main")),
    ("git://host/o/r", git("git://host/o/r")),
    ("file:///repos/mono", git("file:///repos/mono")),
    ("file:///repos/mono/svc/a@dev", git("file:///repos/mono", "svc/a", "dev")),
    ("file:///repos/plain.git/a", git("file:///repos/plain.git", "a")),
    ("greeter", Source(kind="example", location="greeter")),
    ("shop/users", Source(kind="example", location="shop/users")),
]


@pytest.mark.parametrize(("text", "meaning"), GOOD)
def test_what_is_typed_means(text: str, meaning: Source) -> None:
    assert parse(text, cwd="/disk", disk=Disk()) == meaning


@pytest.mark.parametrize(
    ("text", "base", "meaning"),
    [
        (
            "greeter",
            "github.com/micro/services",
            git("https://github.com/micro/services", "greeter"),
        ),
        ("greeter@v2", "github.com/micro", git("https://github.com/micro/greeter", "", "v2")),
        ("a@9342934", "file:///repos/mono/", git("file:///repos/mono", "a", "9342934")),
        ("a", "git@host.org:team", git("ssh://git@host.org/team/a")),
    ],
)
def test_a_bare_name_is_looked_up_at_the_base_url(text: str, base: str, meaning: Source) -> None:
    assert parse(text, base_url=base, cwd="/disk", disk=Disk()) == meaning


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "name a folder"),
        ("./none", "no folder ./none"),
        ("/none", "no folder /none"),
        ("a\0b", "name a folder"),
        ("http://github.com/o/r", "http:// is not fetched from"),
        ("ext::sh -c touch", "no folder inside|no service|is no"),
        ("ext://sh/x/y", "ext:// is not fetched from"),
        ("https://github.com/o", "names no repository"),
        ("https://user:pass@github.com/o/r", "leave user and password out"),
        ("https://token@github.com/o/r", "leave user and password out"),
        ("https://-oProxyCommand=x/o/r", "no host"),
        ("ssh://-oProxyCommand=x/o/r", "no host"),
        ("https://github.com/-o/r", "no URL"),
        ("https://github.com/o/../r", "no URL|no folder"),
        ("github.com/o/r/../../x", "no folder inside"),
        ("github.com/o/r@", "should follow the @"),
        ("github.com/o/r@--upload-pack=x", "no branch"),
        ("github.com/o/r@a..b", "no branch"),
        ("github.com/o/r@a b", "no branch"),
        ("https://git hub.com/o/r", "no host"),
        ("file:///nowhere/at/all", "there is no Git repository"),
        ("file://repos/mono", "three slashes"),
        ("greeter@v2", "examples have no versions"),
    ],
)
def test_what_means_nothing_is_refused(text: str, why: str) -> None:
    with pytest.raises(errors.BadRequest, match=why):
        name_of(parse(text, cwd="/disk", disk=Disk()))


@pytest.mark.parametrize(
    "source",
    [
        git("file:///repos/mono", ref="-x"),
        git("--upload-pack=touch /tmp/x"),
        git("ext::sh"),
        git("https://h/o/r", path="../x"),
        git("https://h/o/r", path="/etc"),
        Source(kind="example", location="../../etc"),
        Source(kind="example", location="/etc"),
        Source(kind="example", location="a", ref="v1"),
    ],
)
def test_a_source_from_the_wire_is_checked_again(source: Source) -> None:
    with pytest.raises(errors.BadRequest):
        check(source)


def test_the_name_is_the_base_name_of_the_folder_or_the_chosen_one() -> None:
    assert name_of(folder("/disk/shop")) == "shop"
    assert name_of(git("https://github.com/o/r.git")) == "r"
    assert name_of(git("https://github.com/o/r", "a/b")) == "b"
    assert name_of(folder("/disk/shop"), "other") == "other"
    with pytest.raises(errors.BadRequest, match="--name"):
        name_of(folder("/x y"))
    with pytest.raises(errors.BadRequest):
        name_of(folder("/disk/shop"), "a.*")


def test_columns() -> None:
    source = git("https://github.com/micro/services", "helloworld")
    assert str(source) == "github.com/micro/services/helloworld"
    assert source.version == "latest"
    assert git("file:///r", ref="v1").version == "v1"
    assert git("file:///r", ref="9342934e6180").names_a_commit
    assert not git("file:///r", ref="main").names_a_commit


@pytest.mark.parametrize("ref", ["main", "v1.0", "feature/x", "a+b", "9342934e6180", ""])
def test_good_refs(ref: str) -> None:
    check_ref(ref)


def test_the_examples_are_found() -> None:
    assert (examples_folder() / "helloworld" / "main.py").is_file()
