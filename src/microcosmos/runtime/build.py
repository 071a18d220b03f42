"""Environments: each service's own packages, made by `uv` and `npm`, cached by what was asked."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import msgspec

from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home

from . import entry as entries
from . import environment, npm, package
from .children import Children, ending, process_name
from .deployment import Deployment, Options
from .failure import Failure
from .interface import ProcessSpec
from .logs import last_lines

NO_ENVIRONMENT = "n/a"
"""What the BUILD column shows for a service that runs on the platform's own Python."""

_READY = ".ready"
_CROSS = "\N{MULTIPLICATION SIGN}"
_MARKS = ("cause:", "error:")
# Requirements that mean files of the source itself, so that its content belongs to the key.
_LOCAL = re.compile(
    r"(?m)(^|[\s=@])(\.{0,2}/|\.\s*$|file:)|^\s*(-e|--editable|-f|--find-links)\b|\.whl\s*$"
)
_NESTED = re.compile(r"(?m)^\s*(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)")


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica is started with.

    Attributes:
        key: of the environment, or `NO_ENVIRONMENT`.
        argv: the program and its arguments.
        env: variables that lead the program to its packages.
    """

    key: str
    argv: list[str]
    env: dict[str, str]


class Builds:
    """Makes environments below ``server/builds`` and keeps them.

    Args:
        home: the platform's home.
        children: starts `uv`.
        time_limit: how long one environment may take, in seconds.
    """

    def __init__(self, home: Home, children: Children, time_limit: float) -> None:
        self._home = home
        self._folder = home.server / "builds"
        self._children = children
        self._time_limit = time_limit
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def make(self, deployment: Deployment, folder: Path) -> Build:
        """Find the entry of a source and bring its environment up to date.

        Raises:
            Failure: there is no entry, or the packages cannot be installed.
        """
        options = deployment.options
        try:
            entry = await asyncio.to_thread(entries.find, folder, deployment.name, options.command)
            wanted = await asyncio.to_thread(_wanted, folder, entry)
        except errors.BadRequest as exc:
            raise Failure(exc.detail) from None
        if not (wanted.python or wanted.node):
            env = {**environment.base(), **environment.python_path()}
            return _build(NO_ENVIRONMENT, Path(sys.executable), env, entry, folder, options)
        if deployment.namespace != DEFAULT_NAMESPACE:
            # Nobody starts what another namespace could have changed.
            key = f"{wanted.key}@{deployment.namespace}"
            wanted = msgspec.structs.replace(wanted, key=key)
        place = self._folder / wanted.key
        async with self._locks[wanted.key]:
            if not (place / _READY).exists():
                await self._install(deployment, folder, wanted, place)
        env, python = environment.base(), Path(sys.executable)
        if wanted.python:
            # Written each time: the platform may have moved since.
            _link_platform(place)
            python = place / "bin" / "python"
            env["PATH"] = f"{place / 'bin'}{os.pathsep}{env['PATH']}"
            env["VIRTUAL_ENV"] = str(place)
        else:
            env |= environment.python_path()
        if wanted.node:
            npm.link(folder, place)
        return _build(wanted.key, python, env, entry, folder, options)

    def keep_only(self, keys: set[str]) -> None:
        """Remove the environments that no deployment uses."""
        for old in self._folder.iterdir() if self._folder.is_dir() else ():
            if old.name not in keys and not self._locks[old.name].locked():
                shutil.rmtree(old, ignore_errors=True)

    async def _install(
        self, deployment: Deployment, folder: Path, wanted: _Wanted, place: Path
    ) -> None:
        log = self._home.logs / f"{deployment.label}.build.log"
        log.write_bytes(b"")
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        steps = _by_uv(folder / wanted.python, place) if wanted.python else []
        if wanted.node:
            await asyncio.to_thread(npm.prepare, folder, place, wanted.node)
            steps.append((npm.command(wanted.node), npm.folder(place)))
        for argv, cwd in steps:
            spec = ProcessSpec(
                name=process_name(
                    deployment.label, deployment.generation, "build", secrets.token_hex(3)
                ),
                argv=argv,
                env=environment.tools(),
                cwd=str(cwd),
                log=str(log),
            )
            await self._run(spec, Path(log))
        (place / _READY).touch()

    async def _run(self, spec: ProcessSpec, log: Path) -> None:
        try:
            ended = await self._children.run(spec, self._time_limit)
        except errors.DeadlineExceeded as exc:
            raise Failure(f"the build {exc.detail}", last_lines(log)) from None
        if ended.code != 0:
            output = last_lines(log)
            # npm says a lot after it has said what is wrong.
            cause = npm.cause(last_lines(log, 1000)) or _cause(output) or ending(ended)
            raise Failure(f"the build failed: {cause}", output)


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a source's environment is made of.

    Attributes:
        key: of the environment.
        python: the file that names its packages of Python; empty without any.
        node: its packages of Node; None without any.
    """

    key: str
    python: str = ""
    node: package.Packages | None = None


