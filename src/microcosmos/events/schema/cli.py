"""`micro events schema`: what the events of topics look like, and what may change about them."""

from __future__ import annotations

import datetime
import difflib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from microcosmos.base import codec, errors, topics

from . import wire
from .interface import MODES, SchemaVersion, subject_of, topic_of


class Session(Protocol):
    """What these commands ask of the command line."""

    output: str

    def core(
        self, service: str, endpoint: str, request: Any = None, *, timeout: float = 10.0
    ) -> bytes: ...


@click.group(short_help="Look after the schemas of topics")
def schema() -> None:
    """Look after the schemas of topics.

    TOPIC is a topic such as orders.placed, or a whole subject: orders.placed-value, or
    users/Users.Read-request for what an endpoint takes.
    """


class Row(msgspec.Struct):
    """A line of `micro events schema list`."""

    topic: str
    version: int
    id: int
    mode: str
    auto: bool
    author: str | None
    updated: datetime.datetime


@schema.command("list", short_help="List the topics that have a schema")
@click.argument("prefix", default="", metavar="[PREFIX]")
@click.option("--deleted", is_flag=True, help="Those too that were deleted, not for good.")
@click.pass_obj
def list_(session: Session, prefix: str, deleted: bool) -> list[Row]:
    """List the topics and endpoints that have a schema, with their newest version."""
    request = wire.ListRequest(prefix, deleted)
    found: wire.ListResponse = _ask(session, "List", request, wire.ListResponse)
    return [
        Row(
            topic_of(one.name) or one.name,
            one.latest.version,
            one.latest.id,
            one.mode,
            one.auto,
            one.latest.author or None,
            _when(one.latest.time),
        )
        for one in found.subjects
    ]


@schema.command(short_help="Print a schema")
@click.argument("topic", default="", metavar="[TOPIC]")
@click.option("--version", "-v", type=click.IntRange(1), help="Else the newest.")
@click.option("--id", type=click.IntRange(1), help="A schema by its id, without a topic.")
@click.pass_obj
def get(session: Session, topic: str, version: int | None, id: int | None) -> bytes:
    """Print the newest schema of a topic, another version of it, or a schema by its id."""
    if bool(topic) == bool(id):
        raise click.UsageError("name either a topic or --id")
    request = wire.ReadRequest(_subject(topic) if topic else "", version or 0, id or 0)
    found: wire.ReadResponse = _ask(session, "Read", request, wire.ReadResponse)
    return found.version.schema.encode()


class Version(msgspec.Struct):
    """A line of `micro events schema versions`."""

    version: int
    id: int
    author: str | None
    updated: datetime.datetime
    deleted: bool


@schema.command(short_help="List the versions of a topic's schema")
@click.argument("topic")
@click.option("--deleted", is_flag=True, help="Those too that were deleted, not for good.")
@click.pass_obj
def versions(session: Session, topic: str, deleted: bool) -> list[Version]:
    """List the versions of a topic's schema, the oldest first."""
    return [
        Version(one.version, one.id, one.author or None, _when(one.time), one.deleted)
        for one in _versions(session, topic, deleted=deleted)
    ]


class Registered(SchemaVersion, frozen=True):
    """A version that is there now."""

    def readable(self) -> str:
        """Its place and its id."""
        return f"{topic_of(self.subject) or self.subject} version {self.version}, id {self.id}"


_file = click.argument("file", default="", metavar="[FILE]")
_type = click.option(
    "--type", "-t", "type_", default="", metavar="module:Type", help="A type of Python instead."
)


@schema.command(short_help="Add a version to a topic's schema")
@click.argument("topic")
@_file
@_type
@click.pass_obj
def register(session: Session, topic: str, file: str, type_: str) -> Registered:
    """Add a version to a topic's schema, if it breaks nothing.

    The schema is a FILE of JSON Schema (- is the standard input), or that of a type of Python:
    --type orders.types:Order, or --type main.py:Order.
    """
    request = wire.RegisterRequest(_subject(topic), _schema(file, type_))
    found: Registered = _ask(session, "Register", request, Registered)
    return found


class Broken(msgspec.Struct):
    """A line of `micro events schema check`."""

    breaks: str
    path: str
    detail: str


@schema.command(short_help="Say what a new schema would break")
@click.argument("topic")
@_file
@_type
@click.option("--version", "-v", type=click.IntRange(1), help="Compare with this one only.")
@click.pass_obj
def check(session: Session, topic: str, file: str, type_: str, version: int | None) -> Any:
    """Say which versions and consumers a new schema of a topic would break; nothing is changed.

    What it is held to is the topic's mode. It ends with an error when something would break, which
    is what a pipeline wants: micro events schema check orders.placed --type orders.types:Order
    """
    request = wire.CheckRequest(_subject(topic), _schema(file, type_), version or 0)
    found: wire.CheckResponse = _ask(session, "Check", request, wire.CheckResponse)
    if not found.breaches:
        return _Fine(topic, found.mode, found.consumers)
    rows = [
        Broken(breach.side, problem.path, problem.detail)
        for breach in found.breaches
        for problem in breach.problems
    ]
    return _rows_then_fail(session, topic, found, rows)


