"""Whose connection it is that listens on a subject: asked of the engine itself.

A credential that the platform has made carries tags, and nats-server shows those of every
connection in the account that asks. An engine of somebody else may show none.
"""

from __future__ import annotations

import msgspec
import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from .interface import HOST, REPLICA
from .question import ask

_CONNECTIONS = "$SYS.REQ.ACCOUNT.PING.CONNZ"
_TAGS = (REPLICA, HOST)


class _Connection(msgspec.Struct):
    tags: list[str] = []


class _Connections(msgspec.Struct):
    connections: list[_Connection] = []


class _Answer(msgspec.Struct):
    data: _Connections = msgspec.field(default_factory=_Connections)


_answer = msgspec.json.Decoder(_Answer)


def tag(name: str, value: str) -> str:
    """A tag as a credential carries it."""
    return f"{name}:{value}"


async def tags_of(nc: NatsClient, subject: str) -> dict[str, str]:
    """`REPLICA` and `HOST` of the process that listens on a subject; none if it is no replica."""
    question = msgspec.json.encode({"auth": True, "filter_subject": subject})
    try:
        # In a cluster every server answers, and only one of them has the connection.
        found = await ask(nc, _CONNECTIONS, question, enough=lambda msg: bool(_connections(msg)))
    except (nats.errors.Error, OSError):
        return {}
    tags = [tag for msg in found for one in _connections(msg) for tag in one.tags]
    pairs = [one.partition(":") for one in tags]
    return {name: value for name, _, value in pairs if name in _TAGS}


def _connections(msg: Msg) -> list[_Connection]:
    try:
        return _answer.decode(msg.data).data.connections
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
