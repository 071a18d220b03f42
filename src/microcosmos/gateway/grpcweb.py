"""gRPC-Web on the gateway's port: what browsers speak, passed on to the proxy as gRPC.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md has the form: messages are framed as
in gRPC, and the trailers are one more frame at the end of the body. The payloads are the proxy's
to understand; here they are bytes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import importlib
import logging
import re
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from granian._granian import RSGIProtocolClosed, RSGIProtocolError

from microcosmos.base import context, errors
from microcosmos.rpc import MAX_BODY

from .answer import Header
from .front.addresses import canonical
from .receive import discard, receive

log = logging.getLogger("microcosmos.gateway")

KIND = "application/grpc-web"
"""What the content type of such a request begins with."""

_TEXT = f"{KIND}-text"
_CODECS = frozenset(("", "proto", "json"))
_LARGEST = MAX_BODY + 64 * 1024
_TRAILERS = 0x80
_PADDED = re.compile(rb"[^=]+={0,2}")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NAME = re.compile(r"[0-9a-z_.-]+")
_ADDRESS = context.CLIENT_ADDRESS.lower()
_GONE = (RSGIProtocolClosed, RSGIProtocolError)

# These speak of this connection and of the framing, not of the call.
_OWN = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        _ADDRESS,
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-content-type",
        "x-grpc-web",
        "x-user-agent",
    )
)
_EXPOSED = ("grpc-status", "grpc-message", "grpc-status-details-bin")

# Statuses of gRPC for what is refused here; the proxy has the others.
_CODES = {400: 3, 408: 4, 413: 8, 501: 12, 503: 14}
_INTERNAL = 13
_UNAVAILABLE = 14

Metadata = Iterable[tuple[str, str | bytes]]


@contextlib.asynccontextmanager
async def open_grpc_web(target: str) -> AsyncIterator[GrpcWeb]:
    """What answers gRPC-Web until the block ends.

    Args:
        target: the proxy, as gRPC names it: ``unix:`` and a path, or ``host:port``.
    """
    web = GrpcWeb(target)
    try:
        yield web
    finally:
        await web.close()


class GrpcWeb:
    """Passes requests on to the proxy, and its answers back, each message as it comes.

    Args:
        target: the proxy; it is connected to with the first request.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel: Any = None
        self._opening = asyncio.Lock()

    @staticmethod
    def asked(scope: Any, request: dict[str, str]) -> bool:
        """Whether a request is one of these."""
        return scope.method == "POST" and request.get("content-type", "").startswith(KIND)

    async def close(self) -> None:
        """End what is under way."""
        if self._channel is not None:
            await self._channel.close()

    async def answer(self, scope: Any, proto: Any, request: dict[str, str], timeout: float) -> None:
        """Answer a request; whatever goes wrong is told in its trailers.

        Args:
            scope: where it goes.
            proto: its body, and its answer.
            request: its headers.
            timeout: seconds that its client may take to send the body.
        """
        reply = _Reply(proto, request)
        try:
            sent = _Request(request, await receive(proto, request, timeout))
            sent.metadata.append((_ADDRESS, canonical(scope.client)))
            channel = self._channel or await self._open()
            call = _call(channel, scope.path, sent)
        except errors.Error as error:
            await reply.end(_CODES.get(error.code, _INTERNAL), error.detail, ())
            if error.code != 408:
                await discard(proto, request)
            return
        leaving = proto.client_disconnect()
        leaving.add_done_callback(lambda left: left.cancelled() or call.cancel())
        try:
            await _pass_back(call, reply)
        except _GONE:
            log.debug("the client of %s has gone", scope.path)
        except asyncio.CancelledError:
            # The client has gone, or the time to drain is over; this task ends here either way.
            with contextlib.suppress(*_GONE):
                await reply.end(_UNAVAILABLE, "the gateway stopped before the answer came", ())
        finally:
            leaving.cancel()
            call.cancel()

    async def _open(self) -> Any:
        async with self._opening:
            if self._channel is None:
                # It takes a while, and other requests should not wait for it.
                aio = await asyncio.to_thread(importlib.import_module, "grpc.aio")
                options = (
                    ("grpc.max_receive_message_length", -1),
                    ("grpc.max_send_message_length", -1),
                    ("grpc.enable_retries", 0),
                    # A proxy that comes back is found soon.
                    ("grpc.max_reconnect_backoff_ms", 1_000),
                )
                self._channel = aio.insecure_channel(self._target, options=options)
        return self._channel


def _call(channel: Any, path: str, sent: _Request) -> Any:
    about = {"metadata": sent.metadata, "timeout": sent.timeout}
    if len(sent.messages) == 1:
        # At once with the head: where a message follows by itself, gRPC takes it for an error of
        # its own, INTERNAL, that the proxy has refused the call before that was written.
        return channel.unary_stream(path)(sent.messages[0], **about)
    return channel.stream_stream(path)(_each(sent.messages), **about)


