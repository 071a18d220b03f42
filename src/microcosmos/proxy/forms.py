"""How the messages of one call are written: as JSON, or as protobuf."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from microcosmos.base import codec

from .files import Method

LARGE = 64 * 1024
"""Bytes from which on a payload is converted in a thread: about 10 ms of work."""


class Forms(Protocol):
    """Makes JSON of the messages of a call, and messages of JSON."""

    async def read(self, message: bytes) -> bytes:
        """The JSON of a request.

        Raises:
            errors.BadRequest: it is no such message.
        """

    async def write(self, body: bytes) -> bytes:
        """The message of an answer.

        Raises:
            errors.InternalServerError: the answer is not of its published shape.
        """


class Json:
    """Messages that are JSON already."""

    async def read(self, message: bytes) -> bytes:
        return message or b"{}"

    async def write(self, body: bytes) -> bytes:
        return body


JSON = Json()


class Protobuf:
    """Messages of a method.

    Args:
        method: what they are.
        service: whose.
    """

    def __init__(self, method: Method, service: str) -> None:
        self._method = method
        self.service = service

    async def read(self, message: bytes) -> bytes:
        return await _turned(self._method.request.to_json, message, self.service)

    async def write(self, body: bytes) -> bytes:
        return await _turned(self._method.response.from_json, body, self.service)

    async def value(self, message: bytes) -> Any:
        """What the JSON of a request says.

        Raises:
            errors.BadRequest: it is no such message.
        """
        return codec.decode(await self.read(message), id=self.service)

    async def of_value(self, value: Any) -> bytes:
        """The message of an answer that is no JSON yet."""
        return await self.write(codec.encode(value))


class Proto3Json(Protobuf):
    """Messages of a method in proto3's JSON, as clients made from a .proto file write it."""

    async def read(self, message: bytes) -> bytes:
        return await _turned(self._method.request.from_proto3, message, self.service)

    async def write(self, body: bytes) -> bytes:
        return await _turned(self._method.response.to_proto3, body, self.service)


async def _turned(turn: Callable[[bytes, str], bytes], data: bytes, service: str) -> bytes:
    """One form of a payload made of the other, without keeping other calls waiting for long."""
    if len(data) < LARGE:
        return turn(data, service)
    return await asyncio.to_thread(turn, data, service)