class _Fine(msgspec.Struct):
    """Says that nothing would break."""

    topic: str
    mode: str
    consumers: int
    breaches: list[Broken] = []

    def readable(self) -> str:
        """One line."""
        if self.mode == "NONE":
            return f"{self.topic}: nothing is held to anything, its mode is NONE."
        read = f"{self.consumers} consumer{'' if self.consumers == 1 else 's'}"
        return f"{self.topic}: nothing breaks ({self.mode}, {read})."


def _rows_then_fail(
    session: Session, topic: str, found: wire.CheckResponse, rows: list[Broken]
) -> Any:
    if session.output == "json":
        click.echo(codec.indent(codec.encode({"mode": found.mode, "breaches": rows})))
    else:
        for row in rows:
            click.echo(f"{row.breaks}: {row.path}: {row.detail}")
    detail = f"{topic} ({found.mode}): it would break {len(found.breaches)}"
    if any(breach.consumer for breach in found.breaches):
        detail += f"; one that is gone: `micro events schema consumers {topic} --forget SERVICE`"
    raise errors.Conflict("schema.incompatible", detail)


class Mode(msgspec.Struct):
    """What holds for a topic."""

    mode: str
    auto: bool
    own: dict[str, Any]

    def readable(self) -> str:
        """Two words, and where they are from."""
        auto = "types register themselves" if self.auto else "types do not register themselves"
        return f"{self.mode}, {auto}{'' if self.own else ' (not set here)'}"


@schema.command(short_help="Show or set what new versions are held to")
@click.argument("topic", default="", metavar="[TOPIC]")
@click.argument("mode", default="", metavar="[MODE]")
@click.option("--auto/--no-auto", default=None, help="Whether types register themselves.")
@click.option("--unset", is_flag=True, help="Let what stands above hold again.")
@click.pass_obj
def mode(session: Session, topic: str, mode: str, auto: bool | None, unset: bool) -> Mode:
    """Show or set the mode of a topic, of a service's endpoints (users/), or of all topics.

    MODE is one of NONE, BACKWARD, FORWARD, FULL, or one of these with _TRANSITIVE. A topic without
    a mode of its own has that of all topics, which is BACKWARD unless it is set; endpoints have
    NONE.
    """
    if topic.upper() in MODES and not mode:
        topic, mode = "", topic
    if mode and mode.upper() not in MODES:
        raise click.UsageError(f"{mode!r} is no mode; one of {', '.join(MODES)}")
    subject = topic if not topic or topic.endswith("/") else _subject(topic)
    if mode or auto is not None or unset:
        request: Any = wire.ConfigureRequest(subject, mode.upper() or None, auto, unset)
        found: wire.SettingsResponse = _ask(session, "Configure", request, wire.SettingsResponse)
    else:
        found = _ask(session, "Settings", wire.SettingsRequest(subject), wire.SettingsResponse)
    own: dict[str, Any] = msgspec.to_builtins(found.own)
    return Mode(found.effective.mode or "NONE", found.effective.auto is not False, own)


@schema.command(short_help="Delete a topic's schema, or one version")
@click.argument("topic")
@click.option("--version", "-v", type=click.IntRange(1), help="This one only.")
@click.option("--permanent", is_flag=True, help="For good; it has to be deleted before.")
@click.pass_obj
def delete(session: Session, topic: str, version: int | None, permanent: bool) -> str:
    """Delete the schema of a topic, or one version of it.

    Its schemas can still be found by their ids: events that were written by them stay readable.
    """
    request = wire.DeleteRequest(_subject(topic), version or 0, permanent)
    found: wire.DeleteResponse = _ask(session, "Delete", request, wire.DeleteResponse)
    gone = ", ".join(map(str, found.versions))
    return f"{topic}: deleted {gone}{' for good' if permanent else ''}."


@schema.command(short_help="Compare two versions of a topic's schema")
@click.argument("topic")
@click.argument("old", type=click.IntRange(1), required=False)
@click.argument("new", type=click.IntRange(1), required=False)
@click.pass_obj
def diff(session: Session, topic: str, old: int | None, new: int | None) -> str:
    """Show what differs between two versions, and which reads the other.

    Without numbers they are the last two, with one that and the newest.
    """
    found = _versions(session, topic, deleted=old is not None)
    after = _picked(topic, found, new) if new else found[-1]
    earlier = [one for one in found if one.version < after.version]
    if old is None and not earlier:
        raise click.UsageError(f"{topic} has one version only")
    before = _picked(topic, found, old) if old else earlier[-1]
    return "\n".join([*_lines(before, after), *_reading(before, after), *_reading(after, before)])


