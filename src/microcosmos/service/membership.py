"""What a process is to the platform, read from its environment."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from microcosmos.auth.credentials import file_of
from microcosmos.auth.credentials import inbox_prefix as inbox_of
from microcosmos.base import errors
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
        namespace: where it lives: its calls are made there, and answered there.
        auth_id: the account that it proves to be; empty proves nothing.
        auth_secret: the file with what proves it, or None.
        by_hand: whether a user has started it, so that it acts by the user's login.
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
    auth_id: str = ""
    auth_secret: Path | None = None
    by_hand: bool = False
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
    here = inherited(home)
    own = file_of(home.server / "keys", "admin", here.namespace)
    url = info.addresses.get("nats", "")
    return msgspec.structs.replace(
        here,
        nats_url=f"nats://{url}" if url else "",
        credentials=own if url and own.exists() else None,
        by_hand=True,
    )


def inherited(home: Home | None = None) -> Membership:
    """The membership of a process that the platform has started; an empty URL is no engine."""
    get = os.environ.get
    credentials, secret = get("NATS_CREDS"), get("MICRO_AUTH_SECRET_FILE")
    return Membership(
        nats_url=get("NATS_URL", ""),
        credentials=Path(credentials) if credentials else None,
        home=home or Home(),
        inbox_prefix=get("NATS_INBOX_PREFIX", ""),
        name=get("MICRO_SERVICE_NAME", ""),
        version=get("MICRO_SERVICE_VERSION", ""),
        replica=get("MICRO_REPLICA", ""),
        namespace=get("MICRO_NAMESPACE") or DEFAULT_NAMESPACE,
        auth_id=get("MICRO_AUTH_ID", ""),
        auth_secret=Path(secret) if secret else None,
    )


def elsewhere(here: Membership, name: str, namespace: str) -> Membership:
    """What one of the platform's own processes is to another namespace than the one it began in.

    Args:
        here: what it began as.
        name: its user of the engine, which has credentials in every namespace.
        namespace: the other one.

    Raises:
        errors.Unavailable: the namespace has no account of the engine yet.
    """
    there = msgspec.structs.replace(here, namespace=namespace)
    if not here.nats_url:
        return there
    if not here.inbox_prefix:
        # An engine of somebody else has one account: nothing of other namespaces is on it.
        return msgspec.structs.replace(there, nats_url="")
    credentials = file_of(here.home.server / "keys", name, namespace)
    if not credentials.exists():
        raise errors.Unavailable(name, f"the namespace {namespace} is not ready yet")
    return msgspec.structs.replace(there, credentials=credentials, inbox_prefix=inbox_of(name))
