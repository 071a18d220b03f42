"""The contract of the schema registry: subjects, versions, and what may change between them.

The model is that of the Confluent Schema Registry. A *subject* has *versions* 1, 2, 3 …; each is
a schema, and a schema has an *id*, one for all subjects of a namespace that have it. The subject
of topic ``orders.placed`` is ``orders.placed-value``; an endpoint has two,
``SERVICE/Endpoint-request`` and ``SERVICE/Endpoint-response``.

Errors carry these ids, so that doors of other forms can tell them apart.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, get_args

import msgspec

from microcosmos.base import errors
from microcosmos.events.interface import Event

MAX_SCHEMA = 1024 * 1024
"""The longest schema, in bytes of JSON."""

MAX_VERSIONS = 1000
"""Versions of one subject; delete old ones for good to have more."""

MAX_SUBJECT = 255
"""The longest name of a subject, in bytes of UTF-8."""

Mode = Literal[
    "NONE",
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
]
"""What a new version must be compatible with.

``BACKWARD``: who reads by it reads what was written by the one before. ``FORWARD``: who reads by
the one before reads what is written by it. ``FULL``: both. Transitive: with all versions before,
not only the last one. ``NONE``: nothing is checked.
"""

MODES: tuple[Mode, ...] = get_args(Mode)

NONE: Mode = "NONE"
BACKWARD: Mode = "BACKWARD"

TYPE = "JSON"
"""The only type of schemas: JSON Schema."""

# The ids of errors.
NO_SUBJECT = "schema.subject"
"""404: there is no such subject."""
NO_VERSION = "schema.version"
"""404: the subject has no such version."""
NO_SCHEMA = "schema.id"
"""404: there is no schema of that id, or of that text under the subject."""
SUBJECT_DELETED = "schema.subject.deleted"
"""404: the subject was deleted already, though not for good."""
SUBJECT_KEPT = "schema.subject.kept"
"""404: delete the subject before you delete it for good."""
VERSION_DELETED = "schema.version.deleted"
"""404: the version was deleted already, though not for good."""
VERSION_KEPT = "schema.version.kept"
"""404: delete the version before you delete it for good."""
NO_MODE = "schema.mode.unset"
"""404: the subject has no mode of its own."""
BAD_SCHEMA = "schema.invalid"
"""422: it is no JSON Schema, or one that is not supported; the detail says why."""
BAD_VERSION = "schema.version.invalid"
"""422: a version is a number from 1 or ``latest``."""
BAD_MODE = "schema.mode.invalid"
"""422: there is no such mode."""
INCOMPATIBLE = "schema.incompatible"
"""409: the new version breaks somebody; the detail says whom, and where."""
UNREGISTERED = "schema.unregistered"
"""409: the type is not registered for the topic, and may not register itself."""


class SchemaVersion(msgspec.Struct, frozen=True):
    """A version of a subject.

    Attributes:
        subject: whose.
        version: from 1, without gaps unless some were deleted.
        id: of the schema, in this namespace.
        schema: its JSON text.
        author: the account that registered it, empty when there are no accounts.
        time: when that was, in seconds since the epoch.
        type: ``JSON``.
        deleted: whether it was deleted, though not for good.
    """

    subject: str
    version: int
    id: int
    schema: str
    author: str = ""
    time: float = 0
    type: str = TYPE
    deleted: bool = False

    @property
    def value(self) -> Any:
        """The schema, parsed: a dict or a boolean."""
        return msgspec.json.decode(self.schema)


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is set for a subject, or for a whole namespace; None is what stands above.

    Attributes:
        mode: what new versions are held to.
        auto: whether a type that publishes registers its schema itself; if not, types that are
            not registered are refused.
    """

    mode: Mode | None = None
    auto: bool | None = None


class Subject(msgspec.Struct, frozen=True):
    """A subject, for lists.

    Attributes:
        name: its name.
        versions: those that are not deleted; all of them if deleted ones were asked for.
        latest: the newest of these.
        mode: what holds for it, its own or that above it.
        auto: whether types register themselves.
    """

    name: str
    versions: tuple[int, ...]
    latest: SchemaVersion
    mode: Mode
    auto: bool = True


class Problem(msgspec.Struct, frozen=True):
    """Why one schema cannot read what another writes.

    Attributes:
        path: where, as a JSON path: ``$.items[*].price``; ``[*]`` is any item, ``.*`` any name.
        detail: what breaks, in one line.
        unsure: whether it may be compatible, but that cannot be told.
    """

    path: str
    detail: str
    unsure: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


