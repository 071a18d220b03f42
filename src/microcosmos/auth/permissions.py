"""What each connection to the engine may do there: the least that its work needs.

nats-server holds a connection to this, whatever runs behind it. A call that is refused here is in
the log of nats-server (``Publish Violation``, ``Subscription Violation``), and the client is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from microcosmos.base import names

ANSWER = 300.0
"""Seconds within which a call by NATS is answered; a stream says now and then that it lives."""

QUEUE = "q"
"""The group in which the replicas of a service share its calls."""

SERVICES = (
    *("api", "auth", "broker", "config", "events", "functions", "monitor", "registry"),
    *("runtime", "schemas", "store"),
)
"""The services that the core answers for, in every namespace."""

GOSSIP = "registry.said"
"""Where the cores of a cluster tell each other what their registries were told."""

CONNECTIONS = "$SYS.REQ.ACCOUNT.PING.CONNZ"
"""Where nats-server tells of the connections of the account that asks."""

CLAIMS = ("$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE")
"""Where nats-server is told of accounts, by the system account alone."""

_VERBS = ("PING", "INFO", "STATS")

# JetStream, its buckets and objects, the engine itself, and what only the core may ask everybody.
_OF_THE_ENGINE = ("$KV.>", "$O.>", "$MQTT.>")
_STREAMS = "$JS.>"
_INBOXES = "_INBOX.>"
_PLATFORM = ("core", "functions", "gateway")

# Messages, which nobody remembers: whoever lives in the namespace says and hears them.
_BROKER = "broker"
_MESSAGES = f"{_BROKER}.>"
_EVENTS = "events"

_SETTINGS = "events.topic.>"

# Of what a service would need of the engine's own, it may pull from a group, whose name there the
# core has told it and nobody can guess, and acknowledge. Events go in by the subjects that the
# stream listens on; everything else is asked of the core.
_CONTROL = (
    *("$JS.*", "$JS.API.*", "$JS.ACK.*"),
    *(f"$JS.API.{noun}.>" for noun in ("ACCOUNT", "DIRECT", "META", "SERVER", "STREAM")),
    *(
        f"$JS.API.CONSUMER.{verb}.>"
        for verb in (
            *("CREATE", "DELETE", "DURABLE", "INFO", "LEADER", "LIST", "NAMES", "PAUSE", "RESET"),
            *("PEER", "UNPIN"),
        )
    ),
    *(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.>" for stream in ("events-dead", "events-topics")),
    *(
        f"$JS.{noun}.>"
        for noun in ("ACK.events-dead", "ACK.events-topics", "EVENT", "FC", "SNAPSHOT")
    ),
    "events.*",
    "events.schedule.>",
    _SETTINGS,
)


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects a user may touch; nothing allowed is nothing at all.

    Attributes:
        publish: subjects it may send to.
        subscribe: subjects it may listen on, beside its own inbox.
        replies: whether it may answer the requests it receives, wherever they came from.
        no_publish: subjects it may not send to, though they are among those it may.
        no_subscribe: subjects it never hears, though they are among those it may.
    """

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    replies: bool = True
    no_publish: tuple[str, ...] = ()
    no_subscribe: tuple[str, ...] = ()


def service(name: str) -> Permissions:
    """A service: it answers under its own name, calls others, and answers whom it was asked by.

    A service in another language chooses its subjects itself, below its name. So who calls may
    send to all subjects but those that are the platform's and the engine's.
    """
    return Permissions(
        publish=(">",),
        no_publish=(*_nobodys(_EVENTS, _BROKER), *_CONTROL),
        # A pattern with a `>` passes for one with a `*` in its place: nothing here depends on how
        # many parts a subject has.
        subscribe=(*_served(name), f"{names.announced(name)}.>", _MESSAGES, _SETTINGS),
    )


def gateway() -> Permissions:
    """A gateway: it only calls."""
    return Permissions(publish=(">",), no_publish=(*_nobodys(), _STREAMS), replies=False)


def functions() -> Permissions:
    """The host of functions: it answers for services of any name but the core's, and acts for them.

    Calls it hears as one of a group only, so that none is heard by it and by a service.
    """
    return Permissions(
        publish=(">",),
        no_publish=(*_nobodys(_EVENTS, _BROKER), *_CONTROL),
        subscribe=(f"{names.RPC}.*.*.* {QUEUE}", f"{names.RPC}.*.$.>", _SETTINGS),
        no_subscribe=tuple(f"{names.prefix(name)}>" for name in SERVICES),
    )


def core() -> Permissions:
    """The core: it answers for its own services, finds and calls those of all others."""
    served = [subject for name in SERVICES for subject in _served(name)]
    return Permissions(
        publish=(">",),
        # The rest of what an account has of the system is about users, not about accounts.
        no_publish=_OF_THE_ENGINE,
        subscribe=(*dict.fromkeys(served), GOSSIP, _MESSAGES, _SETTINGS),
        replies=False,
    )


def admin() -> Permissions:
    """Whoever administers the namespace, with the official tool or a program started by hand.

    All of the account is theirs, but for what the platform's own processes say to each other.
    """
    return Permissions(
        publish=(">",),
        no_publish=(GOSSIP,),
        subscribe=(">",),
        no_subscribe=(GOSSIP, *(f"_INBOX.{name}.>" for name in _PLATFORM)),
        replies=False,
    )


OTHERS = {"admin": admin, "functions": functions, "gateway": gateway}
"""Who has credentials in every namespace beside the core, by the names of their files."""


def accounts() -> Permissions:
    """Who tells nats-server of accounts: a user of the system account that can do nothing else."""
    return Permissions(publish=CLAIMS, replies=False)


def _served(name: str) -> tuple[str, ...]:
    """What a service listens on: its calls, its streams, and questions about it (ADR-32)."""
    announced = names.announced(name)
    asked = [
        subject
        for verb in _VERBS
        for subject in (
            f"$SRV.{verb}",
            f"$SRV.{verb}.{announced}",
            f"$SRV.{verb}.{announced}.*",
        )
    ]
    return (f"{names.prefix(name)}>", *asked)


def _nobodys(*but: str) -> tuple[str, ...]:
    """What only the core and the engine send to; answers go by the right to answer."""
    words = sorted(names.RESERVED - {names.RPC, *but})
    return ("$SYS.>", "$SRV.>", *_OF_THE_ENGINE, _INBOXES, *(f"{word}.>" for word in words))
