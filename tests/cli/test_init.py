"""`micro init`: a profile of one's own, as a package."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest

from microcosmos.base.profiles import LOCAL, PROFILES, Profile

from .conftest import Micro


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_staging_profile_of_the_reference(micro: Micro, folder: Path) -> None:
    result = micro("init", "--profile=staging")
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert lines[:4] == [
        "./micro-profile-staging/pyproject.toml",
        "./micro-profile-staging/micro_profile_staging.py",
        "./micro-profile-staging/README.md",
        "",
    ]
    assert lines[4].endswith(" -m uv pip install ./micro-profile-staging")
    assert lines[5:] == ["MICRO_PROFILE=staging micro server"]
    package = folder / "micro-profile-staging"
    project = tomllib.loads((package / "pyproject.toml").read_text())
    (group,) = project["project"]["entry-points"]
    assert (group, project["project"]["entry-points"][group]) == (
        "microcosmos.profile",
        {"staging": "micro_profile_staging:STAGING"},
    )
    staging = runpy.run_path(str(package / "micro_profile_staging.py"))["STAGING"]
    assert staging == Profile("staging", LOCAL.nats, "memory://", LOCAL.runtime)


def test_several_profiles_are_one_package(micro: Micro, folder: Path) -> None:
    result = micro("init", "--profile=blue, dark-green", "--output=of/mine")
    assert result.code == 0, result
    made = runpy.run_path(str(folder / "of/mine/micro_profile_blue_dark_green.py"))
    assert [made[name].name for name in ("BLUE", "DARK_GREEN")] == ["blue", "dark-green"]
    entries = tomllib.loads((folder / "of/mine/pyproject.toml").read_text())
    assert set(entries["project"]["entry-points"]["microcosmos.profile"]) == {"blue", "dark-green"}
    assert result.out.splitlines()[-2:] == [
        "MICRO_PROFILE=blue micro server",
        "MICRO_PROFILE=dark-green micro server",
    ]


def test_the_global_flag_names_it_too(micro: Micro, folder: Path) -> None:
    assert micro("--profile=staging", "init").code == 0
    assert (folder / "micro-profile-staging").is_dir()


def test_nothing_is_overwritten(micro: Micro, folder: Path) -> None:
    package = folder / "micro-profile-staging"
    package.mkdir()
    (package / "README.md").write_text("mine")
    result = micro("init", "--profile=staging")
    assert (result.code, result.out) == (128, "")
    assert result.err == "micro: micro-profile-staging is there already, and is not empty\n"
    assert [path.name for path in package.iterdir()] == ["README.md"]
    (folder / "file").write_text("")
    assert "is there already" in micro("init", "--profile=staging", "--output=file").err
    assert "cannot be written" in micro("init", "--profile=staging", "--output=/dev/null/x").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what it is called: micro init --profile=staging"),
        (["--profile=Staging"], "'Staging' is no name of a profile"),
        (["--profile=../x"], "'../x' is no name of a profile"),
        (["--profile=a,,b"], "'' is no name of a profile"),
        (["--profile=" + "a" * 51], "use up to 50 small letters"),
        (["--profile=1st"], "starting with a letter"),
        *((["--profile", name], f"the profile {name} is there already") for name in PROFILES),
        (["--profile=a,a"], "each profile is named once"),
        (["--profile=a", "--output=profile.go"], "--output is a folder, such as profile"),
    ],
)
def test_what_is_wrong_is_told(micro: Micro, folder: Path, words: list[str], said: str) -> None:
    result = micro("init", *words)
    assert (result.code, result.out) == (64, "")
    assert said in result.err
    assert list(folder.iterdir()) == []
