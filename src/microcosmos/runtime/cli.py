"""`micro run`, `micro update`, `micro kill`, `micro status` and `micro logs`."""

from __future__ import annotations

import datetime
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from microcosmos.base import errors
from microcosmos.base.home import Home

from . import client, entry
from . import source as sources
from .client import RuntimeClient
from .deployment import CreateRequest, Deployment, Options, UpdateRequest
from .logs import MAX_LINES, LogLine, LogsRequest
from .source import Source

_FOLLOW = 20.0
_DEFAULT_LINES = 15


class Settings(Protocol):
    """The user's settings."""

    def get(self, key: str) -> Any: ...


class Session(client.Session, Protocol):
    """What these commands ask of the command line."""

    @property
    def home(self) -> Home: ...

    @property
    def settings(self) -> Settings: ...

    def example(self, service: str) -> dict[str, str]: ...

    def pairs(self, flag: str, texts: tuple[str, ...]) -> dict[str, str]: ...

    def duration(self, text: str, where: str) -> float: ...


class Deployed(msgspec.Struct):
    """A service that runs, and how to call it."""

    name: str
    version: str
    status: str
    url: str = ""
    curl: str = ""
    command: str = ""
    announces: list[str] = []

    def readable(self) -> str:
        """Its URL, a curl line and a line for this command."""
        state = "is running" if self.status == "running" else f"is {self.status}"
        first = f"{self.name} {state}" + (f" at {self.url}" if self.url else "")
        if self.announces:
            others = ", ".join(self.announces)
            first += f"; it announces itself as {others}: MICRO_SERVICE_NAME says {self.name}"
        return "\n".join(line for line in (first, self.curl, self.command) if line)


def _settled(runtime: RuntimeClient, deployment: Deployment) -> Deployment:
    """A deployment once it runs.

    Raises:
        errors.Error: it does not: the last lines of what failed have been printed.
    """
    deployment = runtime.settle(deployment)
    if deployment.error or deployment.status != "running":
        for line in deployment.output:
            click.echo(line, err=True)
        detail = deployment.error or f"{deployment.name} is {deployment.status}"
        raise errors.InternalServerError(deployment.name, detail)
    return deployment


@click.command()
@click.argument("source")
@click.option("--name", default="", help="The service's name; else the folder's.")
@click.option("--command", default="", help="What to start in place of its entry.")
@click.option("--args", multiple=True, help="Arguments for the program.")
@click.option("--env_vars", multiple=True, metavar="NAME=value", help="Its environment.")
@click.option("--instances", "-i", type=int, default=1, help="How many replicas.")
@click.option("--metadata", multiple=True, metavar="key=value", help="Notes for the status.")
@click.option("--watch", is_flag=True, help="Update it whenever the folder changes.")
@click.option("--force", is_flag=True, help="Replace what runs under the name.")
@click.option("--detach", is_flag=True, help="Return before it answers.")
@click.pass_obj
def run(
    session: Session,
    source: str,
    name: str,
    command: str,
    args: tuple[str, ...],
    env_vars: tuple[str, ...],
    instances: int,
    metadata: tuple[str, ...],
    watch: bool,
    force: bool,
    detach: bool,
) -> Deployed | Iterator[Deployed]:
    """Run a service.

    SOURCE is a folder (./helloworld), a Git repository (github.com/owner/repo[/path][@ref]), or
    a bare name, looked up in git.baseurl or else in the examples.
    """
    found = _source(session, source)
    if watch and found.kind != "folder":
        raise click.UsageError("--watch needs a folder as its source")
    options = Options(
        command=command,
        args=[word for text in args for word in _words(text)],
        env_vars=session.pairs("--env_vars", env_vars),
        instances=instances,
        metadata=session.pairs("--metadata", metadata),
    )
    runtime = RuntimeClient(session)
    upload = _upload(runtime, found, name, command)
    request = CreateRequest(source=found, name=name, upload=upload, options=options, force=force)
    created = runtime.change("Create", request)
    if watch:
        return _watch(session, runtime, created)
    return _shown(session, created if detach else _settled(runtime, created))


@click.command()
@click.argument("source", metavar="NAME[@REF]|FOLDER")
@click.option("--name", default="", help="The service's name; else the folder's.")
@click.option("--instances", "-i", type=int, default=0, help="How many replicas from now on.")
@click.option("--detach", is_flag=True, help="Return before it answers.")
@click.pass_obj
def update(session: Session, source: str, name: str, instances: int, detach: bool) -> Deployed:
    """Update a running service.

    NAME fetches its source again, NAME@REF another branch, tag or commit of it; a folder is
    uploaded again. The new one is started before the old one ends.
    """
    runtime = RuntimeClient(session)
    request = _update_request(session, runtime, source, name)
    request = msgspec.structs.replace(request, instances=instances)
    changed = runtime.change("Update", request)
    return _shown(session, changed if detach else _settled(runtime, changed))


def _update_request(
    session: Session, runtime: RuntimeClient, text: str, name: str
) -> UpdateRequest:
    if not _is_folder(text):
        deployed, _, ref = text.partition("@")
        return UpdateRequest(name=name or deployed, ref=ref)
    source = _source(session, text)
    name = sources.name_of(source, name)
    return UpdateRequest(name=name, source=source, upload=runtime.upload(Path(source.location)))


@click.command()
@click.argument("name")
@click.pass_obj
def kill(session: Session, name: str) -> None:
    """Remove a running service.

    NAME is what `micro status` shows; a folder means the service called after it.
    """
    RuntimeClient(session).ask(
        "Runtime.Delete", {"name": _deployed(name)}, Deployment, client.CHANGE_TIMEOUT
    )


