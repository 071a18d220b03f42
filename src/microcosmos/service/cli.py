"""`micro new service`: the files of a new service, ready for `micro run`."""

from __future__ import annotations

import keyword
from pathlib import Path

import click
import msgspec

from microcosmos.base import names

from . import node

_MAIN = '''\
"""{title}: say what it is for."""

import msgspec

from microcosmos import Service


class Greeting(msgspec.Struct):
    msg: str


{variable} = Service("{name}")


@{variable}.endpoint
async def call(name: str = "World") -> Greeting:
    """Say hello."""
    return Greeting(msg=f"Hello {{name}}")


if __name__ == "__main__":
    {variable}.run()
'''

_TEST = '''\
"""Run with `pytest`."""

import asyncio

from main import Greeting, call


def test_it_says_hello() -> None:
    assert asyncio.run(call("John")) == Greeting(msg="Hello John")
'''

_PROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]
"""

_README = """\
# {name}

```
micro run ./{folder}
micro {name} --name=John
micro kill {name}
```
"""

# Names that the new main.py uses for something else.
_TAKEN = frozenset({"call", "msgspec"})

_IGNORE = "__pycache__/\n.venv/\n"


class Written(msgspec.Struct):
    """A new service: where it is, and of which files it is made."""

    name: str
    folder: str
    files: list[str]

    def readable(self) -> str:
        """What was written, and what to type next."""
        return "\n".join([*self.files, "", f"micro run {self.folder}", f"micro {self.name}"])


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[service] NAME")
@click.option("--language", type=click.Choice(["python", "node"]), default="python")
def new(words: tuple[str, ...], language: str) -> Written:
    """Write a new service.

    NAME is the new folder; the service is called after it.
    """
    given = words[1:] if words[0] == "service" else words
    if len(given) != 1:
        raise click.UsageError("give one name: micro new service NAME")
    folder = Path(given[0])
    name = names.check_service(folder.name)
    files = _files(name, folder) if language == "python" else node.files(name)
    files["README.md"] = _README.format(name=name, folder=folder.name)
    return _write(folder, name, files)


def _files(name: str, folder: Path) -> dict[str, str]:
    title = names.camel(names.handler_of(name))
    variable = "".join(mark if mark.isalnum() else "_" for mark in name.lower())
    if not variable.isidentifier() or keyword.iskeyword(variable) or variable in _TAKEN:
        variable = f"service_{variable}"
    filled = {"name": name, "title": title, "variable": variable}
    return {
        "main.py": _MAIN.format(**filled),
        "pyproject.toml": _PROJECT.format(**filled),
        f"tests/test_{variable}.py": _TEST.format(**filled),
        ".gitignore": _IGNORE,
    }


def _write(folder: Path, name: str, files: dict[str, str]) -> Written:
    try:
        folder.mkdir(parents=True)
        (folder / "tests").mkdir()
        for file, text in files.items():
            (folder / file).write_text(text, "utf-8")
    except FileExistsError:
        raise click.ClickException(f"{folder} is there already") from None
    except OSError as exc:
        raise click.ClickException(f"{folder} cannot be written: {exc.strerror}") from None
    typed = str(folder) if folder.is_absolute() else f"./{folder}"
    return Written(name, typed, [f"{typed}/{file}" for file in files])
