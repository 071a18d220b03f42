"""The core's list of the blocked: kept in the store, served as `Api`, followed by gateways."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable

import msgspec

from microcosmos.auth.interface import Account
from microcosmos.base import codec, context, errors
from microcosmos.rpc import Client
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Hosted
from microcosmos.store import Store, Write
from microcosmos.store.interface import Delete

from .blocks import Blocked, normal

log = logging.getLogger("microcosmos.gateway")

NAME = "api"
TABLE = "blocklist"
"""Where the list stands in the store."""

MAX_BLOCKED = 10_000
"""The most entries of the block list."""

LONGEST_ID = 512
"""The most characters of a blocked id."""

WAIT = 25.0
"""Seconds that a gateway waits for the block list to change before it asks again."""

FRESH = 1.0
"""Seconds after which the list is read again, should another core have written it."""


class Listed(msgspec.Struct):
    """What ReadBlockList answers."""

    ids: list[str]


class Current(msgspec.Struct):
    """What WatchBlockList answers.

    Attributes:
        tag: stands for this state of the list.
        blocked: all of it.
    """

    tag: str
    blocked: list[Blocked]


class ReadRequest(msgspec.Struct):
    """What ReadBlockList takes."""


class ApiService:
    """Serves Micro's `Api`: the block list of the gateways.

    Args:
        store: where it is kept: the table `TABLE`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Let go who waits for a change."""
        self._closed = True
        self._tell()

    def hosted(self) -> Hosted:
        """The service ``api``."""
        endpoints = [
            endpoint(self.add_to_block_list, NAME, access="admin"),
            endpoint(self.remove_from_block_list, NAME, access="admin"),
            endpoint(self.read_block_list, NAME, access="admin"),
            endpoint(self.watch_block_list, NAME, access="platform"),
        ]
        return Hosted(NAME, endpoints)

    async def add_to_block_list(self, id: str, namespace: str = "") -> None:
        """Refuse an address, a network, an account, a token or an API key."""
        blocked = _entry(id, namespace)
        if await self._store.count() >= MAX_BLOCKED:
            raise errors.TooManyRequests(
                NAME, f"the block list has {MAX_BLOCKED} entries, its limit"
            )
        await self._store.batch([Write(_key(blocked), codec.encode(blocked))])
        self._tell()

    async def remove_from_block_list(self, id: str, namespace: str = "") -> None:
        """Let an id in again; one that is not blocked is no error."""
        await self._store.batch([Delete(_key(_entry(id, namespace)))])
        self._tell()

    async def read_block_list(self, request: ReadRequest) -> Listed:
        """The ids that are refused."""
        only = _confined()
        return Listed([one.id for one in await self._read() if only in ("", one.namespace)])

    async def watch_block_list(self, tag: str = "") -> Current:
        """The list, as soon as it is another than that of a tag."""
        left = context.current().remaining()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT if left is None else min(WAIT, left * 0.8)):
                while True:
                    changed = self._changed
                    current = _current(await self._read())
                    if current.tag != tag:
                        return current
                    if self._closed:
                        raise errors.Unavailable(NAME, "the core stops")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), FRESH)
        return _current(await self._read())

    async def _read(self) -> list[Blocked]:
        records = await self._store.read(prefix="")
        return sorted(msgspec.json.decode(one.value, type=Blocked) for one in records)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _entry(id: str, namespace: str) -> Blocked:
    if len(id) > LONGEST_ID or len(namespace) > LONGEST_ID:
        raise errors.BadRequest(NAME, f"an id has at most {LONGEST_ID} characters")
    if only := _confined():
        if namespace not in ("", only):
            detail = f"an admin of {only} blocks nobody in {namespace}"
            raise errors.Forbidden(NAME, detail)
        namespace = only
    return Blocked(normal(id), namespace)


def _confined() -> str:
    """The one namespace whose part of the list the caller may see and change; empty is all."""
    account = context.current().account
    if isinstance(account, Account) and not account.everywhere:
        return account.namespace
    return ""


def _key(blocked: Blocked) -> str:
    return f"{blocked.namespace}/{blocked.id}"


def _current(blocked: list[Blocked]) -> Current:
    return Current(hashlib.sha256(codec.encode(blocked)).hexdigest()[:32], blocked)


async def follow(client: Client, changed: Callable[[list[Blocked]], None]) -> None:
    """Tell of the list whenever it changes, for ever; a core that is away changes nothing."""
    tag = ""
    while True:
        try:
            answer = await client.call(
                NAME,
                "Api.WatchBlockList",
                codec.encode({"tag": tag}),
                timeout=WAIT + 10,
                retry=False,
            )
            current = msgspec.json.decode(answer, type=Current)
        except (errors.Error, msgspec.DecodeError) as error:
            log.debug("the block list cannot be read: %s", error)
            await asyncio.sleep(0.2)
            continue
        if current.tag != tag:
            tag = current.tag
            changed(current.blocked)
