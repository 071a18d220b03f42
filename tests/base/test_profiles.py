"""Profiles: ours, those of other packages, and packages that are broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from microcosmos.base import errors, profiles
from microcosmos.base.profiles import Profile

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lays a package out as pip would."""

    def lay(package: str, module: str, entries: str) -> None:
        name = package.replace("-", "_")
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(module)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        about = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        (info / "METADATA").write_text(about)
        (info / "entry_points.txt").write_text(f"[microcosmos.profile]\n{entries}\n")

    monkeypatch.syspath_prepend(tmp_path)
    return lay


def test_the_profiles_are_tables_of_urls() -> None:
    assert profiles.load("local") == Profile(
        "local", "nats://bundled", "sqlite:///{home}/store.db", "processes://"
    )
    assert profiles.load("test") == Profile(
        "test", "memory://", "memory://", "processes://", "memory"
    )
    assert profiles.load("cluster") == Profile("cluster", "", "", "processes://")
    assert profiles.load("kubernetes") == Profile("kubernetes", "", "", "pods://")


def test_the_variable_chooses_and_local_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MICRO_PROFILE", raising=False)
    assert profiles.load().name == "local"
    monkeypatch.setenv("MICRO_PROFILE", "test")
    assert profiles.load().name == "test"


def test_another_packages_profile_has_the_name_it_is_found_by(install: Install) -> None:
    module = "from dataclasses import replace\nfrom microcosmos.base.profiles import LOCAL\n"
    install("acme-one", module + "MINE = replace(LOCAL, store='memory://')", "acme = acme_one:MINE")
    assert profiles.load("acme") == Profile("acme", "nats://bundled", "memory://", "processes://")
    assert profiles.names() == ["local", "test", "cluster", "kubernetes", "acme"]


def test_an_unknown_profile_is_refused_with_the_list(install: Install) -> None:
    install("acme-list", "", "acme = acme_list:X\nlocal = acme_list:X")
    with pytest.raises(errors.BadRequest) as caught:
        profiles.load("staging")
    assert caught.value.detail == (
        "there is no profile 'staging'; there are: acme, cluster, kubernetes, local, test"
    )


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("import nowhere_to_be_found", "cannot be imported: ModuleNotFoundError: No module named"),
        ("X = 1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("Y = 1", "cannot be imported: AttributeError: "),
        ("def (", "cannot be imported: SyntaxError: "),
        ("X = 'local'", "is no Profile but a str"),
        ("raise ValueError('two\\nlines')", "cannot be imported: ValueError: two lines"),
    ],
)
def test_a_broken_package_is_named_in_one_line(install: Install, module: str, why: str) -> None:
    install("acme-broken", module, "acme = acme_broken:X")
    with pytest.raises(errors.InternalServerError) as caught:
        profiles.load("acme")
    begins = "acme (microcosmos.profile) of the package acme-broken 1.0 "
    assert caught.value.detail.startswith(begins + why)
    assert "\n" not in caught.value.detail


def test_two_packages_with_one_profile_are_told(install: Install) -> None:
    install("acme-a", "", "acme = acme_a:X")
    install("acme-b", "", "acme = acme_b:X")
    with pytest.raises(errors.Conflict, match=r"acme of .* is in acme-a 1\.0 and acme-b 1\.0"):
        profiles.load("acme")


def test_the_state_folder_is_put_into_a_url_as_it_is() -> None:
    assert profiles.placed("sqlite:///{home}/x.db", Path("/a/{b}")) == "sqlite:////a/{b}/x.db"
    assert profiles.placed("postgres://u:{p}@h/x", Path("/a")) == "postgres://u:{p}@h/x"
