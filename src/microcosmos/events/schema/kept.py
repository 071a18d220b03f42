"""How the registry stands in its store."""

from __future__ import annotations

import msgspec

from .interface import Consumer, Settings


class KeptVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version of a subject."""

    version: int
    id: int
    author: str = ""
    time: float = 0
    deleted: bool = False


class KeptSubject(msgspec.Struct, frozen=True):
    """A subject; versions by their numbers, growing."""

    versions: list[KeptVersion] = []

    @property
    def active(self) -> list[KeptVersion]:
        """Those that are not deleted."""
        return [one for one in self.versions if not one.deleted]

    def find(self, version: int) -> KeptVersion | None:
        """A version by its number, deleted or not."""
        return next((one for one in self.versions if one.version == version), None)


class KeptConsumers(msgspec.Struct, frozen=True):
    """What a service said that it consumes."""

    consumers: list[Consumer] = []


_SUBJECT = msgspec.json.Decoder(KeptSubject)
_SETTINGS = msgspec.json.Decoder(Settings)
_CONSUMERS = msgspec.json.Decoder(KeptConsumers)

subject_from = _SUBJECT.decode
settings_from = _SETTINGS.decode
consumers_from = _CONSUMERS.decode


class Keys:
    """The keys of one namespace's records."""

    def __init__(self, namespace: str) -> None:
        self.all = f"{namespace}/"
        self.subjects = f"{namespace}/subject/"
        self.settings = f"{namespace}/settings/"
        self.consumers = f"{namespace}/consumers/"
        self.last_id = f"{namespace}/last-id"

    def id(self, id: int) -> str:
        """Of a schema's text."""
        return f"{self.all}id/{id:012d}"

    def identity(self, identity: str) -> str:
        """Of the id of a schema's text."""
        return f"{self.all}identity/{identity}"

    def subject(self, name: str) -> str:
        """Of a subject's versions."""
        return self.subjects + name

    def setting(self, name: str) -> str:
        """Of what is set for a subject, or with an empty name for all."""
        return self.settings + name

    def consumer(self, service: str) -> str:
        """Of what a service consumes."""
        return self.consumers + service
