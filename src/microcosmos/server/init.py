"""`micro init`: a profile of one's own, as a package to be installed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Protocol

import click
import msgspec

from microcosmos.base import profiles

LONGEST = 50
"""The most characters of a profile's name."""

_NAME = re.compile(r"[a-z](-?[a-z0-9])*")

_MODULE = '''\
"""Profiles for `micro server`: which backend each capability stands on."""

from dataclasses import replace

from microcosmos.base.profiles import LOCAL
{profiles}'''

_PROFILE = '''
{constant} = replace(LOCAL, name="{name}", store="memory://")
"""As on a laptop, but for the store: its records are gone when the server ends."""
'''

_PROJECT = """\
[project]
name = "{project}"
version = "0.1.0"
description = "Profiles for micro server"
requires-python = ">=3.11"

[project.entry-points."{group}"]
{entries}

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""

_README = """\
# {project}

{about}. Install it beside `microcosmos`, and start a server with it:

```
{commands}
```

A profile is a table of URLs in `{module}.py`; `micro config show --origin` tells what each says.
"""


class Session(Protocol):
    """What this command asks of the command line."""

    @property
    def profile(self) -> str: ...


class Written(msgspec.Struct):
    """A package of profiles: where it is, of which files it is made, and what to type next."""

    profiles: list[str]
    folder: str
    files: list[str]
    next: list[str]

    def readable(self) -> str:
        """What was written, and what to type next."""
        return "\n".join([*self.files, "", *self.next])


@click.command()
@click.option("--profile", metavar="NAME,…", help="What the profiles are called.")
@click.option("--output", metavar="PATH", help="The new folder; ./micro-profile-NAME unless said.")
@click.pass_obj
def init(session: Session, profile: str | None, output: str | None) -> Written:
    """Write a profile of your own.

    It is `local` with the store in memory, in a package that is installed beside this one; change
    its table of URLs to what you need.
    """
    named = profile or session.profile
    if not named:
        raise click.UsageError("say what it is called: micro init --profile=staging")
    names = _checked(named.split(","))
    project = f"micro-profile-{'-'.join(names)}"
    folder = Path(output or project)
    if folder.suffix in (".go", ".py"):
        raise click.UsageError(f"--output is a folder, such as {folder.with_suffix('')}")
    typed = str(folder) if folder.is_absolute() else f"./{folder}"
    files = _files(names, project, typed)
    _write(folder, files)
    return Written(names, typed, [f"{typed}/{file}" for file in files], _commands(names, typed))


def _checked(names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    for name in names:
        if not _NAME.fullmatch(name) or len(name) > LONGEST:
            raise click.UsageError(
                f"{name[:80]!r} is no name of a profile: use up to {LONGEST} small letters, digits "
                "and '-' between them, starting with a letter"
            )
        if name in profiles.PROFILES:
            raise click.UsageError(f"the profile {name} is there already; choose another name")
    if len(set(names)) < len(names):
        raise click.UsageError("each profile is named once")
    return names


def _files(names: list[str], project: str, folder: str) -> dict[str, str]:
    module = project.replace("-", "_")
    constants = {name: name.replace("-", "_").upper() for name in names}
    entries = [f'{name} = "{module}:{constant}"' for name, constant in constants.items()]
    tables = [_PROFILE.format(name=name, constant=constants[name]) for name in names]
    about = f"The profile{'s' if names[1:] else ''} {', '.join(f'`{name}`' for name in names)}"
    return {
        "pyproject.toml": _PROJECT.format(
            project=project, group=profiles.GROUP, entries="\n".join(entries), module=module
        ),
        f"{module}.py": _MODULE.format(profiles="".join(tables)),
        "README.md": _README.format(
            project=project, module=module, about=about, commands="\n".join(_commands(names, "."))
        ),
    }


def _commands(names: list[str], folder: str) -> list[str]:
    # By this interpreter: the package has to be where `micro` is.
    install = f"{_python()} -m uv pip install {folder}"
    return [install, *(f"MICRO_PROFILE={name} micro server" for name in names)]


def _python() -> str:
    return sys.executable or "python"


def _write(folder: Path, files: dict[str, str]) -> None:
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise click.ClickException(f"{folder} is there already, and is not empty")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError as exc:
        raise click.ClickException(f"{exc.filename} is there already") from None
    except OSError as exc:
        raise click.ClickException(f"{folder} cannot be written: {exc.strerror}") from None
