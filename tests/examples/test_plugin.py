"""examples/plugin: a store and a profile of another package."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.base.profiles import LOCAL

from ..e2e.live import Live
from ..store.conformance import Open, StoreConformance

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"


@pytest.fixture(scope="module")
def journal() -> Iterator[Any]:
    """The package, as if it were installed."""
    sys.path.insert(0, str(PLUGIN))
    try:
        import micro_journal

        yield micro_journal
    finally:
        sys.path.remove(str(PLUGIN))


class TestJournal(StoreConformance):
    @pytest.fixture
    def opened(self, journal: Any, clock: ManualClock, tmp_path: Path) -> Open:
        def opened() -> Any:
            return journal.JournalStore(f"journal://{tmp_path}/store.journal", clock=clock)

        return opened

    async def test_everything_is_there_again(self, opened: Open, clock: ManualClock) -> None:
        async with opened() as store:
            await store.write("a", b"\x00", metadata={"x": "y"}, expiry=10)
            await store.write("b", b"2")
            last = await store.delete("b")
            before = [await store.read("a"), await store.version()]
        async with opened() as store:
            assert [await store.read("a"), await store.version()] == before
            assert await store.list() == ["a"]
            assert await store.write("b", b"3", version=0) > before[1]
            assert last is None
        await clock.advance(10)
        async with opened() as store:
            assert await store.list() == ["b"]

    async def test_a_torn_batch_never_was(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as store:
            await store.write("a", b"1")
        path = tmp_path / "store.journal"
        whole = path.read_bytes()
        path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:-9])
        async with opened() as store:
            assert (await store.read("a")).value == b"1"
            await store.write("b", b"2")
        async with opened() as store:
            assert await store.list() == ["a", "b"]

    async def test_a_damaged_line_is_named(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as store:
            await store.write("a", b"1")
        path = tmp_path / "store.journal"
        path.write_bytes(path.read_bytes() + b"nonsense\n")
        with pytest.raises(errors.InternalServerError, match=r"line 3 is damaged"):
            async with opened():
                pass
        path.write_bytes(path.read_bytes().replace(b"nonsense\n", b""))
        async with opened() as store:
            assert await store.list() == ["a"]

    async def test_it_is_open_once(self, opened: Open) -> None:
        async with opened():
            with pytest.raises(errors.Conflict, match="held by another process"):
                async with opened():
                    pass

    async def test_a_full_disk_changes_nothing(self, opened: Open, tmp_path: Path) -> None:
        import resource
        import signal

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async with opened() as store:
            await store.write("a", b"1")
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
                with pytest.raises(errors.Unavailable, match=r"store\.journal: "):
                    await store.write("a", bytes(8192))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
                signal.signal(signal.SIGXFSZ, old)
            assert (await store.read("a")).value == b"1"
            await store.write("b", b"2")
        async with opened() as store:
            assert await store.list() == ["a", "b"]
            assert (await store.read("a")).value == b"1"

    async def test_who_gives_up_a_write_does_not_tear_it(self, opened: Open) -> None:
        async with opened() as store:
            task = asyncio.ensure_future(store.write("a", b"1"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await store.write("b", b"2")
            assert await store.list() in (["a", "b"], ["b"])


# Installed, as somebody else would.


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the platform and the plugin, made without a network."""
    folder = tmp_path_factory.mktemp("environment")
    uv = find_uv_bin()
    made = [uv, "venv", "--offline", "--python", sys.executable, str(folder)]
    subprocess.run(made, check=True, capture_output=True)
    python = folder / "bin" / "python"
    # The platform and all that it needs are those of this environment.
    packages = folder / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    here = [sysconfig.get_path("purelib"), str(ROOT / "src")]
    (packages / "platform.pth").write_text("\n".join(here) + "\n")
    _install(python, PLUGIN)
    return folder


