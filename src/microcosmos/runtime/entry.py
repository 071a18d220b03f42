"""What of a folder is the program.

`--command`, else what `pyproject.toml` says, `main.py`, or what `package.json` says.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from microcosmos.base import errors

from . import package

_ID = "runtime.entry"
_FUNCTION = re.compile(r"([A-Za-z_][\w.]*)\s*:\s*([A-Za-z_][\w.]*)")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """How a program starts.

    Attributes:
        python: arguments for the service's Python; empty when it is a command.
        command: the words of a command, the program first; empty when it is Python.
        node: whether it wants the packages that `package.json` names.
    """

    python: list[str] = []
    command: list[str] = []
    node: bool = False


def find(folder: Path, name: str, command: str = "") -> Entry:
    """The entry of a folder.

    Args:
        folder: the source.
        name: the service's name, which chooses among several scripts.
        command: what the user typed for `--command`.

    Raises:
        errors.BadRequest: there is none; the detail says what was found and what to type.
    """
    if command:
        return _command(folder, command)
    project = read_project(folder)
    ours = _table(project, "tool", "micro")
    if "command" in ours and "entry" not in ours:
        return _command(folder, ours["command"])
    if "entry" in ours:
        return _chosen(folder, ours["entry"])
    if (folder / "main.py").is_file():
        return Entry(python=["main.py"])
    scripts = _table(project, "project", "scripts")
    script = _script(scripts, name, str(_table(project, "project").get("name", "")))
    if script:
        return Entry(python=_call(script))
    if not scripts and package.there(folder):
        return Entry(command=package.start(folder), node=True)
    raise errors.BadRequest(_ID, _refusal(folder, scripts))


def read_project(folder: Path) -> dict[str, Any]:
    """What `pyproject.toml` says; nothing when there is none.

    Raises:
        errors.BadRequest: it is no TOML.
    """
    try:
        with (folder / "pyproject.toml").open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise errors.BadRequest(_ID, f"pyproject.toml: {exc}") from None


def _table(project: dict[str, Any], *path: str) -> dict[str, Any]:
    value: Any = project
    for part in path:
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, dict) else {}


def _command(folder: Path, command: object) -> Entry:
    if not isinstance(command, str):
        raise errors.BadRequest(_ID, f"pyproject.toml: [tool.micro] command {command!r} is no text")
    return Entry(command=_words(command), node=package.there(folder))


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise errors.BadRequest(_ID, f"command: {exc}") from None
    if not words:
        raise errors.BadRequest(_ID, "command: it is empty")
    return words


def _chosen(folder: Path, chosen: object) -> Entry:
    if isinstance(chosen, str) and _FUNCTION.fullmatch(chosen):
        return Entry(python=_call(chosen))
    inside = isinstance(chosen, str) and ".." not in Path(chosen).parts
    if isinstance(chosen, str) and inside and (folder / chosen).is_file() and chosen[0] not in "/-":
        return Entry(python=[chosen])
    raise errors.BadRequest(
        _ID, f"pyproject.toml: [tool.micro] entry {chosen!r} is neither a file nor module:function"
    )


def _script(scripts: dict[str, Any], name: str, project: str) -> str:
    candidates = [scripts.get(name), scripts.get(project)]
    if len(scripts) == 1:
        candidates += scripts.values()
    return next((it for it in candidates if isinstance(it, str) and _FUNCTION.fullmatch(it)), "")


def _call(function: str) -> list[str]:
    match = _FUNCTION.fullmatch(function)
    assert match is not None
    module, path = match[1], match[2]
    code = (
        f"import sys, importlib, operator; sys.argv[0] = {module!r}; "
        f"sys.exit(operator.attrgetter({path!r})(importlib.import_module({module!r}))())"
    )
    return ["-c", code]


def _refusal(folder: Path, scripts: dict[str, Any]) -> str:
    inside = sorted(folder.iterdir())
    found = [f"{path.name}/" if path.is_dir() else path.name for path in inside]
    shown = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
    return f"no entry: found {shown or 'nothing'}; {_way_out(inside, scripts)}"


def _way_out(inside: list[Path], scripts: dict[str, Any]) -> str:
    if scripts:
        return f"say which script with --name: {', '.join(sorted(scripts)[:8])}"
    services = [path.name for path in inside if (path / "main.py").is_file() or package.there(path)]
    if services:
        return f"run one of its services, such as micro run ./{services[0]}"
    programs = [path.name for path in inside if path.suffix == ".py"]
    if programs:
        return f"rename the program to main.py, or add --command 'python {programs[0]}'"
    scripts_of_node = [path.name for path in inside if path.suffix in package.SUFFIXES]
    if scripts_of_node:
        return f"add a package.json, or --command 'node {scripts_of_node[0]}'"
    return "add a main.py or a package.json, or say what to start with --command"
