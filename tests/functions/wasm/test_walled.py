"""A wasm worker as the zygote makes it, within the real walls."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from microcosmos.functions.zygote.client import open_zygote

from ..engines.workers import COMPILED, Process, Worker
from ..zygotes import home


class Started(Process):
    """One that somebody else has started."""

    def __init__(self, path: str) -> None:
        self.path = path

    def start(self) -> None:
        pass


async def test_it_works_within_the_walls() -> None:
    with home() as place:
        (place.server / "wasm").symlink_to(COMPILED)
        async with open_zygote(
            place, sys.executable, "-m", "microcosmos.functions.zygote"
        ) as zygote:
            started = await zygote.start("wasm", "micro/alice")
            async with Worker(Started(started.socket), "wasm") as worker:
                function = await worker.load(
                    "let n = 0; function handler({ path }) { if (path) for (;;); return ++n }"
                )
                for _ in range(3):
                    assert (await function.get()).json == 1
                assert (await function.get("loop")).id == "functions.limit.cpu"
                assert (await function.get()).json == 1
                status = Path(f"/proc/{started.pid}/status").read_text()
                assert re.search(r"^Seccomp:\s2$", status, re.MULTILINE)
                assert re.search(r"^Threads:\s2$", status, re.MULTILINE)
