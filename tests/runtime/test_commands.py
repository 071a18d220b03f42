"""Programs of any kind: their command, and the names they answer under."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.registry.interface import REPLICA, Node, Service
from microcosmos.runtime.deployment import CreateRequest, Options
from microcosmos.runtime.source import Source

from .platform import until, world


async def test_a_command_is_part_of_the_version_and_of_the_status(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        folder = here.write("told")
        first = await here.run(folder, Options(command="python main.py"))
        assert first.metadata()["command"] == "python main.py"
        again = await here.run(folder, Options(command="python -u main.py"), force=True)
        assert [version.command for version in again.history] == [
            "python main.py",
            "python -u main.py",
        ]
        plain = await here.run(folder, force=True)
        assert "command" not in plain.metadata()
        assert len({version.hash for version in plain.history}) == 1


async def test_another_name_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        folder = here.write("shown", {"main.py": "import time\ntime.sleep(60)\n"})
        source = Source(kind="folder", location=str(folder))
        record = await runtime.create(
            CreateRequest(source=source, upload=await here.upload(folder))
        )
        await until(lambda: here.alive("shown"), "the process")
        node = Node(id="n", metadata={REPLICA: here.alive("shown")[0]})
        await here.registry.register(Service(name="its.own", nodes=[node]))
        record = await here.settled(record)
        assert record.announces == ["its.own"]
        assert record.metadata()["announces"] == "its.own"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("work.sh", "work.sh stands in the folder: type ./work.sh"),
        ("no-such-program", "there is no program no-such-program in the folder or on the PATH"),
    ],
)
async def test_a_program_that_is_not_there(tmp_path: Path, command: str, why: str) -> None:
    async with world(tmp_path) as here, here.core():
        folder = here.write("absent", {"work.sh": "#!/bin/sh\n"})
        record = await here.run(folder, Options(command=command))
        assert (record.status, record.error) == ("error", f"command: {why}")
