"""The page that a worker leaves behind, and who can read and write it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from microcosmos.functions import page
from microcosmos.functions.page import LOADING, Page, Running

from .zygotes import peers, until


def test_it_says_what_runs_once_it_is_told_to() -> None:
    one = Page(bytearray(page.SIZE))
    one.mark[0] = 7
    assert one.read() == Running()
    assert not one.read().known
    one.tell()
    assert one.read() == Running(7)
    one.loading("key-of-a-version")
    assert one.read() == Running(LOADING, "key-of-a-version")
    one.loading("ä" * 500)
    assert one.read().key.startswith("ä" * (page.LONGEST_KEY // 2))
    one.mark[0] = 0
    assert one.read() == Running(0)


def test_whatever_is_in_it_can_be_read() -> None:
    one = Page(bytearray(b"\xff" * page.SIZE))
    one.tell()
    assert one.read().slot == 2**64 - 1
    one.mark[0] = LOADING
    assert len(one.read().key) == page.LONGEST_KEY


def test_a_child_writes_it_though_it_does_not_live_to_tell() -> None:
    one = page.shared()
    pid = os.fork()
    if not pid:
        one.tell()
        one.mark[0] = 3
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert one.read() == Running(3)
    one.close()


async def test_a_worker_has_its_own_page_and_no_other() -> None:
    async with peers() as (_, zygote):
        workers = [await zygote.start("quickjs", "micro/alice") for _ in range(3)]
        for worker in workers:
            await until(lambda worker=worker: _shared(worker.pid) == 1)  # type: ignore[misc]
            # It tells when it works, which is after its walls.
            async with asyncio.timeout(60):
                while await zygote.look(worker.pid) == Running():  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.005)
        assert [await zygote.look(worker.pid) for worker in workers] == [Running(0)] * 3
        assert await zygote.look(1) == Running()
        await zygote.kill(workers[0].pid)
        another = await zygote.start("quickjs", "micro/bob")
        await until(lambda: _shared(another.pid) == 1)


def _shared(pid: int) -> int:
    """How many pages a process shares with others that are no file's."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sum(" rw-s " in line and "/dev/zero" in line for line in lines)
