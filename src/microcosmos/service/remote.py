"""Other services as objects: by name, or by a class that says what they answer."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar, cast, overload

import msgspec

from microcosmos.base import codec, context, errors, names
from microcosmos.rpc import Stream
from microcosmos.rpc.client import Client as RpcClient

T = TypeVar("T")
Carrier = Callable[[], RpcClient]


class Remote:
    """A service somewhere else.

    ``await users.read(id="1")`` calls ``Users.Read`` with ``{"id": "1"}`` and gives the decoded
    answer; one positional argument is the whole request. `invoke` does the same by text, and
    takes a timeout; `stream` opens a stream. With an interface, its methods say what the answers
    are decoded into, and other names are refused.

    Args:
        name: the service's name.
        carrier: gives what carries the calls, when one is made.
        interface: a class with async methods named and typed like the service's endpoints.
        as_self: calls are this process's own, even while it serves somebody.
    """

    def __init__(
        self,
        name: str,
        carrier: Carrier,
        interface: Callable[..., Any] | None = None,
        *,
        as_self: bool = False,
    ) -> None:
        self._name = names.check_service(name)
        self._as_self = as_self
        self._carrier = carrier
        self._interface = interface

    def __repr__(self) -> str:
        return f"<client of {self._name}>"

    async def invoke(
        self,
        endpoint: str,
        request: Any = None,
        *,
        type: Any = Any,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        retry: bool = True,
    ) -> Any:
        """Call an endpoint (``Read`` or ``Users.Read``) and decode its answer into ``type``.

        Raises:
            errors.Error: what the service answered, or what became of the call.
        """
        full_name = names.endpoint_name(self._name, endpoint)
        answer = await self._carrier().call(
            self._name,
            full_name,
            codec.encode({} if request is None else request),
            metadata=metadata,
            timeout=timeout,
            retry=retry,
            as_self=self._as_self,
        )
        try:
            return msgspec.json.decode(answer, type=type)
        except codec.DECODE_ERRORS as exc:
            raise _unexpected(self._name, full_name, exc) from None

    def stream(
        self,
        endpoint: str,
        request: Any = None,
        *,
        type: Any = Any,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> RemoteStream:
        """Open a stream with an endpoint (``Watch`` or ``Users.Watch``); see `RemoteStream`.

        Args:
            endpoint: which.
            request: what comes before the caller's own messages.
            type: what each message of the answer is decoded into.
            metadata: what travels beside the request.
            timeout: seconds for all of the stream; without one it lasts as long as both ends.
        """
        full_name = names.endpoint_name(self._name, endpoint)
        body = codec.encode({} if request is None else request)
        opening = self._carrier().stream(
            self._name,
            full_name,
            body,
            metadata=metadata,
            timeout=timeout,
            as_self=self._as_self,
        )
        decode = msgspec.json.Decoder(type).decode
        return RemoteStream(opening, decode, f"{self._name} {full_name}")

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(method)
        ask = self._method(method)
        # Found by the next access without a call of this function.
        self.__dict__[method] = ask
        return ask

    def _method(self, method: str) -> Callable[..., Awaitable[Any]]:
        service, carrier, as_self = self._name, self._carrier, self._as_self
        endpoint = names.endpoint_name(service, method)
        decode = msgspec.json.Decoder(_returns(self._interface, method)).decode

        async def ask(*whole: Any, **fields: Any) -> Any:
            if len(whole) > 1 or (whole and fields):
                raise TypeError(f"{service}.{method}: give one whole request, or named fields")
            body = codec.encode(whole[0] if whole else fields)
            answer = await carrier().call(service, endpoint, body, as_self=as_self)
            try:
                return decode(answer)
            except codec.DECODE_ERRORS as exc:
                raise _unexpected(service, endpoint, exc) from None

        return ask


class RemoteStream:
    """A stream with a service somewhere else.

        async for user in users.stream("Watch", {"team": "a"}):
            ...

        async with chat.stream("Talk", {"room": "1"}) as talk:
            await talk.send({"text": "hi"})
            async for message in talk:
                ...

    Leaving the block, or the loop without one, gives the stream up if it has not ended.
    """

    def __init__(
        self,
        opening: AbstractAsyncContextManager[Stream],
        decode: Callable[[bytes], Any],
        name: str,
    ) -> None:
        self._opening = opening
        self._decode = decode
        self._name = name
        self._stream: Stream | None = None

    async def __aenter__(self) -> RemoteStream:
        self._stream = await self._opening.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opening.__aexit__(kind, exc, trace)

    async def send(self, message: Any) -> None:
        """Send a message; waits while the other side is too far behind.

        Raises:
            errors.Conflict: the stream has ended.
            errors.Error: what ended it.
        """
        await self._entered().send(codec.encode(message))

    async def end(self) -> None:
        """Say that no more messages come from here; those of the other side still do."""
        await self._entered().end()

    async def aclose(self) -> None:
        """Give the stream up, if it has not ended."""
        if self._stream is not None:
            await self._stream.close()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._all() if self._stream is None else self

    async def __anext__(self) -> Any:
        # Once a message, so it is written out: each call would cost as much as decoding it.
        stream = self._stream or self._entered()
        message = await stream.__anext__()
        try:
            return self._decode(message)
        except codec.DECODE_ERRORS as exc:
            service, _, endpoint = self._name.partition(" ")
            raise _unexpected(service, endpoint, exc) from None

    async def _all(self) -> AsyncIterator[Any]:
        """The messages of a stream that was not opened before, and is closed after them."""
        async with self:
            async for message in self:
                yield message

    def _entered(self) -> Stream:
        if self._stream is None:
            raise RuntimeError("open the stream first: async with … as stream")
        return self._stream


def _unexpected(service: str, endpoint: str, exc: Exception) -> errors.BadGateway:
    """An answer that is not what the interface says: not the caller's fault, nor a bad request."""
    return errors.BadGateway(service, f"{endpoint} answered something else than promised: {exc}")


def _returns(interface: Callable[..., Any] | None, method: str) -> Any:
    if interface is None:
        return Any
    function = inspect.getattr_static(interface, method, None)
    if function is None:
        raise AttributeError(f"{interface} has no method {method}")
    kind = typing.get_type_hints(function).get("return", Any)
    # An answer of None travels as an empty object.
    return dict if kind is type(None) else kind


def _of_this_call() -> RpcClient:
    client = context.current().client
    if client is None:
        raise RuntimeError(
            "a Client made outside of a service is used while a service handles a call; "
            "elsewhere use `async with connect() as platform: platform.client(...)`"
        )
    return cast("RpcClient", client)


@overload
def Client(name: str, *, as_self: bool = False) -> Remote: ...
@overload
def Client(name: str, interface: Callable[..., T], *, as_self: bool = False) -> T: ...
def Client(  # noqa: N802 - reads as a class
    name: str, interface: Callable[..., T] | None = None, *, as_self: bool = False
) -> Remote | T:
    """A client of a service, for use wherever a service handles a call.

    Args:
        name: the service's name.
        interface: a class with async methods like the service's endpoints; the client is typed
            as one.
        as_self: calls are this service's own, not made for whom it serves.
    """
    return remote(name, interface, _of_this_call, as_self=as_self)


def remote(
    name: str,
    interface: Callable[..., T] | None,
    carrier: Carrier,
    *,
    as_self: bool = False,
) -> Remote | T:
    """A `Remote`, typed as its interface where there is one."""
    made = Remote(name, carrier, interface, as_self=as_self)
    return made if interface is None else cast("T", made)
