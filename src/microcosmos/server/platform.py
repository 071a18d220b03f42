"""The platform: every process of a server on one home, started together and drained in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from microcosmos import __version__
from microcosmos.base import context, lifespan, profiles
from microcosmos.base.home import STATE, Home, ServerInfo
from microcosmos.base.tls import Files
from microcosmos.functions import walls
from microcosmos.functions.egress.told import KEY, OWN
from microcosmos.gateway.front.file import VARIABLE, File
from microcosmos.proxy import tls as proxy_tls
from microcosmos.runtime.interface import ProcessSpec

from . import control, exposure
from .drain import Drain
from .edges import Edges, open_edges
from .engine import Engine, open_engine
from .gateways import NAME as GATEWAY
from .gateways import Gateways
from .lock import HomeLock
from .ports import Address, listen, parse, reserve
from .processes import Processes
from .promises import promised_walls, promises
from .recovery import recover
from .settings import Settings, completed, environment
from .state import kept
from .supervisor import Supervisor
from .tree import Child, Tree

log = logging.getLogger("microcosmos.server")

GATEWAY_SOCKET = "MICRO_GATEWAY_FD"
"""The listening socket that a gateway inherits."""


_TOLD = frozenset({"HOME", "LANG", "PATH", "TMPDIR", "XDG_CACHE_HOME"})
# Which authorities it trusts, beside how it writes; no proxy.
_TOLD_EGRESS = frozenset(
    {
        *("MICRO_LOG_FORMAT", "MICRO_LOG_LEVEL"),
        *("SSL_CERT_DIR", "SSL_CERT_FILE", "TZ"),
    }
)


_POSTGRES = 5432


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


@dataclass(frozen=True, slots=True)
class Commands:
    """The programs of the platform's own processes."""

    core: list[str] = field(default_factory=lambda: _module("microcosmos.server.core"))
    gateway: list[str] = field(default_factory=lambda: _module("microcosmos.gateway"))
    zygote: list[str] = field(default_factory=lambda: _module("microcosmos.functions.zygote"))
    egress: list[str] = field(default_factory=lambda: _module("microcosmos.functions.egress"))
    functions: list[str] = field(default_factory=lambda: _module("microcosmos.functions.host"))


@contextlib.asynccontextmanager
async def open_platform(
    home: Home,
    settings: Settings,
    commands: Commands,
    drain: Drain,
    look: asyncio.Event,
) -> AsyncIterator[ServerInfo]:
    """Run the platform while the block runs; gives its addresses once everything answers.

    Args:
        home: where it keeps its state.
        settings: what it is told.
        commands: the programs of its own processes.
        drain: how it is ended.
        look: set by who wants the certificate's files to be read now.

    Raises:
        errors.Error: it cannot run; nothing of it is left then.
    """
    profile = profiles.load(settings.profile or None)
    settings = completed(settings, profile)
    File(home, settings.api_config).check()
    _check_proxy_tls(settings)
    walls.allowed(settings.allow_missing_walls)
    with HomeLock(home), kept(home, profile), open_edges(settings, home) as edges:
        await recover(home)
        addresses = _addresses(settings)
        password = settings.admin_password or settings.admin_password_file
        exposure.check(home, addresses.values(), password_said=bool(password))
        with _open_doors(addresses) as doors:
            engine = open_engine(profile, settings, home, context.DEFAULT_NAMESPACE)
            await engine.check()
            told = {**doors.addresses(), "nats": engine.address}
            schemes = edges.schemes()
            if settings.proxy_tls_cert_file:
                schemes["proxy"] = "grpcs"
            record = _Record(home, told, schemes, promises(settings, engine))
            async with Processes() as processes:
                lifeline = processes.lifeline
                family = _Family(home, settings, commands, engine, doors, edges, lifeline)
                async with _start(family, processes, drain, record, look):
                    try:
                        yield record.info()
                    finally:
                        # New connections are refused from here on; open ones are drained.
                        doors.api.close()