class Row(msgspec.Struct):
    """A line of `micro status`."""

    name: str
    version: str
    source: str
    status: str
    build: str
    updated: datetime.datetime
    metadata: dict[str, str]


class Promises(dict[str, str]):
    """What the server holds to."""

    def readable(self) -> str:
        """A promise a line."""
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in self.items())


@click.command()
@click.argument("name", default="")
@click.option("--server", is_flag=True, help="What this server promises: durability, isolation.")
@click.pass_obj
def status(session: Session, name: str, server: bool) -> list[Row] | Promises:
    """Show what is running."""
    if server:
        info = session.home.server_info()
        if info is None:
            raise errors.Unavailable("server", "no server is running for this MICRO_HOME")
        return Promises(info.promises)
    request = {"name": _deployed(name)} if name else {}
    return [
        _row(one) for one in RuntimeClient(session).ask("Runtime.Read", request, list[Deployment])
    ]


def _row(deployment: Deployment) -> Row:
    return Row(
        name=deployment.name,
        version=deployment.version,
        source=str(deployment.source),
        status=deployment.status,
        build=deployment.build,
        updated=datetime.datetime.fromtimestamp(deployment.updated, datetime.UTC),
        metadata=deployment.metadata(),
    )


class Line(LogLine, frozen=True):
    """A line of a log."""

    def readable(self) -> str:
        """As it was written."""
        return self.text


class Lines(msgspec.Struct):
    """An answer of Runtime.Logs."""

    lines: list[Line]
    cursor: str


@click.command()
@click.argument("name", default="")
@click.option("--follow", "-f", is_flag=True, help="Go on as lines are written.")
@click.option("--lines", "-n", type=int, default=_DEFAULT_LINES, help="How many of the last.")
@click.option("--since", default="", metavar="duration", help="Only lines younger than this.")
@click.option("--build", is_flag=True, help="What fetching and building wrote.")
@click.option("--trace", default="", help="Only lines of this trace, of all services.")
@click.pass_obj
def logs(
    session: Session, name: str, follow: bool, lines: int, since: str, build: bool, trace: str
) -> Iterator[Any]:
    """Show the log of a service."""
    runtime = RuntimeClient(session)
    if not name and not trace:
        raise click.UsageError("name a service: micro logs NAME (or --trace ID)")
    after = time.time() - session.duration(since, "--since") if since else 0.0
    if trace:
        return _of_trace(runtime, _deployed(name) if name else "", trace)
    request = LogsRequest(name=_deployed(name), lines=lines, since=after, build=build)
    return _follow(runtime, request) if follow else iter(_read(runtime, request).lines)


def _read(runtime: RuntimeClient, request: LogsRequest) -> Lines:
    answer: Lines = runtime.ask("Runtime.Logs", request, Lines, request.wait + 10)
    return answer


def _follow(runtime: RuntimeClient, request: LogsRequest) -> Iterator[Line]:
    while True:
        answer = _read(runtime, request)
        yield from answer.lines
        request = msgspec.structs.replace(request, cursor=answer.cursor, wait=_FOLLOW)


def _of_trace(runtime: RuntimeClient, name: str, trace: str) -> Iterator[Line]:
    request = {"name": name} if name else {}
    for deployment in runtime.ask("Runtime.Read", request, list[Deployment]):
        found = _read(runtime, LogsRequest(name=deployment.name, lines=MAX_LINES)).lines
        yield from (line for line in found if trace in line.text)


def _source(session: Session, text: str) -> Source:
    base = session.settings.get("git.baseurl")
    return sources.parse(text, base_url=str(base or ""))


def _upload(runtime: RuntimeClient, source: Source, name: str, command: str) -> str:
    """Send the folder of a source, if it is one that can be started."""
    if source.kind != "folder":
        return ""
    folder = Path(source.location)
    entry.find(folder, sources.name_of(source, name), command)
    return runtime.upload(folder)


def _watch(session: Session, runtime: RuntimeClient, deployment: Deployment) -> Iterator[Deployed]:
    """What runs, each time the folder has changed; what does not run is told and waited over."""
    from . import watch

    def tell(change: Callable[[], Deployment]) -> Iterator[Deployed]:
        try:
            yield _shown(session, _settled(runtime, change()))
        except errors.Error as error:
            click.echo(f"micro: {error.detail}", err=True)

    def again() -> Deployment:
        upload = runtime.upload(folder)
        request = UpdateRequest(name=deployment.name, source=deployment.source, upload=upload)
        return runtime.change("Update", request)

    folder = Path(deployment.source.location)
    yield from tell(lambda: deployment)
    session.progress(f"watching {folder}; Ctrl-C ends that, and {deployment.name} goes on")
    for changed in watch.changes(folder):
        session.progress(f"changed: {', '.join(changed[:5])}")
        yield from tell(again)


def _shown(session: Session, deployment: Deployment) -> Deployed:
    name, status = deployment.name, deployment.status
    called = [*deployment.announces, name][0]
    shown = session.example(called) if status == "running" else {}
    return Deployed(name, deployment.version, status, announces=list(deployment.announces), **shown)


def _deployed(text: str) -> str:
    """The name that a user means: as `micro status` prints it, with a ref, or as a folder."""
    if _is_folder(text):
        return Path(text).expanduser().resolve().name
    return text.partition("@")[0]


def _is_folder(text: str) -> bool:
    return text[:1] in (".", "/", "~") or ("/" in text and Path(text).is_dir())


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise click.UsageError(f"--args: {str(exc).lower()}") from None
