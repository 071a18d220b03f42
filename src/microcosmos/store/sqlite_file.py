"""The database file: taken by one process, opened, recognised, and its failures explained."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from microcosmos.base import errors

_APPLICATION = 0x4D435354
_FORMAT = 2

# Format 1 had the records only, and one number in revision.
_RECORDS = """
CREATE TABLE records (
    database TEXT NOT NULL,
    tbl TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    metadata TEXT,
    expires REAL,
    version INTEGER NOT NULL,
    PRIMARY KEY (database, tbl, key)
) WITHOUT ROWID;
CREATE INDEX records_expires ON records (expires) WHERE expires IS NOT NULL;
CREATE TABLE revision (last INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""

# What watchers need: records in the order of their changes, the deletes of late, and for each
# table the version up to which its deletes are forgotten; floor is that of all tables together.
_CHANGES = """
CREATE INDEX records_version ON records (database, tbl, version);
CREATE TABLE deletes (
    version INTEGER NOT NULL,
    database TEXT NOT NULL,
    tbl TEXT NOT NULL,
    key BLOB NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (version, database, tbl, key)
) WITHOUT ROWID;
CREATE INDEX deletes_table ON deletes (database, tbl, version);
CREATE TABLE forgotten (
    database TEXT NOT NULL,
    tbl TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (database, tbl)
) WITHOUT ROWID;
ALTER TABLE revision ADD COLUMN floor INTEGER NOT NULL DEFAULT 0;
UPDATE revision SET floor = last;
"""

_MARK = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_FORMAT};
"""

# FULL syncs the log at each commit; fullfsync makes macOS reach the disk with it.
_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA journal_size_limit = 67108864;
"""


class DatabaseFile:
    """The file of a store, held by this process from `__init__` to `close`.

    Args:
        path: the file; it is made, closed to other users, if it is not there.

    Raises:
        errors.Conflict: it is open already; the detail names the process.
        errors.Unavailable: it cannot be opened, or the disk is full.
        errors.Error: it is damaged, or no store of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = self._take()
        try:
            self.writing, self.reading = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Fold the log into the file and let others open it."""
        self.reading.close()
        self.writing.close()
        os.close(self._lock)

    def view(self) -> sqlite3.Connection:
        """A connection that reads the file as it is now, until it is closed."""
        try:
            connection = _connect(self.path)
            connection.executescript("PRAGMA query_only = ON; BEGIN; SELECT last FROM revision;")
        except sqlite3.Error as exc:
            raise self.explain(exc) from None
        return connection

    def explain(self, exc: sqlite3.Error) -> errors.Error:
        """The error for people that a failure of SQLite means."""
        # The low byte is the kind: https://www.sqlite.org/rescode.html
        kind = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._refusal(f"is damaged ({exc})")
        return errors.Unavailable("store", f"{self.path}: {exc}")

    def _refusal(self, what: str) -> errors.Error:
        way_out = "move it away, with its -wal and -shm, and start again or restore a backup"
        return errors.Error("store", f"{self.path} {what}; {way_out}", code=500)

    def _take(self) -> int:
        # A file of its own: closing any other handle of the database would drop SQLite's locks.
        place = self.path.with_name(self.path.name + ".lock")
        try:
            lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise self._unopened(exc) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(lock, 20).decode("ascii", "replace").strip() or "another process"
            os.close(lock)
            raise errors.Conflict("store", f"{self.path} is open already, in {holder}") from None
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()}\n".encode())
        return lock

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        opened: list[sqlite3.Connection] = []
        try:
            self.path.touch(mode=0o600)
            opened.append(_connect(self.path))
            self._prepare(opened[0])
            opened.append(_connect(self.path))
            opened[1].execute("PRAGMA query_only = ON")
            return opened[0], opened[1]
        except (OSError, sqlite3.Error, errors.Error) as exc:
            for connection in opened:
                connection.close()
            raise self._unopened(exc) from None

    def _unopened(self, exc: Exception) -> errors.Error:
        if isinstance(exc, sqlite3.Error):
            return self.explain(exc)
        if isinstance(exc, OSError):
            return errors.Unavailable("store", f"cannot open {self.path}: {exc.strerror}")
        assert isinstance(exc, errors.Error)
        return exc

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Refuse what is not ours before anything in it is changed."""
        application, version, objects = (
            connection.execute(question).fetchone()[0]
            for question in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT count(*) FROM sqlite_master",
            )
        )
        if objects and application != _APPLICATION:
            raise self._refusal("is a database of some other program")
        if version > _FORMAT:
            raise self._refusal("was written by a newer version of this program")
        connection.executescript(_SETTINGS)
        if not objects:
            _build(connection, _RECORDS + _CHANGES + _MARK)
        elif version < _FORMAT:
            _build(connection, _CHANGES + _MARK)


def _build(connection: sqlite3.Connection, schema: str) -> None:
    """Bring the file to this format, wholly or not at all: one without its mark stays as it was."""
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are written out; the writer's connection moves to its thread.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