def _install(python: Path, *packages: Path) -> None:
    flags = ["--offline", "--no-deps", "--no-build-isolation", "--python", str(python)]
    subprocess.run(
        [find_uv_bin(), "pip", "install", *flags, *map(str, packages)],
        check=True,
        capture_output=True,
    )


Another = Callable[..., Live]


@pytest.fixture
def another(environment: Path) -> Iterator[Another]:
    """Makes servers that run in that environment."""
    made: list[Live] = []

    def make(**env: str) -> Live:
        site = Live("--gateways=1", env=env, python=environment / "bin" / "python")
        made.append(site)
        return site

    yield make
    for site in made:
        site.close()


NOTES = """
from microcosmos import Service

notes = Service("notes")


@notes.endpoint
async def call() -> str:
    return "here"


if __name__ == "__main__":
    notes.run()
"""


@pytest.mark.e2e
@pytest.mark.slow
def test_its_profile_keeps_records_over_a_restart(another: Another) -> None:
    site = another(MICRO_PROFILE="journal").start()
    path = site.home.server / "store.journal"
    site.micro("run", str(site.folder("notes", NOTES)))
    assert b'"database":' in path.read_bytes()
    assert not (site.home.server / "store.db").exists()
    site.kill()
    site.start()
    # What is deployed is a record of the store.
    assert [row["name"] for row in site.micro("status", "--output=json").json] == ["notes"]
    assert site.stop() == 0
    doctor = {one["check"]: one for one in site.type("doctor", "--output=json").json}
    assert doctor["plugins"]["what"] == (
        "plugins: journal of micro-journal 0.1.0, journal of micro-journal 0.1.0"
    )


@pytest.mark.e2e
@pytest.mark.slow
def test_a_profile_of_ones_own_runs_once_it_is_installed(
    another: Another, environment: Path
) -> None:
    site = another(MICRO_PROFILE="staging")
    assert "there is no profile 'staging'; there are: cluster, journal," in site.refused(
        64, "server"
    )
    written = site.micro("init", "--profile=staging").lines
    assert written[-1] == "MICRO_PROFILE=staging micro server"
    _install(environment / "bin" / "python", site.work / "micro-profile-staging")
    shown = site.micro("config", "show", "--origin").out
    assert ["store.url", "memory://", "profile", "staging"] in [
        line.split() for line in shown.splitlines()
    ]
    site.start()
    site.micro("run", "helloworld")
    assert site.call("helloworld") == {"msg": "Hello World"}
    assert not (site.home.server / "store.db").exists()
    assert site.stop() == 0
    site.start()
    assert site.micro("status").out == ""


@pytest.mark.e2e
@pytest.mark.slow
def test_a_broken_store_of_another_package_is_one_line(another: Another, tmp_path: Path) -> None:
    package = tmp_path / "broken"
    package.mkdir()
    (package / "acme_broken.py").write_text("import nowhere_to_be_found")
    info = package / "acme_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[microcosmos.store]\nacme = acme_broken:open\n")
    path = os.pathsep.join([str(package), str(ROOT / "src")])
    site = another(MICRO_STORE_URL="acme://ann:pw@host", PYTHONPATH=path)
    said = site.refused(4, "server", "--gateways=1", "--api_address=127.0.0.1:0",
                        "--proxy_address=127.0.0.1:0", "--web_address=127.0.0.1:0")  # fmt: skip
    assert "acme (microcosmos.store) of the package acme-broken 1.0 cannot be imported" in said
    assert "pw" not in said
    doctor = {one["status"]: one["what"] for one in site.type("doctor", "--output=json").json
              if one["check"] == "plugins"}  # fmt: skip
    assert "acme-broken 1.0 cannot be imported: ModuleNotFoundError" in doctor["fail"]


def test_the_profile_is_local_with_another_store(journal: Any) -> None:
    assert (journal.JOURNAL.nats, journal.JOURNAL.runtime) == (LOCAL.nats, LOCAL.runtime)
    assert journal.JOURNAL.store == "journal:///{home}/store.journal"
