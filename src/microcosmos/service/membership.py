"""What a process is to the platform, read from its environment."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home
from microcosmos.registry import this_host


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """Where the platform is, and who this process is on it.

    Attributes:
        nats_url: the engine; empty on a platform without one, whose processes meet on the lane.
        credentials: the file that this process shows the engine, or None.
        home: the platform's folder, where the sockets of this host are.
        inbox_prefix: where the engine lets this process hear replies, or empty.
        name: what the runtime calls the service, or empty outside of it.
        version: the version the runtime runs.
        replica: the process of the runtime that this is, or empty outside of it.
        namespace: where its calls are made.
        host: the host whose sockets it can open.
    """

    nats_url: str
    credentials: Path | None
    home: Home
    inbox_prefix: str = ""
    name: str = ""
    version: str = ""
    replica: str = ""
    namespace: str = DEFAULT_NAMESPACE
    host: str = msgspec.field(default_factory=this_host)


def membership(home: Home | None = None) -> Membership | None:
    """The membership that the environment gives, else that of the live server of this home.

    None means that there is no platform to join.
    """
    home = home or Home()
    if os.environ.get("NATS_URL"):
        return inherited(home)
    info = home.server_info()
    if info is None:
        return None
    own = home.server / "keys" / "admin.creds"
    url = info.addresses.get("nats", "")
    return msgspec.structs.replace(
        inherited(home),
        nats_url=f"nats://{url}" if url else "",
        credentials=own if url and own.exists() else None,
    )


def inherited(home: Home | None = None) -> Membership:
    """The membership of a process that the platform has started; an empty URL is no engine."""
    get = os.environ.get
    credentials = get("NATS_CREDS")
    return Membership(
        nats_url=get("NATS_URL", ""),
        credentials=Path(credentials) if credentials else None,
        home=home or Home(),
        inbox_prefix=get("NATS_INBOX_PREFIX", ""),
        name=get("MICRO_SERVICE_NAME", ""),
        version=get("MICRO_SERVICE_VERSION", ""),
        replica=get("MICRO_REPLICA", ""),
        namespace=get("MICRO_NAMESPACE", DEFAULT_NAMESPACE),
    )
