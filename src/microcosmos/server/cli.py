"""`micro server`, `micro restart`, `micro stop`, `micro reset` and `micro nats`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from microcosmos.auth.logins import LOCAL, Logins
from microcosmos.base import codec, errors
from microcosmos.base.home import Home, ServerInfo

from .lock import HomeLock

START_LIMIT = 60.0
"""Seconds that a detached server may take until it is ready."""

STOP_LIMIT = 60.0
"""Seconds that a server may take to drain."""

RESTART_LIMIT = 300.0
"""Seconds that `micro restart` waits for all gateways."""

GATEWAY = "gateway"

_POLL = 0.02

# Flags that are not called as their settings are.
_FLAGS = {"config_file": "config"}


class Session(Protocol):
    """What these commands ask of the command line."""

    @property
    def home(self) -> Home: ...

    @property
    def profile(self) -> str: ...


@click.command()
@click.option("--api_address", metavar="host:port", help="The HTTP gateway [MICRO_API_ADDRESS].")
@click.option("--api_tls_cert_file", metavar="FILE", help="Its certificate [MICRO_API_TLS_…].")
@click.option("--api_tls_key_file", metavar="FILE", help="The key of that.")
@click.option("--api_tls_client_ca_file", metavar="FILE", help="Who signs clients' certificates.")
@click.option(
    "--api_http2",
    type=click.Choice(["auto", "tls", "always", "never"]),
    help="When it speaks HTTP/2 [MICRO_API_HTTP2].",
)
@click.option(
    "--api_access_log",
    type=click.Choice(["off", "json", "common"]),
    help="A line for each request [MICRO_API_ACCESS_LOG].",
)
@click.option(
    "--api_access_log_file",
    metavar="FILE",
    help="Where, if not with the other logs [MICRO_API_ACCESS_LOG_FILE].",
)
@click.option(
    "--api_allowed_origins",
    metavar="URL,…",
    help="Whose pages may open WebSockets [MICRO_API_ALLOWED_ORIGINS].",
)
@click.option("--proxy_address", metavar="host:port", help="The gRPC proxy [MICRO_PROXY_ADDRESS].")
@click.option("--proxy_tls_cert_file", metavar="FILE", help="Its certificate [MICRO_PROXY_TLS_…].")
@click.option("--proxy_tls_key_file", metavar="FILE", help="The key of that.")
@click.option("--proxy_tls_client_ca_file", metavar="FILE", help="Who signs clients' certificates.")
@click.option("--web_address", metavar="host:port", help="The dashboard [MICRO_WEB_ADDRESS].")
@click.option("--nats_address", metavar="host:port", help="The engine [MICRO_NATS_ADDRESS].")
@click.option("--api_config", metavar="FILE", help="The gateway's policies [MICRO_API_CONFIG].")
@click.option("--gateways", type=int, help="How many gateway processes [MICRO_GATEWAYS].")
@click.option(
    "--config", "config_file", metavar="FILE", help="In place of micro.toml [MICRO_CONFIG_FILE]."
)
@click.option("--profile", help="Which backends [MICRO_PROFILE].")
@click.option("--nats_url", metavar="URL", help="Another engine [MICRO_NATS_URL].")
@click.option("--nats_creds", metavar="FILE", help="The credentials for it [MICRO_NATS_CREDS].")
@click.option("--store_url", metavar="URL", help="Where records are kept [MICRO_STORE_URL].")
@click.option("--runtime_url", metavar="URL", help="What services run as [MICRO_RUNTIME_URL].")
@click.option(
    "--config_secret_key",
    metavar="KEY",
    help="Encrypts secrets; the variable is not seen by others [MICRO_CONFIG_SECRET_KEY].",
)
@click.option(
    "--admin_password_file",
    metavar="FILE",
    help="Of the account admin, at the first start [MICRO_ADMIN_PASSWORD_FILE].",
)
@click.option(
    "--durability",
    type=click.Choice(["power", "process"]),
    help="What an acknowledged event survives [MICRO_DURABILITY].",
)
@click.option(
    "--allow_missing_walls",
    metavar="NAME,…",
    help="Run functions without these walls, if need be [MICRO_ALLOW_MISSING_WALLS].",
)
@click.option("--detach", is_flag=True, help="Return once it is ready; it stays behind.")
@click.pass_obj
def server(session: Session, /, detach: bool, profile: str | None, **flags: Any) -> str | None:
    """Run the server.

    Port 0 takes a free one. Ctrl-C drains: what is being handled is finished, then it ends.
    """
    # Imported here: `micro stop` and a detached start do without it.
    from .settings import load

    chosen = {**flags, "home": str(session.home.path), "profile": profile or session.profile}
    try:
        settings = load(**chosen)
        if detach:
            return _detached(session.home, chosen)
        _tell_of_another(settings.config_file)
        from .main import run

        asyncio.run(run(settings))
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None
    return None


def _tell_of_another(used: str) -> None:
    """A micro.toml where one is typing is easily taken for the one that counts."""
    here = Path.cwd() / "micro.toml"
    if here.exists() and not (used and here.samefile(used)):
        click.echo(f"micro: {here} is not read; use --config {here.name}", err=True)


def _detached(home: Home, flags: dict[str, Any]) -> str:
    """Start a server that outlives this command; return what it says once it is ready."""
    from .settings import SECRETS, URLS, variable_of

    log = _log(home)
    start = log.stat().st_size
    # --home is a global flag: it stands before the command.
    words = [sys.executable, "-m", "microcosmos.cli", f"--home={flags['home']}", "server"]
    given = {name: value for name, value in flags.items() if value and name != "home"}
    # What the user has typed is seen for a moment, but a server's words stay in process lists.
    hidden = {name: given.pop(name) for name in SECRETS | URLS if name in given}
    words += [f"--{_FLAGS.get(name, name)}={value}" for name, value in given.items()]
    with log.open("ab") as file:
        child = subprocess.Popen(
            words,
            env={**os.environ, **{variable_of(name): str(hidden[name]) for name in hidden}},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    # Ready is what others see of it; it says where it is, all at once, right after that.
    greeting = f", PID {child.pid}, home "

    def greeted() -> bool:
        return _ready(home, child) and greeting in _since(log, start)

    _wait_until(lambda: greeted() or child.poll() is not None, START_LIMIT)
    said = _since(log, start)
    if _ready(home, child):
        return said
    if child.poll() is None:
        child.terminate()
        raise errors.DeadlineExceeded("server", f"not ready in {START_LIMIT:g} s; see {log}")
    # Its own line says why, as if it had been started here.
    click.echo(_last(said) or f"micro: the server ended at once; see {log}", err=True)
    raise click.exceptions.Exit(child.returncode)


def _log(home: Home) -> Path:
    try:
        home.make()
        log = home.logs / "server.log"
        log.touch(mode=0o600)
    except OSError as exc:
        detail = f"{home.path} cannot be the MICRO_HOME: {exc.strerror or exc}"
        raise click.ClickException(detail) from None
    return log


def _ready(home: Home, child: subprocess.Popen[bytes]) -> bool:
    info = home.server_info()
    return info is not None and info.pids["server"] == child.pid and child.poll() is None


def _since(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace").rstrip()


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""


@click.command()
@click.pass_obj
def stop(session: Session) -> None:
    """Stop the server.

    It finishes what it is handling first. Services come back when it is started again.
    """
    info = _running(session.home)
    if info is None:
        raise errors.Unavailable("server", "no server is running for this MICRO_HOME")
    pid = info.pids["server"]
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise errors.Forbidden("server", f"PID {pid} belongs to another user") from None
    if not _wait_until(lambda: _gone(session.home), STOP_LIMIT):
        detail = f"the server (PID {pid}) has not ended within {STOP_LIMIT:g} s"
        raise errors.DeadlineExceeded("server", detail)


@click.command()
@click.argument("name", default=GATEWAY)
@click.pass_obj
def restart(session: Session, name: str) -> Restarted:
    """Replace the gateways, one by one.

    NAME is `gateway` for all, or one such as `gateway-1`. Each new one is ready before the old
    one finishes its requests and leaves, so that no client notices.
    """
    # Imported here: `micro stop` does without it.
    from microcosmos.rpc import blocking
    from microcosmos.rpc.interface import Call, Unreachable

    from .control import RESTART, SERVICE, Restart

    if _running(session.home) is None:
        raise errors.Unavailable("server", "no server is running for this MICRO_HOME")
    call = Call(SERVICE, RESTART, codec.encode(Restart(name)), {}, RESTART_LIMIT)
    try:
        answer = blocking.call(session.home.supervisor_lane, call)
    except Unreachable:
        raise errors.Unavailable("server", "the server is starting or stopping") from None
    pids: dict[str, int] = codec.decode(answer, dict[str, int], id=SERVICE)
    return Restarted(Replaced(name, pid) for name, pid in pids.items())


@click.command()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(session: Session, yes: bool) -> None:
    """Remove the server's state.

    Everything deployed, stored and logged in this MICRO_HOME is lost; config.json stays, and so
    do your logins to other servers.
    """
    home = session.home
    found = [path for path in (home.server, home.lanes) if path.exists()]
    # While the lock is held no server runs, and none can start.
    with HomeLock(home) if home.server.is_dir() else contextlib.nullcontext():
        if found and not yes:
            names = ", ".join(map(str, found))
            click.confirm(f"Remove {names}?", abort=True, err=True)
        for path in found:
            _remove(path)
        _forget(Logins(home.path / "tokens"), LOCAL)


def _forget(logins: Logins, environment: str) -> None:
    try:
        logins.forget(environment)
    except errors.InternalServerError:
        # It is damaged, and so of no use for other servers either.
        _remove(logins.path)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as exc:
        raise click.ClickException(f"{path} cannot be removed: {exc.strerror}") from None


class Replaced(msgspec.Struct):
    """A process of the platform that has come in another's place."""

    name: str
    pid: int


