"""What is known of a namespace's topics: their schemas, and the services at both ends."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["events", "broker"]
"""``events`` are remembered, what goes by the ``broker`` is not."""


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What a topic has, by its newest schema.

    Attributes:
        topic: which.
        schema: the JSON Schema.
        id: the schema's, 0 if it has none.
        version: the schema's among those of the topic, 0 if it has none.
        compatibility: what a new version may be, such as ``BACKWARD``; empty if nobody said.
    """

    topic: str
    schema: Any
    id: int = 0
    version: int = 0
    compatibility: str = ""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A service at one end of a topic.

    Attributes:
        service: its name.
        action: what it does.
        topic: a topic, or a pattern of topics.
        kind: by what it goes.
        group: whose members share the events or messages; empty if nobody does.
        ordered: whether those of a key are handled in their order.
        schema: what the service itself says that it sends or takes; None is nothing.
    """

    service: str
    action: Literal["send", "receive"]
    topic: str
    kind: Kind = "events"
    group: str = ""
    ordered: bool = False
    schema: Any = None


class Flows(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a namespace.

    Attributes:
        namespace: which.
        payloads: of topics that have schemas.
        flows: who sends and receives what.
        server: host and port of the engine, if it may be told.
    """

    namespace: str
    payloads: list[Payload] = []
    flows: list[Flow] = []
    server: str = ""
