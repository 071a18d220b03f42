"""The platform's own children: ready when they say so, back when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.server.drain import Drain
from microcosmos.server.processes import Processes
from microcosmos.server.tree import Backoff, Child, Tree

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

READY = "import os, signal; os.write(int(os.environ['MICRO_READY_FD']), b'1'); signal.pause()"
SILENT = "import signal; signal.pause()"


def test_pauses_double_up_to_a_limit_and_a_long_life_forgives() -> None:
    backoff = Backoff()
    pauses = [backoff.next(0.5) for _ in range(8)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.next(10.0) == 0.1
    assert backoff.next(0.5) == 0.2


async def test_a_child_is_ready_when_it_says_so(kit: Any) -> None:
    async with Processes() as processes:
        async with Tree(processes, [Child(kit.spec("one", READY))], Drain()) as tree:
            await tree.ready()
            (pid,) = tree.pids().values()
        assert not kit.alive(pid)


async def test_a_child_that_is_never_ready_is_given_up(kit: Any) -> None:
    children = [Child(kit.spec("one", SILENT))]
    async with Processes() as processes, Tree(processes, children, Drain()) as tree:
        with pytest.raises(errors.Unavailable, match=r"one .* not ready within 0\.05 s"):
            await tree.ready(0.05)


async def test_a_child_that_ends_first_is_told_with_its_last_words(kit: Any) -> None:
    children = [Child(kit.spec("one", "print('why\\n\\n'); raise SystemExit(7)"))]
    async with Processes() as processes, Tree(processes, children, Drain()) as tree:
        with pytest.raises(errors.Unavailable) as caught:
            await tree.ready()
    detail = caught.value.detail
    assert detail.startswith("one could not start: (PID ")
    assert "ended with status 7; it said last: why (log: " in detail


async def test_a_program_that_is_not_there_is_told(kit: Any) -> None:
    spec = msgspec.structs.replace(kit.spec("one", ""), argv=["/no/program"])
    async with Processes() as processes, Tree(processes, [Child(spec)], Drain()) as tree:
        with pytest.raises(errors.Unavailable, match="No such file or directory: /no/program"):
            await tree.ready()


async def test_a_killed_child_is_started_again(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    changes: list[int] = []
    children = [Child(kit.spec("one", READY)), Child(kit.spec("two", READY))]
    async with Processes() as processes:
        tree = Tree(processes, children, Drain(), changed=lambda: changes.append(1))
        async with tree:
            await tree.ready()
            before = tree.pids()
            with caplog.at_level(logging.WARNING):
                os.kill(before["one"], signal.SIGKILL)
                await kit.eventually(lambda: tree.pids().get("one", before["one"]) != before["one"])
            assert tree.pids()["two"] == before["two"]
    assert len(changes) == 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"one (PID {before['one']}) was ended by SIGKILL after ")
    assert "it is started again in 0.1 s" in line


async def test_nothing_is_started_again_while_it_stops(kit: Any) -> None:
    children = [Child(kit.spec("one", READY))]
    async with Processes() as processes:
        async with Tree(processes, children, Drain()) as tree:
            await tree.ready()
            # Ends while the tree is left: its pause must not outlive the tree.
            os.kill(tree.pids()["one"], signal.SIGKILL)
        assert tree.pids() == {}


async def test_no_descriptor_is_left_over(kit: Any) -> None:
    def count() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    before = count()
    for code in (READY, "raise SystemExit(1)"):
        children = [Child(kit.spec("one", code))]
        async with Processes() as processes, Tree(processes, children, Drain()) as tree:
            with contextlib.suppress(errors.Unavailable):
                await tree.ready()
    assert count() == before


LEAVER = """
import os, signal, sys
def leave(*_):
    print("left", flush=True)
    sys.exit(0)