def _proxy_tls(settings: Settings) -> Files | None:
    """The files of the proxy's certificate."""
    chosen = (settings.proxy_tls_cert_file, settings.proxy_tls_key_file)
    return proxy_tls.files(*chosen, settings.proxy_tls_client_ca_file)


def _check_proxy_tls(settings: Settings) -> None:
    """Refuse a certificate of the proxy that it could not show: the core would only end."""
    if files := _proxy_tls(settings):
        files.read()


@contextlib.asynccontextmanager
async def _start(
    family: _Family,
    processes: Processes,
    drain: Drain,
    record: _Record,
    look: asyncio.Event,
) -> AsyncIterator[None]:
    """Start all children at once; leaving ends them last to first, services before the engine."""

    def tree(children: list[Child]) -> Tree:
        grown = Tree(processes, children, drain, changed=record.changed)
        record.trees.append(grown)
        return grown

    renewing = Gateways(family.gateways)
    async with (
        tree(family.engine.children()) as engine,
        Supervisor(processes, drain) as supervisor,
        control.serve(supervisor, family.home.supervisor_lane, renewing.restart),
        tree([family.core()]) as core,
    ):
        if family.exposed:
            # The core decides by the store whether anybody may be let in at all.
            await core.ready()
        with _removed(family.home.egress_lane):
            # Workers end with the zygote, but not before they have told the host what is to be
            # counted, and until then they may fetch.
            async with (
                tree([family.zygote(), family.egress()]) as helpers,
                tree([family.functions()]) as functions,
                tree(family.gateways()) as gateways,
            ):
                for one in (engine, core, helpers, functions, gateways):
                    await one.ready()
                renewing.grown(gateways)
                with record:
                    async with family.edges.followed(renewing.restart, look):
                        yield


@contextlib.contextmanager
def _removed(socket: Path) -> Iterator[None]:
    """Remove what a child leaves behind that may not remove anything itself."""
    try:
        yield
    finally:
        socket.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Doors:
    """Where a server listens.

    The gateways inherit their socket. The proxy's port is only seen to be free: gRPC cannot
    adopt a socket, so the core binds it. The dashboard's is told to whom it may concern.
    """

    api: socket.socket
    api_address: Address
    proxy: Address
    web: Address

    def all(self) -> tuple[Address, ...]:
        """Where it listens, and is to."""
        return self.api_address, self.proxy, self.web

    def addresses(self) -> dict[str, str]:
        return {"api": str(self.api_address), "proxy": str(self.proxy), "web": str(self.web)}


@contextlib.contextmanager
def _open_doors(addresses: dict[str, Address]) -> Iterator[_Doors]:
    api, web = addresses["api"], addresses["web"]
    proxy = reserve(addresses["proxy"])
    if not web.port:
        web = reserve(web)
    with contextlib.closing(listen(api)) as listener:
        yield _Doors(listener, api.at(listener.getsockname()[1]), proxy, web)


def _addresses(settings: Settings) -> dict[str, Address]:
    """Where a server is to listen, by the names of its doors."""
    said = {name: getattr(settings, f"{name}_address") for name in ("api", "proxy", "web", "nats")}
    return {name: parse(text, f"--{name}_address") for name, text in said.items() if text}


