"""What is known of topics as one AsyncAPI 3 document; pure functions.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from microcosmos import __version__
from microcosmos.base import topics
from microcosmos.gateway.openapi.schemas import Components

from .flows import Flow, Flows, Kind, Payload
from .messages import definitions, message

Schema = dict[str, Any]

SERVER = "nats"

_ABOUT = """\
What services tell each other: the topics of the namespace {namespace}, what is published on them, \
and who publishes and who reads it.

Events are remembered, in order, and read by groups; messages of the broker reach whoever listens \
just then. Payloads are JSON."""

_ADDRESS = {"events": "events.log.*.{topic}", "broker": "broker.{topic}"}
_SUBJECT_OF = {
    "events": "The stream `events` of JetStream has it under `{subject}`; * is its partition.",
    "broker": "It goes by core NATS, under `{subject}`.",
}


def document(known: Flows) -> Schema:
    """The document.

    Args:
        known: what is known of a namespace.
    """
    return _Document(known).made()


class _Document:
    def __init__(self, known: Flows) -> None:
        self._known = known
        self._payloads = {one.topic: one for one in known.payloads}
        self._components = Components("")
        self._channels: dict[str, Schema] = {}
        self._messages: dict[str, Schema] = {}
        self._operations: dict[str, Schema] = {}
        self._keys: dict[tuple[Kind, str], str] = {}

    def made(self) -> Schema:
        known = self._known
        for payload in sorted(known.payloads, key=lambda one: one.topic):
            by = {one.kind for one in known.flows if topics.matches(one.topic, payload.topic)}
            # Nobody tells of it: schemas are of events unless somebody says otherwise.
            for kind in sorted(by) or ["events"]:
                self._channel(kind, payload.topic)
        for flow in sorted(known.flows, key=_order):
            for topic in self._topics(flow):
                self._operation(flow, topic)
        about = _ABOUT.format(namespace=known.namespace)
        found: Schema = {
            "asyncapi": "3.0.0",
            "info": {"title": known.namespace, "version": __version__, "description": about},
            "defaultContentType": "application/json",
            "channels": self._channels,
            "operations": self._operations,
            "components": {
                "messages": self._messages,
                "schemas": definitions(self._components),
            },
        }
        if known.server:
            found["servers"] = {SERVER: _server(known.server)}
        return found

    def _topics(self, flow: Flow) -> list[str]:
        """The topics that a flow is about: those that its pattern stands for, or the pattern."""
        if not topics.is_pattern(flow.topic):
            return [flow.topic]
        sent = {one.topic for one in self._known.flows if one.kind == flow.kind}
        known = {topic for topic in sent if not topics.is_pattern(topic)}
        known |= {topic for kind, topic in self._keys if kind == flow.kind}
        return sorted(one for one in known if topics.matches(flow.topic, one)) or [flow.topic]

    def _channel(self, kind: Kind, topic: str) -> str:
        """The key of a topic's channel, which is made if there was none."""
        if (known := self._keys.get((kind, topic))) is not None:
            return known
        wanted = topic if kind == "events" else f"broker.{topic}"
        key = self._keys[kind, topic] = _free(_key(wanted), self._channels)
        self._channels[key] = channel = _channel(kind, topic)
        if payload := self._payload(topic):
            name = payload.topic if kind == "events" else f"broker.{payload.topic}"
            self._messages[key] = message(payload, self._components, kind=kind)
            self._messages[key].setdefault("title", name)
            channel["messages"] = {key: {"$ref": f"#/components/messages/{key}"}}
        return key

    def _payload(self, topic: str) -> Payload | None:
        """What a topic has: by the registry, else by what its publishers say of themselves."""
        if (registered := self._payloads.get(topic)) is not None:
            return registered
        told = [one for one in self._known.flows if one.topic == topic and one.schema is not None]
        told.sort(key=lambda one: (one.action != "send", one.service))
        return Payload(topic=topic, schema=told[0].schema) if told else None

    def _operation(self, flow: Flow, topic: str) -> None:
        channel = self._channel(flow.kind, topic)
        key = _free(_key(f"{flow.service}.{flow.action}.{channel}"), self._operations)
        found: Schema = {
            "action": flow.action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "title": f"{flow.service} {'publishes' if flow.action == 'send' else 'reads'} {topic}",
            "tags": [{"name": flow.service}],
            "x-service": flow.service,
        }
        if flow.group:
            found["bindings"] = {"nats": {"queue": flow.group, "bindingVersion": "0.1.0"}}
        if flow.ordered:
            found["x-ordered"] = True
        if flow.topic != topic:
            found["x-pattern"] = flow.topic
        if messages := self._channels[channel].get("messages"):
            places = [f"#/channels/{channel}/messages/{name}" for name in messages]
            found["messages"] = [{"$ref": place} for place in places]
        self._operations[key] = found


def _channel(kind: Kind, topic: str) -> Schema:
    subject = _ADDRESS[kind].format(topic=topic)
    address, parameters = _expression(topic)
    channel: Schema = {
        "address": address,
        "title": topic,
        "description": _SUBJECT_OF[kind].format(subject=subject),
        "tags": [{"name": kind}],
        "x-nats-subject": subject,
    }
    if parameters:
        channel["parameters"] = parameters
    return channel


def _expression(topic: str) -> tuple[str, Schema]:
    """A topic or pattern as an address of the document, and its parameters."""
    parts = topic.split(".")
    parameters: Schema = {}
    for at, part in enumerate(parts):
        if part in ("*", ">"):
            name = f"part{at + 1}" if part == "*" else "rest"
            about = "One part of a topic." if part == "*" else "One part of a topic, or more."
            parameters[name] = {"description": about}
            parts[at] = f"{{{name}}}"
    return ".".join(parts), parameters


def _server(address: str) -> Schema:
    return {
        "host": address,
        "protocol": "nats",
        "description": "The engine of the platform: NATS with JetStream. `micro nats` prints how "
        "the official tools connect.",
    }


def _order(flow: Flow) -> tuple[str, ...]:
    return (flow.topic, flow.action, flow.service, flow.kind, flow.group)


def _key(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def _free(wanted: str, taken: Iterable[str]) -> str:
    known = {*taken}
    key, number = wanted, 2
    while key in known:
        key, number = f"{wanted}-{number}", number + 1
    return key
