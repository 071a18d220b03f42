"""Requests and answers of the broker over rpc: those of Micro v3, and ours."""

from __future__ import annotations

import msgspec

NAME = "broker"
"""The service."""

MAX_BODY = 5 * 1024 * 1024
"""The largest body of a message that goes by rpc, in bytes: as base64 it is a third larger."""

MAX_WAITING = 1024
"""Messages that wait in the core for one remote subscriber; further ones are dropped."""

MAX_WAITING_BYTES = 16 * 1024 * 1024
"""The bytes that they may have."""


class Message(msgspec.Struct, omit_defaults=True):
    """A message on its way.

    Attributes:
        header: its metadata.
        body: in JSON as base64.
        topic: what it was published under; told to subscribers.
        report: where failures of subscribers are told of; told to subscribers of ours.
    """

    header: dict[str, str] = {}
    body: bytes = b""
    topic: str = ""
    report: str = ""


class PublishRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Publish takes."""

    topic: str
    message: Message = msgspec.field(default_factory=Message)


class Empty(msgspec.Struct):
    """What Publish and Report answer."""


class SubscribeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Subscribe takes.

    Attributes:
        topic: a topic or a pattern of topics.
        queue: those who give the same name share the messages.
        ready: send a first message without a topic once messages are heard.
    """

    topic: str
    queue: str = ""
    ready: bool = False


class ReportRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Report takes.

    Attributes:
        report: the address that a message came with.
        topic: the message's.
        subscriber: who failed.
        reason: why.
        trace: the message's.
    """

    report: str
    topic: str
    subscriber: str
    reason: str = ""
    trace: str = ""


class ReportsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Reports takes: nothing."""


class Reported(msgspec.Struct, omit_defaults=True):
    """What Reports sends: first the address to publish with, then what failed."""

    report: str = ""
    topic: str = ""
    subscriber: str = ""
    reason: str = ""
    trace: str = ""