class _Family:
    """Who the platform's children are, and what each is told."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        commands: Commands,
        engine: Engine,
        doors: _Doors,
        edges: Edges,
        lifeline: int,
    ) -> None:
        self.home = home
        self.engine = engine
        self.edges = edges
        self._settings = settings
        self._commands = commands
        self._doors = doors
        self._lifeline = lifeline
        # As long as this server: who is started again is told the same.
        self._key = secrets.token_hex(32)

    @property
    def exposed(self) -> bool:
        """Whether other machines can reach a door."""
        return bool(exposure.exposed(self._doors.all()))

    def core(self) -> Child:
        extra = exposure.environment(_addresses(self._settings).values())
        return self._child("core", "core", self._commands.core, {**extra, KEY: self._key})

    def gateways(self) -> list[Child]:
        listener = self._doors.api.fileno()
        names = [f"{GATEWAY}-{number}" for number in range(1, self._settings.gateways + 1)]
        argv = self._commands.gateway
        extra = {GATEWAY_SOCKET: str(listener), **self.edges.environment()}
        return [
            replace(self._child(name, GATEWAY, argv, extra, (listener,)), leave=lifespan.LEAVE)
            for name in names
        ]

    def functions(self) -> Child:
        """The host of functions."""
        return self._child("functions", "functions", self._commands.functions)

    def zygote(self) -> Child:
        """What makes the workers of functions; told next to nothing, as they run others' code."""
        return self._made("zygote", self._commands.zygote, self._little(), ())

    def egress(self) -> Child:
        """What does the sub-requests of functions; told where they may never lead."""
        store = urlsplit(self._settings.store_url)
        store_address = f"{store.hostname}:{store.port or _POSTGRES}" if store.hostname else ""
        own = (self.engine.address, self._doors.addresses()["proxy"], store_address)
        told = {
            **{name: value for name, value in os.environ.items() if name in _TOLD_EGRESS},
            **self._little(),
            KEY: self._key,
            OWN: ",".join(one for one in own if one),
        }
        return self._made("egress", self._commands.egress, told, ())

    def _little(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if name in _TOLD},
            "MICRO_HOME": str(self.home.path),
            STATE: str(self.home.server),
            walls.VARIABLE: self._settings.allow_missing_walls,
            lifespan.LIFELINE: str(self._lifeline),
        }

    def _child(
        self,
        name: str,
        user: str,
        argv: list[str],
        extra: dict[str, str] | None = None,
        descriptors: tuple[int, ...] = (),
    ) -> Child:
        env = {**self._environment(user), **(extra or {})}
        return self._made(name, argv, env, descriptors)

    def _made(
        self, name: str, argv: list[str], env: dict[str, str], descriptors: tuple[int, ...]
    ) -> Child:
        spec = ProcessSpec(
            name=name,
            argv=argv,
            env=env,
            cwd=str(self.home.path),
            log=str(self.home.logs / f"{name}.log"),
        )
        return Child(spec, (self._lifeline, *descriptors))

    def _environment(self, user: str) -> dict[str, str]:
        addresses = self._doors.addresses()
        return {
            **{name: value for name, value in os.environ.items() if name != lifespan.READY},
            "MICRO_HOME": str(self.home.path),
            STATE: str(self.home.server),
            **environment(self._settings, user),
            "MICRO_PROFILE": self._settings.profile,
            "MICRO_DURABILITY": self._settings.durability,
            walls.VARIABLE: self._settings.allow_missing_walls,
            VARIABLE: str(Path(chosen).absolute()) if (chosen := self._settings.api_config) else "",
            **{f"MICRO_{name.upper()}_ADDRESS": where for name, where in addresses.items()},
            **proxy_tls.environment(_proxy_tls(self._settings)),
            lifespan.LIFELINE: str(self._lifeline),
            **self.engine.environment(user),
        }


class _Record:
    """`server.json`: written when everything answers, and again whenever a child is replaced."""

    def __init__(
        self,
        home: Home,
        addresses: dict[str, str],
        schemes: dict[str, str],
        promises: dict[str, str],
    ) -> None:
        self.trees: list[Tree] = []
        self._home = home
        self._addresses = addresses
        self._schemes = schemes
        self._promises = promises
        self._started = time.time()
        self._open = False

    def __enter__(self) -> None:
        self._write()
        self._open = True

    def __exit__(self, *ending: object) -> None:
        self._open = False
        self._home.forget_server_info()

    def changed(self) -> None:
        if not self._open:
            return
        try:
            self._write()
        except OSError as exc:
            # A full disk is no reason to end what runs.
            log.warning("server.json could not be written: %s", exc)

    def info(self) -> ServerInfo:
        """What is true now."""
        pids = {"server": os.getpid()}
        for tree in self.trees:
            pids.update(tree.pids())
        # The zygote measures anew whenever it is started.
        promises = {**self._promises, **promised_walls(self._home)}
        return ServerInfo(
            __version__, self._started, pids, self._addresses, self._schemes, promises
        )

    def _write(self) -> None:
        self._home.write_server_info(self.info())
