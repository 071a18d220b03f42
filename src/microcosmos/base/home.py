"""MICRO_HOME: where a platform keeps its state, and how its processes find each other.

config.json, tokens        the user's, read by the command line
server/server.json         the running server: pids and addresses; gone after a clean stop
server/lock                held by the running supervisor
server/keys/               seeds and keys, 0600
server/nats/               the engine's configuration and streams
server/store.db            records
server/logs/               one file a process
server/sources/, builds/   what was deployed, and its environments
lanes/                     Unix sockets of the processes on this host
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from . import codec

# sun_path holds 108 bytes with its closing NUL, on macOS 104; a node's socket is <8 hex>.sock.
_LONGEST_SOCKET = 103
_SOCKET_NAME = len("/core.sock") + 8


WORKERS = ".w"
"""How the folders among the sockets end that are a worker's own."""

STATE = "MICRO_STATE"
"""Tells a process of the platform where the server keeps its state, if not in the home."""


class ServerInfo(msgspec.Struct, frozen=True):
    """What `server.json` says of the running server.

    Attributes:
        version: of the platform.
        started: when, in seconds since the epoch.
        pids: its processes, by name.
        addresses: its doors, each ``host:port``.
        schemes: what is spoken at a door, where that is not the plain thing.
        promises: what it holds to, by name, for people.
    """

    version: str
    started: float
    pids: dict[str, int]
    addresses: dict[str, str]
    schemes: dict[str, str] = {}
    promises: dict[str, str] = {}

    @property
    def api(self) -> str:
        """The URL of the HTTP gateway."""
        return f"{self.schemes.get('api', 'http')}://{self.addresses['api']}"


class Home:
    """The folder of one platform.

    Attributes:
        path: the folder.
        server: where the server keeps its state.

    Args:
        path: the folder; else `MICRO_HOME`, else ``~/.micro``.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        chosen = path or os.environ.get("MICRO_HOME") or Path.home() / ".micro"
        self.path = Path(chosen).expanduser().absolute()
        # A path that was given is of a platform that this process is no part of.
        state = None if path else os.environ.get(STATE)
        self.server = Path(state) if state else self.running

    @property
    def running(self) -> Path:
        """Where a running server is found, wherever its state is."""
        return self.path / "server"

    @property
    def logs(self) -> Path:
        """Where the processes write their logs."""
        return self.server / "logs"

    @property
    def lanes(self) -> Path:
        """Where the sockets are: here, or in a short temporary folder if this path is too long."""
        here = self.path / "lanes"
        if len(os.fsencode(here)) + _SOCKET_NAME <= _LONGEST_SOCKET:
            return here
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        # Not $TMPDIR: processes of other sessions must come to the same place.
        return Path("/tmp") / f"micro-{os.getuid()}-{digest}"

    @property
    def core_lane(self) -> Path:
        """The socket of the core process."""
        return self.lanes / "core.sock"

    @property
    def proxy_socket(self) -> Path:
        """Where the proxy answers processes of this user, without TLS."""
        return self.lanes / "proxy.sock"

    @property
    def supervisor_lane(self) -> Path:
        """The socket of the supervisor, for the core only."""
        return self.lanes / "supervisor.sock"

    @property
    def functions_lane(self) -> Path:
        """The socket of the host of functions."""
        return self.lanes / "functions.sock"

    @property
    def egress_lane(self) -> Path:
        """Where the host of functions has sub-requests done."""
        return self.lanes / "egress.sock"

    @property
    def zygote_socket(self) -> Path:
        """Where the host of functions asks for workers."""
        return self.lanes / "zygote.sock"

    def make(self) -> None:
        """Make the folders, closed to other users."""
        state = (self.server, self.logs, self.server / "keys")
        for folder in (self.path, self.running, self.lanes, *state):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.lanes.lstat().st_uid != os.getuid():
            raise PermissionError(f"{self.lanes} belongs to another user; remove it")
        self.lanes.chmod(0o700)

    def server_info(self) -> ServerInfo | None:
        """The running server, or None when there is none (or its file is damaged)."""
        try:
            data = (self.running / "server.json").read_bytes()
            info = msgspec.json.decode(data, type=ServerInfo)
        except (OSError, *codec.DECODE_ERRORS):
            return None
        return info if _alive(info.pids.get("server", 0)) else None

    def write_server_info(self, info: ServerInfo) -> None:
        """Tell where the server is, atomically."""
        write_atomically(self.running / "server.json", indented(info))

    def forget_server_info(self) -> None:
        """The server has stopped cleanly."""
        (self.running / "server.json").unlink(missing_ok=True)


def indented(value: Any) -> bytes:
    """JSON for a file that people read."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that readers and crashes see the old or the new one, whole."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to take note."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == b"Z"
