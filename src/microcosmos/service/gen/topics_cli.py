"""`micro events schema types`: the types of what is published, for programs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from microcosmos.base import errors, topics

LANGUAGES = ("python", "typescript")


class Session(Protocol):
    """What this command asks of the command line."""

    def core(self, service: str, endpoint: str, request: Any = None) -> bytes: ...


class Written(msgspec.Struct):
    """Where it was written."""

    file: str

    def readable(self) -> str:
        """The file."""
        return self.file


@click.command(short_help="Write types of what is published")
@click.argument("names", nargs=-1, metavar="[TOPIC…]")
@click.option(
    "--language",
    "-l",
    type=click.Choice(LANGUAGES),
    default="python",
    help="What the types are written in; python unless said.",
)
@click.option(
    "--output", "-o", default="-", metavar="FILE", help="Where they are written; `-` prints them."
)
@click.option("--check", is_flag=True, help="Only look: exit 1 unless FILE is up to date.")
@click.pass_obj
def types(
    session: Session, names: tuple[str, ...], language: str, output: str, check: bool
) -> Written | None:
    """Write the types of what is published on topics, by the newest schema of each.

    Of all topics that have a schema, unless some are named; a name may be a pattern. Python
    gets a msgspec struct for each type, TypeScript an interface.
    """
    if check and output == "-":
        raise click.UsageError("--check compares with a file: give --output FILE")
    for name in names:
        topics.check_pattern(name)
    schemas = _wanted(_schemas(session), names)
    again = shlex.join(["micro", "events", "schema", "types", *names, f"--language={language}"])
    text = _text(schemas, language, again)
    if output == "-":
        click.echo(text, nl=False)
        return None
    if check:
        _check(Path(output), text, again)
        return None
    try:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        Path(output).write_bytes(text.encode())
    except OSError as exc:
        raise _failed(output, "written", exc) from None
    return Written(output)


def _text(schemas: dict[str, Any], language: str, again: str) -> str:
    # Imported here: other commands of `micro events` need none of it.
    from . import python_topics, typescript
    from .topics import read

    if language == "python":
        return python_topics.write(read(schemas, python_topics.RESERVED), again=again)
    return typescript.write_topics(read(schemas, typescript.RESERVED), again=again)


def _schemas(session: Session) -> dict[str, Any]:
    """The newest schemas of all topics that have one."""
    from microcosmos.events.schema.interface import topic_of
    from microcosmos.events.schema.wire import NAME, ListResponse

    answer = session.core(NAME, "Schemas.List", {})
    found = msgspec.json.decode(answer, type=ListResponse).subjects
    return {topic: one.latest.value for one in found if (topic := topic_of(one.name))}


def _wanted(schemas: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The schemas of some topics; of all if none is named."""
    found: dict[str, Any] = {}
    for name in names or (">",):
        matching = {topic: one for topic, one in schemas.items() if topics.matches(name, topic)}
        if not matching and names:
            detail = f"topic {name} has no schema; `micro events schema list` shows those that have"
            raise errors.NotFound("schema", detail)
        found |= matching
    return found


def _check(path: Path, text: str, again: str) -> None:
    """Exit 1 if a file is not what would be written now."""
    try:
        stale = path.read_bytes() != text.encode()
    except FileNotFoundError:
        stale = True
    except OSError as exc:
        raise _failed(str(path), "read", exc) from None
    if stale:
        shown = shlex.quote(str(path))
        click.echo(f"micro: {shown} not up to date; write it again: {again} -o {shown}", err=True)
        raise click.exceptions.Exit(1)


def _failed(path: str, what: str, exc: OSError) -> click.ClickException:
    return click.ClickException(f"{path} cannot be {what}: {exc.strerror or exc}")
