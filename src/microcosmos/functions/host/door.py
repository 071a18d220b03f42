"""Functions as services: each is one, with the endpoint ``Name.Call``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from microcosmos.base import codec, context, errors, names
from microcosmos.base.context import AUTHORIZATION, DEFAULT_NAMESPACE, NAMESPACE
from microcosmos.rpc import Call, Client, Endpoint, Hosted, Server
from microcosmos.rpc.server import Verifier

from .running import Answer, Runner

SCHEMA = b'{"request":{},"response":{}}'
"""What a function takes and gives: any JSON."""

RETRY = {"retry": "false"}
"""Metadata of the endpoint: nobody knows whether a function may be run twice."""

_NOT_SENT = frozenset((AUTHORIZATION, "Content-Type", "Content-Length", "Timeout", NAMESPACE))


class NamespaceDoor(Server):
    """Answers calls to the functions of one namespace, which are made known when they are called.

    Args:
        namespace: which.
        runner: runs them.
        known: whether there is a function of a name.
        verifier: says who calls.
        client: what is told to be the process's own.
    """

    def __init__(
        self,
        namespace: str,
        runner: Runner,
        known: Callable[[str], bool],
        verifier: Verifier | None = None,
        client: Client | None = None,
    ) -> None:
        # What comes by the account of a namespace is of that one, whatever it says.
        only = "" if namespace == DEFAULT_NAMESPACE else namespace
        super().__init__(verifier=verifier, client=client, namespace=only)
        self._of = namespace
        self._runner = runner
        self._known = known

    async def handle(self, call: Call) -> bytes:
        """See `Server.handle`."""
        self._know(call.service)
        return await super().handle(call)

    async def stream(
        self,
        call: Call,
        messages: AsyncIterator[bytes],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """See `Server.stream`."""
        self._know(call.service)
        await super().stream(call, messages, send)

    def _know(self, name: str) -> None:
        if not self._known(name):
            self.services.pop(name, None)
        elif name not in self.services:
            self.services[name] = self._hosted(name)

    def _hosted(self, name: str) -> Hosted:
        async def post(body: bytes) -> bytes:
            here = context.current()
            headers = [
                ("content-type", "application/json"),
                *((key.lower(), value) for key, value in _sent(here).items()),
            ]
            answer = await self._runner.post(self._of, name, headers, body, here.remaining())
            return reply(name, answer)

        endpoint = names.default_endpoint(name)
        return Hosted(name, [Endpoint(endpoint, post, metadata=RETRY, schema=SCHEMA)])


class Door(Server):
    """Answers on the host's lane: for the host's own services, and for functions.

    Args:
        verifier: says who calls.
        namespaces: what answers in each.
    """

    def __init__(
        self, verifier: Verifier | None, namespaces: Callable[[str], NamespaceDoor | None]
    ) -> None:
        super().__init__(verifier=verifier)
        self._namespaces = namespaces
        self._doors: set[NamespaceDoor] = set()

    async def handle(self, call: Call) -> bytes:
        """See `Server.handle`."""
        if call.service in self.services:
            return await super().handle(call)
        return await self._door(call).handle(call)

    async def stream(
        self,
        call: Call,
        messages: AsyncIterator[bytes],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """See `Server.stream`."""
        if call.service in self.services:
            await super().stream(call, messages, send)
        else:
            await self._door(call).stream(call, messages, send)

    async def drain(self, timeout: float) -> bool:
        """See `Server.drain`."""
        doors = [door.drain(timeout) for door in self._doors]
        return all(await asyncio.gather(super().drain(timeout), *doors))

    def _door(self, call: Call) -> NamespaceDoor:
        namespace = call.metadata.get(NAMESPACE, DEFAULT_NAMESPACE)
        door = self._namespaces(namespace)
        if door is None:
            raise errors.NotFound("rpc", f"service {call.service} is not here")
        self._doors.add(door)
        return door


def reply(name: str, answer: Answer) -> bytes:
    """The JSON of a call that a function has answered by HTTP.

    Text is a JSON string, anything else than JSON and text one in base64.

    Raises:
        errors.Error: the answer is none of success; it has the same code.
        errors.BadGateway: it says that it is JSON, and is not.
    """
    if not 200 <= answer.status <= 299:
        raise _failure(name, answer)
    if not answer.body:
        return b"{}"
    kind = answer.content_type
    if kind == "application/json" or kind.endswith("+json"):
        try:
            msgspec.json.decode(answer.body, type=msgspec.Raw)
        except codec.DECODE_ERRORS as exc:
            detail = f"{name} says that its answer is JSON, and it is not: {exc}"
            raise errors.BadGateway(name, detail) from None
        return answer.body
    try:
        if not kind or kind.startswith("text/"):
            return codec.encode(answer.body.decode())
    except UnicodeDecodeError:
        pass
    return codec.encode(base64.b64encode(answer.body).decode())


def _failure(name: str, answer: Answer) -> errors.Error:
    if answer.body[:1] == b"{" and b'"code"' in answer.body[:64_000].lower():
        error = errors.from_wire(answer.body)
        if error.code == answer.status:
            return error
    if not 400 <= answer.status <= 599:
        return errors.BadGateway(name, f"{name} answered a call with status {answer.status}")
    text = " ".join(answer.body[:2000].decode("utf-8", "replace").split())
    return errors.of_code(answer.status, name, text)


def _sent(here: context.Context) -> dict[str, str]:
    """The metadata that a function sees: not what proves who calls."""
    return {name: value for name, value in here.outgoing().items() if name not in _NOT_SENT}