async def _each(messages: Sequence[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def _pass_back(call: Any, reply: _Reply) -> None:
    from grpc import aio

    try:
        async for message in call:
            if not reply.begun:
                reply.begin(await call.initial_metadata())
            await reply.send(message)
        code, text = await call.code(), await call.details()
        trailers = await call.trailing_metadata()
    except aio.AioRpcError as exc:
        code, text, trailers = exc.code(), exc.details(), exc.trailing_metadata()
        if code.value[0] == _UNAVAILABLE and not trailers:
            # gRPC's own words name our socket.
            text = "the proxy is away; try again later"
    await reply.end(code.value[0], text or "", trailers or ())


class _Request:
    """What a request says.

    Attributes:
        messages: the messages in it.
        metadata: what travels beside them.
        timeout: seconds that its client waits, or None.

    Raises:
        errors.BadRequest: it is not framed as it should be.
        errors.TooLarge: a message is over the limit once it is unpacked.
        errors.Unimplemented: a codec or compression that nobody knows.
    """

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        kind = headers["content-type"].partition(";")[0].strip().lower()
        text = kind.startswith(_TEXT)
        codec = kind.removeprefix(_TEXT if text else KIND).removeprefix("+")
        if codec not in _CODECS:
            raise errors.Unimplemented("gateway", f"{kind[:80]}: use +proto or +json")
        packing = headers.get("grpc-encoding", "identity")
        self.messages = list(_messages(_from_text(body) if text else body, packing))
        self.metadata: list[tuple[str, str | bytes]] = list(_metadata(headers))
        self.metadata.append(("x-content-type", f"application/grpc+{codec or 'proto'}"))
        self.timeout = _timeout(headers.get("grpc-timeout", ""))


def _from_text(body: bytes) -> bytes:
    try:
        # Each part may have been padded for itself.
        parts = _PADDED.findall(b"".join(body.split()))
        return b"".join(base64.b64decode(part, validate=True) for part in parts)
    except binascii.Error:
        raise errors.BadRequest("gateway", "the body is no base64") from None


def _messages(body: bytes, packing: str) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        flags, size = body[at], int.from_bytes(body[at + 1 : at + 5], "big")
        message = body[at + 5 : at + 5 + size]
        if at + 5 + size > len(body):
            raise errors.BadRequest("gateway", "the last message of the body is cut off")
        at += 5 + size
        if not flags & _TRAILERS:
            yield _unpacked(message, packing) if flags & 1 else message


def _unpacked(message: bytes, packing: str) -> bytes:
    if packing not in ("gzip", "deflate"):
        raise errors.Unimplemented("gateway", f"grpc-encoding {packing[:40]!r}: use gzip")
    unpacker = zlib.decompressobj(wbits=47)
    try:
        unpacked = unpacker.decompress(message, _LARGEST)
    except zlib.error:
        raise errors.BadRequest("gateway", f"a message is not packed by {packing}") from None
    if unpacker.unconsumed_tail:
        raise errors.TooLarge("gateway", f"a message is over the limit of {MAX_BODY} bytes")
    return unpacked


def _metadata(headers: dict[str, str]) -> Iterator[tuple[str, str | bytes]]:
    for name, value in headers.items():
        if name in _OWN or name.startswith("grpc-") or not _NAME.fullmatch(name):
            continue
        if name.endswith("-bin"):
            yield name, _bytes(name, value)
        elif value.isascii() and value.isprintable():
            yield name, value


def _bytes(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise errors.BadRequest("gateway", f"the header {name[:40]} is no base64") from None


def _timeout(text: str) -> float | None:
    if not text:
        return None
    if not (found := _TIMEOUT.fullmatch(text)):
        raise errors.BadRequest("gateway", f"grpc-timeout {text[:20]!r} is none")
    return int(found[1]) * _SECONDS[found[2]]


class _Reply:
    """An answer: messages, then trailers.

    Attributes:
        begun: whether its headers are on their way.
    """

    def __init__(self, proto: Any, request: dict[str, str]) -> None:
        self._proto = proto
        self._origin = request.get("origin", "")
        self._kind = request["content-type"].partition(";")[0].strip()
        self._text = self._kind.lower().startswith(_TEXT)
        self._body: Any = None

    @property
    def begun(self) -> bool:
        return self._body is not None

    def begin(self, metadata: Metadata) -> None:
        """Send the headers."""
        self._body = self._proto.response_stream(200, self._headers(metadata))

    def _headers(self, metadata: Metadata) -> list[Header]:
        told = list(_told(metadata))
        headers = [("content-type", self._kind), *told]
        if self._origin:
            shown = ", ".join((*_EXPOSED, *dict(told)))
            headers.append(("access-control-allow-origin", self._origin))
            headers.append(("access-control-expose-headers", shown))
            headers.append(("vary", "Origin"))
        return headers

    async def send(self, message: bytes) -> None:
        """Send a message; waits while its client is behind."""
        await self._body.send_bytes(self._frame(0, message))

    def _frame(self, flags: int, data: bytes) -> bytes:
        frame = bytes((flags,)) + len(data).to_bytes(4, "big") + data
        return base64.b64encode(frame) if self._text else frame

    async def end(self, code: int, text: str, metadata: Metadata) -> None:
        """Send the trailers: how it ended."""
        lines = [("grpc-status", str(code)), *_told(metadata)]
        if text:
            lines.insert(1, ("grpc-message", quote(text, safe=" !#$&'()*+,/:;=?@[]")))
        trailers = "".join(f"{name}: {value}\r\n" for name, value in lines)
        frame = self._frame(_TRAILERS, trailers.encode())
        if self.begun:
            await self._body.send_bytes(frame)
        else:
            self._proto.response_bytes(200, self._headers(()), frame)


def _told(metadata: Metadata) -> Iterator[Header]:
    """Metadata as headers: the bytes of ``-bin`` names are base64."""
    for name, value in metadata:
        if isinstance(value, bytes):
            yield name, base64.b64encode(value).rstrip(b"=").decode()
        else:
            yield name, value
