"""A service as a program, on a platform that is only half there."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from microcosmos.testing.engine import nats_server

PROGRAM = """
from microcosmos import Service

hermit = Service("hermit")


@hermit.endpoint
async def call() -> str:
    return "nobody hears this"


hermit.run()
"""


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
async def test_one_that_is_stopped_while_it_waits_for_the_core_ends_at_once(
    tmp_path: Path, asked: signal.Signals
) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MICRO_", "NATS_"))}
    async with nats_server(tmp_path) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM),
            env={**kept, "MICRO_HOME": str(tmp_path), "MICRO_LOG_LEVEL": "debug", "NATS_URL": url},
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(60):
                await process.stderr.readuntil(b"config cannot be followed")
                process.send_signal(asked)
                rest = await process.stderr.read()
                assert await process.wait() == 0, rest
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert b"Traceback" not in rest
        assert b"answers" not in rest