signal.signal(signal.SIGUSR1, leave)
os.write(int(os.environ['MICRO_READY_FD']), b'1')
while True: signal.pause()
"""


async def test_a_child_is_replaced_by_one_that_is_ready(kit: Any) -> None:
    changes: list[dict[str, int]] = []
    first = Child(kit.spec("one", LEAVER), leave=signal.SIGUSR1)
    async with Processes() as processes:
        tree = Tree(processes, [first], Drain(), changed=lambda: changes.append(tree.pids()))
        async with tree:
            await tree.ready()
            before = tree.pids()["one"]
            second = msgspec.structs.replace(kit.spec("one", LEAVER), env={"NEW": "1"})
            leaving = await tree.replace(Child(second, leave=signal.SIGUSR1))
            after = tree.pids()["one"]
            assert after != before
            await leaving
            assert not kit.alive(before)
            assert kit.alive(after)
            assert kit.log("one") == "left\n"
            # The new one is tended like the old one was, and by what is known of it now.
            os.kill(after, signal.SIGKILL)
            await kit.eventually(lambda: tree.pids().get("one", after) != after)
            environ = Path(f"/proc/{tree.pids()['one']}/environ")
            await kit.eventually(lambda: b"NEW=1" in environ.read_bytes())
        assert not kit.alive(after)
    assert changes[1] == {"one": after}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise SystemExit(7)", "ended with status 7"),
        (SILENT, r"it was not ready within 0\.2 s"),
    ],
)
async def test_a_successor_that_is_not_ready_changes_nothing(kit: Any, code: str, why: str) -> None:
    async with Processes() as processes:
        async with Tree(processes, [Child(kit.spec("one", READY))], Drain()) as tree:
            await tree.ready()
            before = tree.pids()
            with pytest.raises(errors.Unavailable, match=f"one could not start: .*{why}"):
                await tree.replace(Child(kit.spec("one", code)), limit=0.2)
            assert tree.pids() == before
            assert kit.alive(before["one"])
        assert len(processes._living) == 0


async def test_a_child_that_dies_while_its_successor_starts_is_not_started_too(
    kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    slow = "import os; os.read(os.open('go', os.O_RDONLY), 1);" + READY
    os.mkfifo(kit.folder / "go")
    children = [Child(kit.spec("one", READY))]
    async with Processes() as processes, Tree(processes, children, Drain()) as tree:
        await tree.ready()
        before = tree.pids()["one"]
        replacing = asyncio.create_task(tree.replace(Child(kit.spec("one", slow))))
        await kit.eventually(lambda: len(processes._living) == 2)
        os.kill(before, signal.SIGKILL)
        await kit.eventually(lambda: not kit.alive(before))
        with (kit.folder / "go").open("wb") as go:
            go.write(b"1")
        await (await replacing)
        assert len(processes._living) == 1
        assert kit.alive(tree.pids()["one"])
    assert not caplog.records


async def test_a_child_is_replaced_once_at_a_time(kit: Any) -> None:
    children = [Child(kit.spec("one", READY))]
    async with Processes() as processes, Tree(processes, children, Drain()) as tree:
        await tree.ready()
        replacing = asyncio.create_task(tree.replace(Child(kit.spec("one", READY))))
        await kit.eventually(lambda: len(processes._living) == 2)
        with pytest.raises(errors.Conflict, match="one is being replaced already"):
            await tree.replace(Child(kit.spec("one", READY)))
        await (await replacing)


async def test_a_tree_that_is_left_takes_the_coming_and_the_leaving_with_it(kit: Any) -> None:
    stays = READY.replace("signal.pause()", "signal.signal(10, lambda *_: None)") + (
        "\nwhile True: signal.pause()"
    )
    async with Processes() as processes:
        async with Tree(
            processes, [Child(kit.spec("one", stays), leave=signal.SIGUSR1)], Drain()
        ) as tree:
            await tree.ready()
            leaving = await tree.replace(Child(kit.spec("one", READY), leave=signal.SIGUSR1))
            coming = asyncio.create_task(tree.replace(Child(kit.spec("one", SILENT))))
            await kit.eventually(lambda: len(processes._living) == 3)
            pids = list(processes._living)
        assert leaving.done()
        with pytest.raises(errors.Unavailable):
            await coming
    assert not any(map(kit.alive, pids))
