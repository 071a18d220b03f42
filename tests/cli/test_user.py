"""`micro user config`."""

from __future__ import annotations

import json

import pytest

from microcosmos.base.home import Home

from .conftest import Micro


def test_what_is_set_is_got(micro: Micro) -> None:
    assert micro("user", "config", "set", "git.baseurl", "https://a.b/c").out == ""
    assert micro("user", "config", "get", "git.baseurl").out == "https://a.b/c\n"


def test_a_tree_is_json(micro: Micro) -> None:
    micro("user", "config", "set", "git.baseurl", "x")
    assert micro("user", "config", "get", "git").out == '{"baseurl":"x"}\n'
    got = micro("user", "config", "get", "git", "-o", "json").out
    assert json.loads(got) == {"baseurl": "x"}


def test_what_is_deleted_is_gone(micro: Micro) -> None:
    micro("user", "config", "set", "git.baseurl", "x")
    assert micro("user", "config", "delete", "git.baseurl").code == 0
    result = micro("user", "config", "get", "git.baseurl")
    assert (result.code, result.err) == (4, "micro: git.baseurl is not set\n")


def test_a_value_gives_way_to_a_deeper_one(micro: Micro) -> None:
    micro("user", "config", "set", "a", "1")
    micro("user", "config", "set", "a.b.c", "2")
    assert micro("user", "config", "get", "a.b.c").out == "2\n"


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_what_was_never_set_is_not_found(micro: Micro, verb: str) -> None:
    assert micro("user", "config", verb, "nothing.here").code == 4


@pytest.mark.parametrize("key", ["", ".", "a..b", ".a", "a."])
def test_a_key_is_a_path(micro: Micro, key: str) -> None:
    assert micro("user", "config", "set", key, "x").code == 64


def test_a_home_that_cannot_be_written_is_told(micro: Micro, home: Home) -> None:
    (home.path / "file").write_text("")
    result = micro(f"--home={home.path}/file", "user", "config", "set", "a", "b")
    assert result.code == 128
    assert "cannot be" in result.err
