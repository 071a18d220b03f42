"""The platform's own children: ready when they say so, back when they die."""

from __future__ import annotations

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