class Consumer(msgspec.Struct, frozen=True):
    """Who said that it reads a topic.

    Attributes:
        topic: a topic or a pattern.
        service: the service's name.
        group: of events.
        schema: the JSON text of what it reads; empty when it takes anything.
        time: when it said so, in seconds since the epoch.
    """

    topic: str
    service: str
    group: str
    schema: str = ""
    time: float = 0


class Breach(msgspec.Struct, frozen=True):
    """Something that a schema breaks.

    Attributes:
        side: ``version N``, or ``consumer GROUP of SERVICE``.
        problems: where, and what.
        version: the version that it breaks, 0 for none.
        consumer: the consumer that it breaks.
    """

    side: str
    problems: tuple[Problem, ...]
    version: int = 0
    consumer: Consumer | None = None

    def __str__(self) -> str:
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return f"{self.side}: {self.problems[0]}{more}"


class Reader(msgspec.Struct, frozen=True):
    """A topic or pattern that a service consumes, and the JSON text of what it reads."""

    topic: str
    group: str
    schema: str = ""


class Writer(msgspec.Struct, frozen=True):
    """A topic that a service publishes, and the JSON text of what it writes."""

    topic: str
    schema: str


class EndpointSchemas(msgspec.Struct, frozen=True):
    """An endpoint of a service (``Users.Read``), and the JSON texts of what it takes and gives."""

    endpoint: str
    request: str
    response: str


class Declaration(msgspec.Struct, frozen=True):
    """What a service says when it starts. It stands in place of what it said before.

    Attributes:
        service: the service's name.
        readers: what it consumes.
        writers: what it publishes.
        endpoints: what it serves; those whose mode is ``NONE`` are not looked at.
    """

    service: str
    readers: tuple[Reader, ...] = ()
    writers: tuple[Writer, ...] = ()
    endpoints: tuple[EndpointSchemas, ...] = ()


class Contracts(Protocol):
    """What publishers and consumers of one namespace check events by.

    Each check costs microseconds: what the registry says is remembered, and what changes there is
    known here within a second.
    """

    async def writing(self, topic: str, message: Any) -> tuple[bytes, int]:
        """The payload of a message, and the id of the schema that it was written by (0 for none).

        A value of a type of its own (a struct, a dataclass, a pydantic model …) is written by the
        schema of its type, which is registered the first time. A dict, another value of JSON, or
        bytes is held against the newest schema of the topic, if there is one.

        Args:
            topic: where it is to be published.
            message: the value.

        Raises:
            errors.BadRequest: it does not fit the schema, or JSON cannot carry it; the detail
                names the path.
            errors.Conflict: its type is not compatible with the topic's schemas; the detail names
                topic, version and path. Or types may not register themselves, and it is unknown.
            errors.Unavailable: the type was never seen here, and the registry is away.
        """

    async def reading(self, event: Event) -> None:
        """Check an event that came before somebody gets it. One without a schema passes.

        Raises:
            errors.BadRequest: the id of its schema is unknown, or its payload does not fit it; the
                event is a dead letter then, with the detail as its reason.
            errors.Unavailable: its schema was never seen here, and the registry is away: try
                again.
        """

    async def declare(self, declaration: Declaration) -> None:
        """Say what a service reads and writes, once, when it starts.

        Raises:
            errors.Conflict: that is not compatible; the detail names the broken side in one line.
            errors.Unavailable: the registry is away.
        """


_VALUE, _REQUEST, _RESPONSE = "-value", "-request", "-response"


def subject_of(topic: str) -> str:
    """The subject of a topic: what Confluent's TopicNameStrategy calls it."""
    return topic + _VALUE


def topic_of(subject: str) -> str:
    """The topic of a subject, or empty."""
    return subject.removesuffix(_VALUE) if subject.endswith(_VALUE) else ""


def subject_of_endpoint(service: str, endpoint: str, side: Literal["request", "response"]) -> str:
    """The subject of what an endpoint takes or gives."""
    return f"{service}/{endpoint}-{side}"


def service_of(subject: str) -> str:
    """The service of an endpoint's subject, or empty."""
    service, slash, rest = subject.partition("/")
    return service if slash and rest.endswith((_REQUEST, _RESPONSE)) else ""


def is_response(subject: str) -> bool:
    """Whether it is what an endpoint gives, which others read."""
    return bool(service_of(subject)) and subject.endswith(_RESPONSE)


def unprocessable(id: str, detail: str) -> errors.Error:
    """A 422."""
    return errors.Error(id, detail, code=422, status="Unprocessable Content")
