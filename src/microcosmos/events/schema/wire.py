"""Requests and answers of the schema registry over rpc."""

from __future__ import annotations

import msgspec

from .interface import Breach, Consumer, Declaration, SchemaVersion, Settings, Subject

NAME = "events"
"""The service; its endpoints here are ``Schemas.*``."""


class ListRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What List takes: how the subjects begin, and whether deleted ones are wanted too."""

    prefix: str = ""
    deleted: bool = False


class ListResponse(msgspec.Struct):
    """What List answers."""

    subjects: list[Subject]


class VersionsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Versions takes."""

    subject: str
    deleted: bool = False


class VersionsResponse(msgspec.Struct):
    """What Versions answers: growing."""

    versions: list[SchemaVersion]


class ReadRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Read takes: a version of a subject, the newest unless said, or the id of a schema."""

    subject: str = ""
    version: int = 0
    id: int = 0


class ReadResponse(msgspec.Struct):
    """What Read answers; by an id there is nothing but the schema."""

    version: SchemaVersion


class NewestRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Newest takes."""

    topic: str


class NewestResponse(msgspec.Struct):
    """What Newest answers: the newest schema of a topic, 0 and nothing when it has none."""

    id: int = 0
    schema: str = ""
    version: int = 0


class RegisterRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Register takes.

    Attributes:
        subject: which.
        schema: JSON text.
        auto: it is a type that registers itself: what is unknown is refused where that may not be.
        name: of the type, for the refusal.
    """

    subject: str
    schema: str
    auto: bool = False
    name: str = ""


class CheckRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Check takes: ``version`` is one to compare with, 0 those that the mode says."""

    subject: str
    schema: str
    version: int = 0


class CheckResponse(msgspec.Struct):
    """What Check answers: what would break, nothing if all is well, and what was looked at."""

    breaches: list[Breach]
    mode: str
    consumers: int = 0


class DeleteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Delete takes: a version, 0 for all of them."""

    subject: str
    version: int = 0
    permanent: bool = False


class DeleteResponse(msgspec.Struct):
    """What Delete answers: the versions that were deleted."""

    versions: list[int]


class SettingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Settings takes: a subject, ``SERVICE/``, or empty for all topics."""

    subject: str = ""


class SettingsResponse(msgspec.Struct):
    """What Settings and Configure answer: what is set there itself, and what holds."""

    own: Settings
    effective: Settings


class ConfigureRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Configure takes: what is None stays; ``unset`` lets what stands above hold again."""

    subject: str = ""
    mode: str | None = None
    auto: bool | None = None
    unset: bool = False


class ConsumersRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Consumers takes: a topic, empty for all."""

    topic: str = ""


class ConsumersResponse(msgspec.Struct):
    """What Consumers and Forget answer."""

    consumers: list[Consumer]


class ForgetRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Forget takes: a service, and a topic, empty for all that it consumes."""

    service: str
    topic: str = ""


class DeclareRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Declare takes."""

    declaration: Declaration


class DeclareResponse(msgspec.Struct):
    """What Declare answers."""


class FollowRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Follow takes."""
