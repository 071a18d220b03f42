"""What the schema registry tells, as what is known of topics."""

from __future__ import annotations

from collections.abc import Container, Iterable

import msgspec

from microcosmos.events.schema.interface import Consumer, Subject, topic_of

from .flows import Flow, Flows, Payload

EVENTS = "events"
"""The service that is asked."""

LIST = "Schemas.List"
CONSUMERS = "Schemas.Consumers"


class _Subjects(msgspec.Struct):
    subjects: list[Subject]


class _Consumers(msgspec.Struct):
    consumers: list[Consumer]


_subjects = msgspec.json.Decoder(_Subjects).decode
_consumers = msgspec.json.Decoder(_Consumers).decode


def flows(
    namespace: str, subjects: bytes, consumers: bytes, services: Container[str], server: str = ""
) -> Flows:
    """What is known of a namespace.

    Args:
        namespace: which.
        subjects: what `LIST` answers.
        consumers: what `CONSUMERS` answers.
        services: the names of services: of accounts, these are those that publish.
        server: host and port of the engine, if it may be told.
    """
    found = _subjects(subjects).subjects
    readers = _consumers(consumers).consumers
    known = [(topic, one) for one in found if (topic := topic_of(one.name))]
    return Flows(
        namespace=namespace,
        payloads=[_payload(topic, one) for topic, one in known],
        flows=[*_senders(known, services), *map(_reader, readers)],
        server=server,
    )


def _payload(topic: str, subject: Subject) -> Payload:
    newest = subject.latest
    return Payload(
        topic=topic,
        schema=newest.value,
        id=newest.id,
        version=newest.version,
        compatibility=subject.mode,
    )


def _senders(known: Iterable[tuple[str, Subject]], services: Container[str]) -> list[Flow]:
    """Services whose type registered itself when they published, or when they began."""
    return [
        Flow(service=one.latest.author, action="send", topic=topic)
        for topic, one in known
        if one.latest.author in services
    ]


def _reader(consumer: Consumer) -> Flow:
    return Flow(
        service=consumer.service,
        action="receive",
        topic=consumer.topic,
        group=consumer.group,
        schema=msgspec.json.decode(consumer.schema) if consumer.schema else None,
    )
