"""`micro gen`: clients of a service, and types for editors."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from microcosmos.base import errors, names
from microcosmos.registry.interface import Description, Descriptions, Found, Service

from . import python, reader, stubs, typescript

LANGUAGES = ("python", "typescript")
_LATEST = "latest"
_found = msgspec.json.Decoder(Found, strict=False)
_descriptions = msgspec.json.Decoder(Descriptions, strict=False)


class Session(Protocol):
    """What these commands ask of the command line."""

    namespace: str

    def core(self, service: str, endpoint: str, request: Any = None) -> bytes: ...


class Written(msgspec.Struct):
    """What was written."""

    files: list[str]

    def readable(self) -> str:
        """The files, one a line."""
        return "\n".join(self.files)


@click.group()
def gen() -> None:
    """Make clients of services."""


@gen.command(short_help="Write a client of a service")
@click.argument("service")
@click.option(
    "--language",
    "-l",
    type=click.Choice(LANGUAGES),
    default="python",
    help="What the client is written in; python unless said.",
)
@click.option("--http", is_flag=True, help="Python that calls over HTTP, without microcosmos.")
@click.option(
    "--output", "-o", default="-", metavar="FILE", help="Where it is written; `-` prints it."
)
@click.option(
    "--service_version", default="", metavar="VERSION", help="The version; the latest unless said."
)
@click.option("--check", is_flag=True, help="Only look: exit 1 unless FILE is up to date.")
@click.pass_obj
def client(
    session: Session,
    service: str,
    language: str,
    http: bool,
    output: str,
    service_version: str,
    check: bool,
) -> Written | None:
    """Write a client of a service.

    A Python client calls by rpc, for programs on the platform, or over HTTP with `--http`; a
    TypeScript client calls over HTTP.
    """
    names.check_service(service)
    if check and output == "-":
        raise click.UsageError("--check compares with a file: give --output FILE")
    if http and language != "python":
        raise click.UsageError(f"--http is for python; {language} calls over HTTP anyway")
    description = _one(_describe(session, service), service, service_version)
    again = _command("client", service, f"--language={language}", *(["--http"] if http else []))
    if language == "python":
        text = python.write(reader.read(description, python.RESERVED), again=again, http=http)
    else:
        text = typescript.write(reader.read(description, typescript.RESERVED), again=again)
    if output == "-":
        click.echo(text, nl=False)
        return None
    if check:
        _check({Path(output): text}, again)
        return None
    return _write({Path(output): text})


@gen.command("stubs", short_help="Write types for Client(...) in editors")
@click.argument("services", nargs=-1, metavar="[SERVICE…]")
@click.option(
    "--output", "-o", default="typings", metavar="DIR", help="The folder; `typings` unless said."
)
@click.option("--check", is_flag=True, help="Only look: exit 1 unless DIR is up to date.")
@click.pass_obj
def stubs_(session: Session, services: tuple[str, ...], output: str, check: bool) -> Written | None:
    """Write types for `Client("users")`, for editors and type checkers.

    Of all services, unless some are named. pyright finds them in `typings` by itself; for mypy
    set `mypy_path = "typings"`.
    """
    for service in services:
        names.check_service(service)
    wanted = sorted(set(services))
    found = [one for service in wanted or [""] for one in _describe(session, service)]
    known = dict.fromkeys(one.name for one in found)
    models = [
        reader.read(_one([one for one in found if one.name == name], name, ""), stubs.RESERVED)
        for name in sorted(known)
    ]
    again = _command("stubs", *wanted)
    texts = {Path(output, path): text for path, text in stubs.files(models, again=again).items()}
    gone = _gone(Path(output), texts)
    if check:
        _check(texts, again, gone)
        return None
    for path in gone:
        path.unlink(missing_ok=True)
    return _write(texts)


def _command(*words: str) -> str:
    return shlex.join(["micro", "gen", *words])


def _describe(session: Session, service: str) -> list[Description]:
    """What the registry knows of a service, or of all, with value trees where it has no more."""
    answer = _ask(session, "Describe", service)
    described = _descriptions.decode(answer).services
    if all(endpoint.schema for one in described for endpoint in one.endpoints):
        return described
    trees: list[Service] = []
    for name in sorted({one.name for one in described}):
        trees += _found.decode(_ask(session, "GetService", name)).services
    return [
        reader.described(one, [tree for tree in trees if tree.name == one.name])
        for one in described
    ]


def _ask(session: Session, method: str, service: str) -> bytes:
    request = {"service": service, "options": {"domain": session.namespace}}
    try:
        return session.core("registry", f"Registry.{method}", request)
    except errors.NotFound:
        detail = f"service {service} not found; `micro services` lists them"
        raise errors.NotFound(service, detail) from None


def _one(versions: list[Description], service: str, wanted: str) -> Description:
    """The version that is asked for; else ``latest``, else the last by name."""
    by_version = {one.version: one for one in versions}
    if wanted:
        if wanted not in by_version:
            has = ", ".join(sorted(by_version)) or "none"
            detail = f"service {service} has no version {wanted}; it has: {has}"
            raise errors.NotFound(service, detail)
        return by_version[wanted]
    return by_version.get(_LATEST) or by_version[max(by_version)]


def _gone(folder: Path, texts: Mapping[Path, str]) -> list[Path]:
    """Stubs that an earlier run made of services that are not there any more."""
    try:
        there = sorted((folder / "microcosmos" / "clients").glob("*.pyi"))
        return [path for path in there if path not in texts and _made(path)]
    except OSError as exc:
        raise _unreadable(folder, exc) from None


def _made(path: Path) -> bool:
    return path.read_text("utf-8", "replace").startswith("# Made by `micro gen stubs")


def _check(texts: Mapping[Path, str], again: str, gone: list[Path] | None = None) -> None:
    """Say which file is not what would be written now, if any."""
    stale = list(gone or [])
    for path, text in texts.items():
        try:
            if path.read_bytes() != text.encode():
                stale.append(path)
        except FileNotFoundError:
            stale.append(path)
        except OSError as exc:
            raise _unreadable(path, exc) from None
    if stale:
        more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
        shown = shlex.quote(str(stale[0]))
        click.echo(f"micro: {shown}{more} not up to date; write it again: {again}", err=True)
        raise click.exceptions.Exit(1)


def _write(texts: Mapping[Path, str]) -> Written:
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise click.ClickException(f"{path} cannot be written: {reason}") from None
    return Written([str(path) for path in texts])


def _unreadable(path: Path, exc: OSError) -> click.ClickException:
    return click.ClickException(f"{path} cannot be read: {exc.strerror or exc}")