def _wanted(folder: Path, entry: entries.Entry) -> _Wanted:
    of_python = requirements(folder)
    of_node = package.packages(folder) if entry.node else None
    file, key = of_python or ("", "")
    if of_node:
        key = hashlib.sha256("\0".join([key, *npm.key(of_node)]).encode()).hexdigest()[:16]
    return _Wanted(key=key, python=file, node=of_node)


def _by_uv(file: Path, place: Path) -> list[tuple[list[str], Path]]:
    """The commands that make a virtual environment, and where they run."""
    from uv import find_uv_bin

    try:
        uv = find_uv_bin()
    except FileNotFoundError:
        raise Failure("the program uv is not installed beside the platform") from None
    make = ["venv", "--quiet", "--no-project", "--python", sys.executable, str(place)]
    fill = ["pip", "install", "--no-progress", "--compile-bytecode"]
    fill += ["--python", str(place / "bin" / "python"), "-r", file.name]
    return [([uv, *words], file.parent) for words in (make, fill)]


def requirements(folder: Path) -> tuple[str, str] | None:
    """The file that names a source's packages and the key of their environment; None without any.

    `requirements.txt` goes first: where both are, it is the one that pins versions.

    Raises:
        errors.BadRequest: `pyproject.toml` is no TOML.
    """
    file = folder / "requirements.txt"
    if file.is_file():
        texts = _texts(file, folder, set())
        if any(line.strip() and not line.strip().startswith("#") for line in texts[0].splitlines()):
            return file.name, _key(folder, texts)
    project = entries.read_project(folder)
    about = project.get("project", {})
    if isinstance(about, dict) and (about.get("dependencies") or "dependencies" in _dynamic(about)):
        text = (folder / "pyproject.toml").read_text("utf-8", "replace")
        return "pyproject.toml", _key(folder, [text])
    return None


def _dynamic(about: dict[str, object]) -> list[object]:
    dynamic = about.get("dynamic")
    return dynamic if isinstance(dynamic, list) else []


def _texts(file: Path, folder: Path, seen: set[Path]) -> list[str]:
    """A requirements file and those that it names."""
    seen.add(file)
    text = file.read_text("utf-8", "replace")
    texts = [text]
    for match in _NESTED.finditer(text):
        nested = (file.parent / match[1]).resolve()
        if nested.is_file() and nested.is_relative_to(folder.resolve()) and nested not in seen:
            texts += _texts(nested, folder, seen)
    return texts


def _key(folder: Path, texts: list[str]) -> str:
    parts = [sys.version, sys.base_prefix, *texts]
    if any(_LOCAL.search(text) for text in texts):
        # The folder's name is the hash of its content.
        parts.append(folder.name)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _link_platform(place: Path) -> None:
    """Let the environment find `microcosmos` and what it stands on, after its own packages."""
    for packages in place.glob("lib/python*/site-packages"):
        (packages / "microcosmos.pth").write_text("\n".join(environment.platform_paths()) + "\n")


def _build(
    key: str,
    python: Path,
    env: dict[str, str],
    entry: entries.Entry,
    folder: Path,
    options: Options,
) -> Build:
    if (folder / "src").is_dir():
        inherited = [env["PYTHONPATH"]] if "PYTHONPATH" in env else []
        env["PYTHONPATH"] = os.pathsep.join([str(folder / "src"), *inherited])
    if entry.node:
        env["PATH"] = f"{folder / npm.PROGRAMS}{os.pathsep}{env['PATH']}"
    if entry.command:
        words = [_program(entry, folder, env["PATH"]), *entry.command[1:]]
    else:
        words = [str(python), *entry.python]
    return Build(key=key, argv=[*words, *options.args], env=env)


def _program(entry: entries.Entry, folder: Path, path: str) -> str:
    """The file that a command's first word means."""
    word = entry.command[0]
    here = folder / word
    if found := str(here) if "/" in word and here.is_file() else shutil.which(word, path=path):
        return found
    if word == "node":
        raise Failure(npm.missing("node"))
    if here.is_file():
        raise Failure(f"command: {word} stands in the folder: type ./{word}")
    raise Failure(f"command: there is no program {word} in the folder or on the PATH")


def _cause(output: list[str]) -> str:
    """The line of uv's output that says what is wrong: the last cause, or the error itself."""
    marked = [
        line.strip(f" {_CROSS}") for line in output if line.lstrip().startswith((_CROSS, *_MARKS))
    ]
    line = (marked or output or [""])[-1]
    return next((line.removeprefix(f"{mark} ") for mark in _MARKS if line.startswith(mark)), line)
