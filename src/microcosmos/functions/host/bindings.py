"""Bindings: what functions use of the platform, by their own accounts and as far as granted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from microcosmos.base import codec, context, errors, names
from microcosmos.base.context import TRACE
from microcosmos.broker import wire as broker_wire
from microcosmos.broker.headers import checked
from microcosmos.config import paths
from microcosmos.config.client import ConfigClient
from microcosmos.events.checks import check_metadata
from microcosmos.events.client import RemoteLog
from microcosmos.events.interface import Draft
from microcosmos.functions.interface import Unit
from microcosmos.functions.wire import Use
from microcosmos.rpc import Client
from microcosmos.store import Store
from microcosmos.store.client import RemoteBackend, RpcCaller, ServiceStore

from .passes import Passes

MAX_ARGUMENTS = 4 * 1024 * 1024
"""The most bytes of what a function gives one use of a binding, as JSON."""

MAX_KEYS = 1000
"""The most keys that one listing of a function's table gives."""

_ID = "functions"
_NULL = b"null"

Clients = Callable[[str], Awaitable[Client]]
"""Gives what calls in a namespace."""

T = TypeVar("T")


class _Expiry(msgspec.Struct, forbid_unknown_fields=True):
    expiry: float = 0


class _Listing(msgspec.Struct, forbid_unknown_fields=True):
    prefix: str = ""
    limit: int = MAX_KEYS
    after: str = ""


class _Publishing(msgspec.Struct, forbid_unknown_fields=True):
    key: str = ""
    metadata: dict[str, str] = {}


class Bindings:
    """Uses bindings for functions.

    Args:
        clients: call in the namespaces of functions.
        passes: the functions' own tokens.
    """

    def __init__(self, clients: Clients, passes: Passes) -> None:
        self._clients = clients
        self._passes = passes
        self._uses: Mapping[str, Callable[[Unit, Client, Use], Awaitable[bytes]]] = {
            "store": self._store,
            "config": self._config,
            "events": self._events,
            "broker": self._broker,
            "call": self._call,
        }

    async def use(self, unit: Unit, use: Use) -> bytes:
        """Use a binding for a function, and give the JSON that comes of it.

        Raises:
            errors.Forbidden: the function was not granted it, or its account may not.
            errors.BadRequest: nobody can use it like that.
            errors.Error: what came of it.
        """
        doing = self._uses.get(use.binding)
        if doing is None:
            raise errors.BadRequest(_ID, f"there is no binding {use.binding!r:.40}")
        check_granted(unit, use)
        client = await self._clients(unit.namespace)
        for last in (False, True):
            header = await self._passes.header(unit.namespace, unit.name)
            try:
                return await doing(unit, client.showing(lambda shown=header: shown), use)  # type: ignore[misc]
            except errors.Unauthorized:
                # Who is deployed anew, or whose account was, has other tokens from then on.
                self._passes.forget(unit.namespace, unit.name)
                if last:
                    raise
        raise AssertionError

    async def _store(self, unit: Unit, client: Client, use: Use) -> bytes:
        table = ServiceStore(RemoteBackend(RpcCaller(client)), unit.name, unit.namespace)
        if use.verb == "get":
            return await _got(table, _text(use, 0, "a key"))
        if use.verb == "set":
            options = _options(use, 2, _Expiry)
            key = _text(use, 0, "a key")
            if len(use.arguments) < 2:
                raise errors.BadRequest(_ID, "store.set takes a key and a value")
            await table.set(key, use.arguments[1], expiry=options.expiry)
            return _NULL
        if use.verb == "delete":
            await table.delete(_text(use, 0, "a key"))
            return _NULL
        if use.verb == "list":
            asked = _options(use, 0, _Listing)
            if not 1 <= asked.limit <= MAX_KEYS:
                raise errors.BadRequest(_ID, f"limit is 1 to {MAX_KEYS}, not {asked.limit}")
            return codec.encode(
                await table.list(asked.prefix, limit=asked.limit, after=asked.after)
            )
        raise _unknown(use, "get, set, delete and list")

    async def _config(self, unit: Unit, client: Client, use: Use) -> bytes:
        if use.verb != "get":
            raise _unknown(use, "get")
        path = use.arguments[0] if use.arguments else ""
        if not isinstance(path, str):
            raise errors.BadRequest(_ID, f"config.get takes a path, not {path!r:.80}")
        # What stands under its own name, as of services: those of `shop.cart` under shop, cart.
        whole = (*unit.name.split("."), *paths.parse(path))
        config = ConfigClient(client, unit.namespace)
        value = await config.get(paths.write(whole), secret=True)
        return codec.encode(value.json()) if value.exists() else _NULL

    async def _events(self, unit: Unit, client: Client, use: Use) -> bytes:
        if use.verb != "publish":
            raise _unknown(use, "publish")
        topic, payload, about = _published(use)
        metadata = {**_traced(), **check_metadata(about.metadata)}
        draft = Draft(topic, payload, key=about.key, metadata=metadata)
        (receipt,) = await RemoteLog(client).publish(draft)
        return codec.encode({"id": receipt.id})

    async def _broker(self, unit: Unit, client: Client, use: Use) -> bytes:
        if use.verb != "publish":
            raise _unknown(use, "publish")
        topic, payload, about = _published(use)
        headers = checked(topic, payload, {**_traced(), **about.metadata})
        request = broker_wire.PublishRequest(topic, broker_wire.Message(headers, payload))
        body = codec.encode(request)
        await client.call(broker_wire.NAME, "Broker.Publish", body, retry=False)
        return _NULL

    async def _call(self, unit: Unit, client: Client, use: Use) -> bytes:
        service, endpoint = callee(use.verb)
        body = codec.encode(use.arguments[0]) if use.arguments else b"{}"
        here = context.current()
        return await client.call(service, endpoint, body, timeout=here.remaining())