class Restarted(list[Replaced]):
    """What has been restarted."""

    def readable(self) -> str:
        """A process a line."""
        return "\n".join(f"{one.name}  PID {one.pid}" for one in self)


class Connection(msgspec.Struct):
    """How a program reaches the engine."""

    url: str
    credentials: str
    command: str

    def readable(self) -> str:
        """A fact a line; the last one is to be pasted."""
        return f"url          {self.url}\ncredentials  {self.credentials}\n{self.command}"


@click.command()
@click.pass_obj
def nats(session: Session) -> Connection:
    """Show how the official nats tool connects."""
    from .settings import load

    info = session.home.server_info()
    address = info.addresses.get("nats") if info else None
    if info is None:
        detail = "no server is running for this MICRO_HOME; start one with `micro server`"
        raise errors.Unavailable("server", detail)
    if not address:
        raise errors.Unavailable("server", "this server has no engine: its profile is in memory")
    url = address if "://" in address else ",".join(f"nats://{one}" for one in address.split(","))
    own = session.home.server / "keys" / "admin.creds"
    creds = load(home=str(session.home.path)).nats_creds or str(own)
    words = ["nats", "context", "add", "micro", "--server", url, "--creds", creds, "--select"]
    return Connection(url, creds, shlex.join(words))


def _running(home: Home) -> ServerInfo | None:
    """The server of a home; a file that one left behind, whose PID is another's now, is none."""
    info = home.server_info()
    return None if info is None or _gone(home) else info


def _gone(home: Home) -> bool:
    if not (home.server / "lock").exists():
        return True
    try:
        with HomeLock(home):
            return True
    except errors.Conflict:
        return False


def _wait_until(condition: Callable[[], bool], limit: float) -> bool:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
