"""`micro run` and `micro update` of repositories, and the environments that are made for them."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .live import Live, program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Repository:
    """A repository on this machine with a service in a folder ``greeting``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        ran = subprocess.run(
            ["git", *who, *words], cwd=self.place, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    def commit(self, says: str, folder: str = "greeting") -> str:
        """Let the service say something else; the commit."""
        (self.place / folder).mkdir(exist_ok=True)
        (self.place / folder / "main.py").write_text(program(folder, says))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", says)
        return self.git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def base(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """What `git.baseurl` names: a repository with a tag ``v1`` and a branch ``next``."""
    repository = Repository(tmp_path_factory.mktemp("repositories") / "services")
    first = repository.commit("first")
    repository.git("tag", "v1")
    repository.commit("main")
    repository.git("checkout", "--quiet", "-b", "next")
    repository.commit("next")
    repository.git("checkout", "--quiet", "main")
    repository.git("tag", "first-commit", first)
    live.micro("user", "config", "set", "git.baseurl", f"file://{repository.place}")
    yield repository
    live.micro("user", "config", "delete", "git.baseurl")


@pytest.mark.parametrize(
    ("ref", "says"), [("", "main"), ("@next", "next"), ("@v1", "first"), ("@COMMIT", "first")]
)
def test_a_bare_name_is_looked_up_in_the_base_url(
    live: Live, base: Repository, ref: str, says: str
) -> None:
    ref = ref.replace("COMMIT", base.git("rev-parse", "v1"))
    live.micro("run", f"greeting{ref}")
    assert live.call("greeting")["says"] == says
    row = live.status("greeting")
    assert row["version"] == (ref[1:] or "latest")
    assert row["source"] == f"file://{base.place}/greeting"
    live.micro("kill", "greeting")


def test_a_url_with_a_path_inside(live: Live, base: Repository) -> None:
    live.micro("run", f"file://{base.place}/greeting@next", "--name", "by-url")
    assert live.call("by-url")["says"] == "next"
    live.micro("kill", "by-url")


def test_an_update_fetches_the_branch_again(live: Live, base: Repository) -> None:
    base.git("checkout", "--quiet", "-B", "moving")
    base.commit("before")
    live.micro("run", "greeting@moving", "--name", "moving")
    assert live.call("moving")["says"] == "before"
    commit = base.commit("after")
    base.git("checkout", "--quiet", "main")
    live.micro("update", "moving")
    assert live.call("moving")["says"] == "after"
    live.micro("update", "moving@v1")
    assert live.call("moving")["says"] == "first"
    assert live.status("moving")["version"] == "v1"
    live.micro("update", f"moving@{commit}")
    old = live.call("moving")
    # A commit is what it was: its replicas are only replaced.
    live.micro("update", f"moving@{commit}")
    new = live.call("moving")
    assert old["says"] == new["says"] == "after"
    assert old["pid"] != new["pid"]
    live.micro("kill", "moving")


@pytest.mark.parametrize(
    ("source", "about"),
    [
        ("nowhere", "nowhere"),
        ("greeting@nosuchbranch", "nosuchbranch"),
        ("file:///nowhere/at/all", "there is no Git repository"),
        ("./nofolder", "there is no folder ./nofolder"),
        ("greeting@--upload-pack=x", "is no branch, tag or commit"),
        ("ext::sh -c true", "has no folder ext::sh -c true"),
        ("https://user:word@example.com/a/b", "leave user and password out"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_a_line(
    live: Live, base: Repository, source: str, about: str
) -> None:
    said = live.type("run", source, "--name", "unfetched")
    assert said.code in (127, 64), said
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("micro: ")
    assert about in said.err.splitlines()[-1]
    live.type("kill", "unfetched")


def wheel(folder: Path) -> Path:
    """A package that needs no index."""
    path = folder / "thing-1.0-py3-none-any.whl"
    info = "thing-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("thing.py", "VALUE = 42\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


NEEDS = """
import sys, thing, microcosmos


@service.endpoint
async def where() -> dict[str, str]:
    return {"prefix": sys.prefix, "value": str(thing.VALUE), "file": microcosmos.__file__}
"""


def test_a_service_with_requirements_has_an_environment_of_its_own(live: Live) -> None:
    place = wheel(live.work)
    requirements = f"--no-index\nthing @ {place.as_uri()}\n"
    code = program("needy", more=NEEDS)
    with live.running("needy", code, requirements_txt=requirements) as folder:
        where = live.call("needy", "where")
        key = live.status("needy")["build"]
        environment = live.home.server / "builds" / key
        assert where["value"] == "42"
        assert where["prefix"] == str(environment)
        assert where["file"].endswith("microcosmos/__init__.py")
        ready = (environment / ".ready").stat().st_mtime_ns
        assert "thing" in live.micro("logs", "needy", "--build").out
        live.micro("update", str(folder))
        live.micro("kill", "needy")
        live.micro("run", str(folder))
        assert live.call("needy", "where") == where
        assert (environment / ".ready").stat().st_mtime_ns == ready
        # Nothing was built, so nothing was written.
        assert live.micro("logs", "needy", "--build").out == ""


def test_a_build_that_fails_shows_its_output(live: Live) -> None:
    folder = live.folder(
        "unbuilt", program("unbuilt"), requirements_txt="--no-index\nnosuchthing==9.9\n"
    )
    said = live.type("run", str(folder))
    assert said.code == 127
    assert said.out == ""
    assert "nosuchthing" in said.err
    assert said.err.splitlines()[-1].startswith("micro: the build failed: ")
    row = live.status("unbuilt")
    assert (row["status"], row["build"]) == ("error", "failed")
    assert "nosuchthing" in row["metadata"]["error"]
    assert "nosuchthing" in live.micro("logs", "unbuilt", "--build").out
    # What is mended comes up, in place.
    (folder / "requirements.txt").write_text("# nothing\n")
    live.micro("update", str(folder))
    assert live.call("unbuilt")["says"] == "one"
    assert live.status("unbuilt")["build"] == "n/a"
    live.micro("kill", "unbuilt")
