"""Sources from Git repositories, made with git and fetched by git and by dulwich."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from microcosmos.base.clock import SYSTEM
from microcosmos.base.home import Home
from microcosmos.runtime.checkout import Checkouts
from microcosmos.runtime.children import Children
from microcosmos.runtime.deployment import CreateRequest, UpdateRequest
from microcosmos.runtime.failure import Failure
from microcosmos.runtime.source import Source, parse

from .platform import SERVE, until, world
from .spawner import LocalSpawner, read

IDENTITY = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]


class Repository:
    """A real one, with a working tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = folder.as_uri()
        folder.mkdir()
        self.git("init", "--quiet")

    def git(self, *words: str) -> str:
        argv = ["git", "-C", str(self.folder), *IDENTITY, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self.folder / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x", "--allow-empty")
        return self.git("rev-parse", "HEAD")


@contextlib.asynccontextmanager
async def checkouts(folder: Path, limit: float = 60) -> AsyncIterator[Checkouts]:
    home = Home(folder / "home")
    home.make()
    async with LocalSpawner() as spawner, Children(spawner, SYSTEM) as children:
        yield Checkouts(home, children, limit)


@pytest.fixture(params=["git", "dulwich"])
def fetcher(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What fetches: without a git program on the PATH it is dulwich."""
    if request.param == "dulwich":
        here = tmp_path / "bin"
        here.mkdir()
        (here / "git-upload-pack").symlink_to(str(shutil.which("git-upload-pack")))
        # Only for the program that is spawned: the tests themselves need git.
        from microcosmos.runtime import environment

        tools = environment.tools
        monkeypatch.setattr(environment, "tools", lambda: {**tools(), "PATH": str(here)})
    return str(request.param)


async def test_branch_tag_commit_and_default(tmp_path: Path, fetcher: str) -> None:
    repository = Repository(tmp_path / "repo")
    first = repository.commit(main_dot_py="one", lib__a_dot_py="")
    repository.git("tag", "v1")
    repository.git("tag", "--annotate", "v1.1", "--message", "x")
    repository.git("checkout", "--quiet", "-b", "feature/x")
    second = repository.commit(main_dot_py="two")
    repository.git("checkout", "--quiet", "main")
    third = repository.commit(main_dot_py="three")
    async with checkouts(tmp_path) as room:
        for ref, commit, text in [
            ("", third, "three"),
            ("main", third, "three"),
            ("feature/x", second, "two"),
            ("v1", first, "one"),
            ("v1.1", first, "one"),
            (first, first, "one"),
            (first[:12], first, "one"),
        ]:
            source = Source(kind="git", location=repository.url, ref=ref)
            found = await room.fetch("svc", source, "0" * 8)
            place = room.place("svc", found.hash)
            assert (found.commit, read(place / "main.py")) == (commit, text), ref
            assert (place / "lib" / "a.py").exists()
            assert not (place / ".git").exists()


async def test_a_folder_of_a_repository(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "mono")
    commit = repository.commit(services__users__main_dot_py="u", services__other_dot_py="o")
    async with checkouts(tmp_path) as room:
        source = parse(f"{repository.url}/services/users@main")
        found = await room.fetch("users", source, "0" * 8)
        place = room.place("users", found.hash)
        assert [path.name for path in place.iterdir()] == ["main.py"]
        assert found.commit == commit
        missing = Source(kind="git", location=repository.url, path="none")
        with pytest.raises(Failure, match="has no folder none"):
            await room.fetch("users", missing, "0" * 8)


async def test_what_cannot_be_fetched_says_why_and_leaves_nothing(
    tmp_path: Path, fetcher: str
) -> None:
    repository = Repository(tmp_path / "repo")
    repository.commit(main_dot_py="x")
    async with checkouts(tmp_path) as room:
        for url, ref in [
            (repository.url, "no-such-branch"),
            (repository.url, "abcdef1234"),
            ((tmp_path / "none").as_uri(), ""),
        ]:
            source = Source(kind="git", location=url, ref=ref)
            with pytest.raises(Failure, match=r"could not f(etch|ind)") as caught:
                await room.fetch("svc", source, "0" * 8)
            assert "Traceback" not in "\n".join(caught.value.output)
        assert list((tmp_path / "home" / "server" / "sources").iterdir()) == []


async def test_links_out_of_a_repository_are_refused(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repo")
    (repository.folder / "passwords").symlink_to("/etc/passwd")
    (repository.folder / "out").symlink_to("/etc")
    repository.commit(main_dot_py="x", sub__main_dot_py="")
    async with checkouts(tmp_path) as room:
        with pytest.raises(Failure, match="is a link that leaves the folder"):
            await room.fetch("svc", Source(kind="git", location=repository.url), "0" * 8)
        inside = Source(kind="git", location=repository.url, path="out")
        with pytest.raises(Failure, match="has no folder out"):
            await room.fetch("svc", inside, "0" * 8)


async def test_hooks_and_prompts_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path / "templates" / "hooks"
    templates.mkdir(parents=True)
    hook = templates / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    home = tmp_path / "user"
    home.mkdir()
    (home / ".gitconfig").write_text(f"[init]\n\ttemplateDir = {templates.parent}\n")
    monkeypatch.setenv("HOME", str(home))
    repository = Repository(tmp_path / "repo")
    (repository.folder / ".git" / "hooks").mkdir(exist_ok=True)
    repository.git("config", "core.hooksPath", "/dev/null")
    repository.commit(main_dot_py="x")
    async with checkouts(tmp_path) as room:
        await room.fetch("svc", Source(kind="git", location=repository.url), "0" * 8)
    assert not (tmp_path / "ran").exists()


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    import asyncio

    ended = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, checkouts(tmp_path, limit=1.0) as room:
        source = Source(kind="git", location=f"git://127.0.0.1:{port}/o/r")
        with pytest.raises(Failure, match="took longer than 1 s"):
            await room.fetch("svc", source, "0" * 8)
        async with asyncio.timeout(60):
            await ended.wait()


async def test_a_repository_runs_and_update_fetches_again(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "greeter")
    first = repository.commit(main_dot_py=SERVE.replace("VERSION", "'one'"))
    async with world(tmp_path) as here, here.core() as runtime:
        source = parse(f"{repository.url}@main")
        record = await here.settled(await runtime.create(CreateRequest(source=source)))
        assert (record.status, record.error) == ("running", "")
        assert (record.name, record.version, record.commit) == ("greeter", "main", first)
        second = repository.commit(main_dot_py=SERVE.replace("VERSION", "'two'"))
        record = await here.settled(await runtime.update(UpdateRequest(name="greeter")))
        assert record.commit == second
        assert "version two" in here.log("greeter")
        # A commit: fetched once, then only restarted.
        request = UpdateRequest(name="greeter", ref=first[:10])
        record = await here.settled(await runtime.update(request))
        assert (record.version, record.commit) == (first[:10], first)
        assert [version.commit for version in record.history] == [first, second, first]
        fetches = len(here.spawner.names("fetch"))
        before = here.alive("greeter")
        shutil.rmtree(repository.folder)
        record = await here.settled(await runtime.update(request))
        assert (record.status, record.error) == ("running", "")
        await until(lambda: not {*before} & {*here.alive("greeter")}, "the old one to drain")
        assert len(here.spawner.names("fetch")) == fetches
        # What cannot be fetched any more leaves what runs.
        record = await here.settled(await runtime.update(UpdateRequest(name="greeter", ref="main")))
        assert record.status == "running"
        assert record.error.startswith("update failed")
        assert record.build == "failed"


async def test_a_core_that_died_while_fetching_fetches_again(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "greeter")
    repository.commit(main_dot_py=SERVE.replace("VERSION", "'one'"))
    async with world(tmp_path) as here:
        async with here.core() as runtime:
            await runtime.create(CreateRequest(source=parse(repository.url)))
        async with here.core():
            await here.status("greeter", lambda it: it.status == "running")
            await until(lambda: len(here.alive("greeter")) == 1, "one process")


def test_the_environment_of_tools_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    from microcosmos.runtime import environment

    monkeypatch.setenv("MICRO_ADMIN_PASSWORD", "x")
    monkeypatch.setenv("NATS_CREDS", "x")
    monkeypatch.setenv("https_proxy", "http://proxy")
    env = environment.tools()
    assert "https_proxy" in env
    assert not {"MICRO_ADMIN_PASSWORD", "NATS_CREDS"} & env.keys()
    assert env["GIT_TERMINAL_PROMPT"] == "0"
    assert "https_proxy" not in environment.base()
    assert os.environ["PATH"] in environment.base()["PATH"]
