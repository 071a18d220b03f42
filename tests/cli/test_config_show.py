"""`micro config show`: which settings hold, and who said so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from microcosmos.base.home import Home
from microcosmos.server.settings import NAMES, dotted

from .conftest import Micro


def test_every_setting_is_there_and_its_origin_when_asked(
    micro: Micro, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home.path / "micro.toml"
    path.write_text("[server]\ngateways = 3\n")
    monkeypatch.setenv("MICRO_STORE_URL", "postgres://ann:pw@db/x")
    found = json.loads(micro("config", "show", "--output", "json").out)
    assert [one["setting"] for one in found[:3]] == ["config_file", "home", "api.access_log"]
    assert {one["setting"] for one in found} == {dotted(name) for name in NAMES}
    assert "origin" not in found[0]
    result = micro("config", "show", "--origin", "--profile=test")
    lines = [line.split(maxsplit=2) for line in result.out.splitlines()]
    assert lines[0] == ["SETTING", "VALUE", "ORIGIN"]
    told = {setting: (value, origin) for setting, value, origin in lines[1:]}
    assert told["server.gateways"] == ("3", f"{path}:2")
    assert told["store.url"] == ("postgres://ann:[secret]@db/x", "MICRO_STORE_URL")
    assert told["nats.url"] == ("memory://", "profile test")
    assert told["server.profile"] == ("test", "--profile")
    assert told["home"] == (str(home.path), "MICRO_HOME")
    assert told["api.config"] == ("n/a", "default")


def test_the_global_flags_count_too(micro: Micro, home: Home, tmp_path: Path) -> None:
    found = micro("--home", str(tmp_path), "--profile=cluster", "config", "show", "--origin").out
    lines = [line.split() for line in found.splitlines()]
    assert ["home", str(tmp_path), "--home"] in lines
    # What a server could not start with is shown all the same.
    assert ["store.url", "n/a", "profile", "cluster"] in lines
    assert not (tmp_path / "server").exists()


def test_what_is_wrong_is_one_line(micro: Micro, home: Home) -> None:
    path = home.path / "micro.toml"
    path.write_text("[server]\ngatways = 3\n")
    for words in (["config", "show"], ["server"], ["server", "--detach"]):
        result = micro(*words)
        assert (result.code, result.out) == (64, "")
        assert result.err == (
            f"micro: {path}:2: server.gatways is not known; did you mean gateways?\n"
        )
    assert micro("config", "show", "--config=nope.toml").code == 64


def test_a_file_where_one_types_is_told_to_be_ignored(home: Home, tmp_path: Path) -> None:
    (tmp_path / "micro.toml").write_text("[server]\ngateways = 3\n")
    words = [sys.executable, "-m", "microcosmos.cli", "server", "--profile=nope"]

    def said(*flags: str) -> list[str]:
        env = {**os.environ, "MICRO_HOME": str(home.path)}
        ended = subprocess.run(
            [*words, *flags], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        return ended.stderr.splitlines()

    refusal = "micro: there is no profile 'nope'; there are: cluster, kubernetes, local, test"
    assert said() == [refusal]
    words[-1] = "--profile=kubernetes"
    told, refused = said()
    assert told == f"micro: {tmp_path}/micro.toml is not read; use --config micro.toml"
    assert "pods as the runtime are not there yet" in refused
    assert "pods" in said("--config=micro.toml")[0]