def check_granted(unit: Unit, use: Use) -> None:
    """Refuse what a function was not granted; the way out is told.

    A bare ``call`` is for what was deployed; the platform's own services are named.

    Raises:
        errors.Forbidden: it was not.
        errors.BadRequest: what is to be called has no such name.
    """
    if use.binding != "call":
        if use.binding in unit.grants:
            return
        wanted = use.binding
    else:
        service, endpoint = callee(use.verb)
        if "call" in unit.grants and service not in names.RESERVED:
            return
        for grant in unit.grants:
            kind, _, named = grant.partition(":")
            if kind == "call" and named and (named == service or _same(named, service, endpoint)):
                return
        wanted = f"call:{use.verb}"
    raise errors.Forbidden(
        _ID,
        f"{unit.name} was not granted {wanted[:120]}; deploy it with `--grant {wanted[:120]}`",
    )


def callee(named: str) -> tuple[str, str]:
    """The service and the endpoint of ``users.read``, or of ``users.Users.Read``.

    Raises:
        errors.BadRequest: it names none.
    """
    service, dot, word = named.rpartition(".")
    if not dot:
        return names.check_service(named), names.default_endpoint(named)
    before, dot, handler = service.rpartition(".")
    if dot and handler[:1].isupper() and word[:1].isupper():
        service, word = before, f"{handler}.{word}"
    names.check_service(service)
    return service, names.check_endpoint(names.endpoint_name(service, word))


def _same(named: str, service: str, endpoint: str) -> bool:
    try:
        return callee(named) == (service, endpoint)
    except errors.BadRequest:
        return False


async def _got(table: Store, key: str) -> bytes:
    try:
        record = await table.read(key)
    except errors.NotFound as error:
        if error.id != "store":
            raise
        return _NULL
    try:
        msgspec.json.decode(record.value, type=msgspec.Raw)
    except codec.DECODE_ERRORS:
        # Somebody has put there what is no JSON, as `micro store write` does.
        return codec.encode(record.value.decode("utf-8", "replace"))
    return record.value


def _published(use: Use) -> tuple[str, bytes, _Publishing]:
    if len(use.arguments) < 2:
        raise errors.BadRequest(_ID, f"{use.binding}.publish takes a topic and a payload")
    topic = _text(use, 0, "a topic")
    return topic, codec.encode(use.arguments[1]), _options(use, 2, _Publishing)


def _traced() -> dict[str, str]:
    trace = context.current().trace
    return {TRACE: trace} if trace else {}


def _text(use: Use, at: int, what: str) -> str:
    found = use.arguments[at] if len(use.arguments) > at else None
    if not isinstance(found, str) or not found:
        raise errors.BadRequest(_ID, f"{use.binding}.{use.verb[:40]} takes {what}, a text")
    return found


def _options(use: Use, at: int, kind: type[T]) -> T:
    given = use.arguments[at] if len(use.arguments) > at else None
    if given is None:
        return kind()
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as exc:
        raise errors.BadRequest(_ID, f"{use.binding}.{use.verb}: {exc}") from None


def _unknown(use: Use, there: str) -> errors.BadRequest:
    return errors.BadRequest(_ID, f"{use.binding} has no {use.verb!r:.40}; it has {there}")
