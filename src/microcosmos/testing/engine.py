"""A nats-server of one test: the real program, on a free port, without accounts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from microcosmos.server.engine import program


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def nats_server(folder: Path, *arguments: str, port: int = 0) -> AsyncIterator[str]:
    """Run a nats-server with JetStream until the block ends, and give its URL.

    Args:
        folder: where its streams and its log are.
        arguments: more for its command line.
        port: where it listens; a free one unless said.
    """
    port = port or free_port()
    where = ["-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder / "streams")]
    log = folder / f"nats-{port}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            program(), *where, *arguments, stdout=output, stderr=output
        )
    try:
        await _answers(process, port, log)
        yield f"nats://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _answers(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    async with asyncio.timeout(10):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"nats-server ended: {log.read_text()[-500:]}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.005)
            else:
                writer.close()
                await writer.wait_closed()
                return