class Reader(msgspec.Struct):
    """A line of `micro events schema consumers`."""

    topic: str
    service: str
    group: str
    updated: datetime.datetime
    schema: Any


@schema.command(short_help="List who said that it consumes a topic")
@click.argument("topic", default="", metavar="[TOPIC]")
@click.option("--forget", default="", metavar="SERVICE", help="It consumes the topic no more.")
@click.pass_obj
def consumers(session: Session, topic: str, forget: str) -> Any:
    """List who said at its start that it consumes a topic, or any, and what it reads.

    What these cannot read is not registered. A service that is gone is forgotten by --forget.
    """
    request: Any = wire.ConsumersRequest(topic)
    if forget:
        request = wire.ForgetRequest(forget, topic)
    method = "Forget" if forget else "Consumers"
    found: wire.ConsumersResponse = _ask(session, method, request, wire.ConsumersResponse)
    if forget:
        gone = ", ".join(one.topic for one in found.consumers) or "nothing"
        return f"{forget} is taken to consume no more: {gone}."
    return [
        Reader(
            one.topic,
            one.service,
            one.group,
            _when(one.time),
            codec.decode(one.schema) if one.schema else None,
        )
        if session.output == "json"
        else Reader(one.topic, one.service, one.group, _when(one.time), _title(one.schema))
        for one in found.consumers
    ]


def _ask(session: Session, method: str, request: Any, kind: Any) -> Any:
    answer = session.core(wire.NAME, f"Schemas.{method}", msgspec.to_builtins(request))
    return msgspec.json.decode(answer, type=kind)


def _subject(topic: str) -> str:
    """The subject of a topic; one stays as it is."""
    if topic.endswith(("-value", "-request", "-response", "-key")):
        return topic
    try:
        return subject_of(topics.check_topic(topic))
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None


def _versions(session: Session, topic: str, *, deleted: bool) -> list[SchemaVersion]:
    request = wire.VersionsRequest(_subject(topic), deleted)
    found: wire.VersionsResponse = _ask(session, "Versions", request, wire.VersionsResponse)
    return found.versions


def _picked(topic: str, found: list[SchemaVersion], number: int) -> SchemaVersion:
    for one in found:
        if one.version == number:
            return one
    raise errors.NotFound("schema.version", f"{topic} has no version {number}")


def _lines(before: SchemaVersion, after: SchemaVersion) -> list[str]:
    old, new = (
        codec.indent(msgspec.json.encode(one.value, order="deterministic")).splitlines()
        for one in (before, after)
    )
    names = f"version {before.version}", f"version {after.version}"
    return list(difflib.unified_diff(old, new, *names, lineterm=""))


def _reading(reader: SchemaVersion, writer: SchemaVersion) -> list[str]:
    from .compatibility import compare

    problems = compare(reader.value, writer.value)
    said = f"version {reader.version} reads version {writer.version}:"
    return [f"{said} yes"] if not problems else [f"{said} no", *(f"  {one}" for one in problems)]


def _schema(file: str, type_: str) -> str:
    """The text of a schema, from a file or of a type."""
    if bool(file) == bool(type_):
        raise click.UsageError("name either a file of JSON Schema or --type module:Type")
    if type_:
        return _of_type(type_)
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode()
    except OSError as exc:
        raise click.UsageError(f"{file}: {(exc.strerror or str(exc)).lower()}") from None
    except UnicodeError:
        raise click.UsageError(f"{file} is not valid UTF-8") from None
    return text


def _of_type(place: str) -> str:
    from .types import schema_of

    module, _, name = place.rpartition(":")
    if not module or not name:
        raise click.UsageError(f"--type: {place!r} is none; module:Type, such as main.py:Order")
    try:
        kind: Any = _imported(module)
        for part in name.split("."):
            kind = getattr(kind, part)
    except AttributeError:
        raise click.UsageError(f"--type: {module} has no {name}") from None
    text = schema_of(kind)
    if not text:
        raise click.UsageError(f"--type: {name} may be anything, so it has no schema")
    return text


def _imported(module: str) -> Any:
    """A module by its name or by its file, with what stands beside it."""
    path = Path(module)
    beside = path.resolve().parent if module.endswith(".py") else Path.cwd()
    sys.path.insert(0, str(beside))
    try:
        return importlib.import_module(path.stem if module.endswith(".py") else module)
    except Exception as exc:  # noqa: BLE001 - another's code may raise anything
        why = f"{type(exc).__name__}: {exc}"
        raise click.UsageError(f"--type: {module} cannot be imported: {why}") from None
    finally:
        sys.path.remove(str(beside))


def _title(schema: str) -> str | None:
    """What a schema is called, for a table."""
    value: Any = codec.decode(schema) if schema else None
    if not isinstance(value, dict):
        return None
    return value.get("title") or value.get("$ref", "").rpartition("/")[2] or "unnamed"


def _when(time: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time, datetime.UTC)
