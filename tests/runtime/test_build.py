"""Environments: each service's own packages, from wheels made here, without a network."""

from __future__ import annotations

import contextlib
import subprocess
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from microcosmos.base.clock import SYSTEM
from microcosmos.base.home import Home
from microcosmos.runtime.build import NO_ENVIRONMENT, Build, Builds, requirements
from microcosmos.runtime.children import Children
from microcosmos.runtime.deployment import Deployment, Options
from microcosmos.runtime.failure import Failure
from microcosmos.runtime.source import Source

from .platform import SERVE, until, world
from .spawner import LocalSpawner


def wheel(folder: Path, name: str = "thing", text: str = "VALUE = 42\n") -> Path:
    """A package as an installer takes it: a zip file with its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", text)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


@contextlib.asynccontextmanager
async def builds(folder: Path) -> AsyncIterator[tuple[Builds, LocalSpawner]]:
    home = Home(folder / "home")
    home.make()
    async with LocalSpawner() as spawner, Children(spawner, SYSTEM) as children:
        yield Builds(home, children, 60), spawner


def source(folder: Path, requirement: str, program: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(program)
    (folder / "requirements.txt").write_text(f"--no-index\n{requirement}\n")
    return folder


def output(build: Build, folder: Path) -> str:
    ran = subprocess.run(
        build.argv, env=build.env, cwd=folder, capture_output=True, text=True, check=False
    )
    return ran.stdout + ran.stderr


async def make(room: Builds, folder: Path, options: Options | None = None, **where: str) -> Build:
    source = Source(kind="folder", location=str(folder))
    about = Deployment(
        name="svc", generation="0" * 8, source=source, options=options or Options(), **where
    )
    return await room.make(about, folder)


async def test_a_service_gets_its_own_packages_and_the_platforms(tmp_path: Path) -> None:
    file = wheel(tmp_path / "wheels")
    program = "import thing, microcosmos, msgspec, sys; print(thing.VALUE, sys.prefix)"
    folder = source(tmp_path / "sources" / "h1", f"thing @ {file.as_uri()}", program)
    async with builds(tmp_path) as (room, spawner):
        build = await make(room, folder, Options(args=["--loud"]))
        assert build.argv[1:] == ["main.py", "--loud"]
        place = tmp_path / "home" / "server" / "builds" / build.key
        assert output(build, folder) == f"42 {place}\n"
        # Compiled when it was installed.
        assert list(place.glob("lib/python*/site-packages/__pycache__/thing.*.pyc"))
        commands = len(spawner.started)
        assert (await make(room, folder)).key == build.key
        assert len(spawner.started) == commands
        assert await make(room, source(tmp_path / "h2", "")) != build
        room.keep_only({"other"})
        assert not place.exists()


async def test_the_same_requirements_share_an_environment_and_the_platform_has_none(
    tmp_path: Path,
) -> None:
    file = wheel(tmp_path / "wheels")
    async with builds(tmp_path) as (room, _):
        # A path is part of the source, so it belongs to the key; a name and version would not.
        assert requirements(source(tmp_path / "a", "x==1")) == requirements(
            source(tmp_path / "b", "x==1")
        )
        local = [source(tmp_path / name, str(file)) for name in ("c", "d")]
        assert requirements(local[0]) != requirements(local[1])
        plain = tmp_path / "plain"
        plain.mkdir()
        (plain / "main.py").write_text("import microcosmos; print('fine')")
        (plain / "requirements.txt").write_text("# nothing\n\n")
        build = await make(room, plain)
        assert build.key == NO_ENVIRONMENT
        assert output(build, plain) == "fine\n"
        with pytest.raises(Failure, match="no entry: found nothing"):
            await make(room, Path(tmp_path / "home" / "lanes"))


def test_where_requirements_stand(tmp_path: Path) -> None:
    def write(**files: str) -> tuple[str, str] | None:
        for name, text in files.items():
            (tmp_path / name.replace("_", ".")).write_text(text)
        return requirements(tmp_path)

    assert write() is None
    assert write(pyproject_toml="[project]\nname='x'\ndependencies=[]\n") is None
    found = write(pyproject_toml="[project]\nname='x'\ndependencies=['a']\n")
    assert found is not None
    assert found[0] == "pyproject.toml"
    (tmp_path / "more.txt").write_text("b==1\n")
    first = write(requirements_txt="a==1\n-r more.txt\n-r ../../outside.txt\n")
    assert first is not None
    assert first[0] == "requirements.txt"
    (tmp_path / "more.txt").write_text("b==2\n-r requirements.txt\n")
    second = requirements(tmp_path)
    assert second is not None
    assert second[1] != first[1]


async def test_pyproject_dependencies_are_installed(tmp_path: Path) -> None:
    file = wheel(tmp_path / "wheels")
    folder = tmp_path / "sources" / "h"
    (folder / "src" / "pkg").mkdir(parents=True)
    (folder / "src" / "pkg" / "app.py").write_text(
        "import thing\ndef main():\n  print(thing.VALUE)"
    )
    (folder / "pyproject.toml").write_text(
        f"[project]\nname = 'svc'\nversion = '1'\ndependencies = ['thing @ {file.as_uri()}']\n"
        "[project.scripts]\nsvc = 'pkg.app:main'\n"
    )
    async with builds(tmp_path) as (room, _):
        assert output(await make(room, folder), folder) == "42\n"


async def test_a_command_is_looked_for_in_the_folder_and_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho $1\n")
    (tmp_path / "run.sh").chmod(0o755)
    async with builds(tmp_path) as (room, _):
        build = await make(room, tmp_path, Options(command="./run.sh hello"))
        assert output(build, tmp_path) == "hello\n"
        build = await make(room, tmp_path, Options(command="python -c 'print(7)'"))
        assert output(build, tmp_path) == "7\n"
        with pytest.raises(Failure, match="there is no program no-such-thing"):
            await make(room, tmp_path, Options(command="no-such-thing"))


async def test_a_failed_build_tells_its_cause_and_is_tried_anew(tmp_path: Path) -> None:
    folder = source(tmp_path / "sources" / "h", "no-such-package-here")
    async with builds(tmp_path) as (room, _):
        for _attempt in range(2):
            with pytest.raises(Failure, match=r"^the build failed: .") as caught:
                await make(room, folder)
            assert "no-such-package-here" in "\n".join(caught.value.output)
        wheel(folder / "wheels", "no_such_package_here")
        (folder / "requirements.txt").write_text("--no-index\n-f wheels\nno-such-package-here\n")
        assert (await make(room, folder)).key


async def test_a_build_failure_shows_in_status_and_an_environment_runs(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        folder = here.write("packed", {"requirements.txt": "--no-index\nno-such-package\n"})
        here.write("packed")
        record = await here.run(folder)
        assert (record.status, record.build) == ("error", "failed")
        assert "no-such-package" in "\n".join(record.output)
        assert "no-such-package" in here.log("packed", "build")
        wheel(folder / "wheels")
        here.write(
            "packed", {"requirements.txt": "--no-index\n./wheels/thing-1.0-py3-none-any.whl\n"}
        )
        here.write(
            "packed", {"main.py": "import thing\n" + SERVE.replace("VERSION", "thing.VALUE")}
        )
        record = await here.update("packed", folder)
        assert (record.status, record.error) == ("running", "")
        assert len(record.build) == 16
        assert "version 42" in here.log("packed")
    # After a reboot the environment is there still.
    async with world(tmp_path / "again") as here:
        async with here.core():
            file = wheel(tmp_path / "wheels")
            folder = here.write("packed", {"requirements.txt": f"--no-index\n{file}\n"})
            here.write("packed")
            await here.run(folder)
            alive = here.alive("packed")
        for process in alive:
            await here.spawner.signal(process, 9)
        await until(lambda: not here.alive("packed"), "the end")
        built = len(here.spawner.names("build"))
        async with here.core():
            await here.status("packed", lambda it: it.ready == 1)
        assert len(here.spawner.names("build")) == built
