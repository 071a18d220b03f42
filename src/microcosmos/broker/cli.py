"""`micro broker`: publish messages and listen to them."""

from __future__ import annotations

import base64
import itertools
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Protocol

import click
import msgspec

from microcosmos.base import codec, errors

from . import wire
from .headers import BYTES, CONTENT_TYPE, JSON
from .interface import KEY


class Session(Protocol):
    """What these commands ask of the command line."""

    def core(
        self,
        service: str,
        endpoint: str,
        request: Any = None,
        *,
        timeout: float = 10.0,
        retry: bool = True,
    ) -> bytes: ...

    def stream(self, service: str, endpoint: str, body: bytes) -> Iterator[bytes]: ...

    def pairs(self, flag: str, texts: tuple[str, ...]) -> dict[str, str]: ...

    def progress(self, text: str) -> None: ...


@click.group()
def broker() -> None:
    """Publish messages, and listen to them.

    Nobody remembers a message: who does not listen when it is published never gets it. `micro
    events` is for what is to be remembered.
    """


@broker.command(short_help="Send a message to all who listen")
@click.argument("topic")
@click.argument("message")
@click.option("--header", "-H", multiple=True, metavar="name=value", help="What travels beside it.")
@click.option("--key", "-k", default="", help="Messages of one key are handled in order.")
@click.option("--raw", is_flag=True, help="MESSAGE is bytes, not JSON.")
@click.pass_obj
def publish(
    session: Session, topic: str, message: str, header: tuple[str, ...], key: str, raw: bool
) -> None:
    """Send a message to all who listen just now.

    MESSAGE is JSON; `-` reads it from the standard input. Nobody says whether it was heard.
    """
    body = sys.stdin.buffer.read() if message == "-" else message.encode()
    headers = {CONTENT_TYPE: BYTES if raw else JSON, **session.pairs("--header", header)}
    if key:
        headers[KEY] = key
    sent = wire.Message(headers, body if raw else _json(body))
    try:
        session.core(wire.NAME, "Broker.Publish", wire.PublishRequest(topic, sent), retry=False)
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None


class Heard(msgspec.Struct, omit_defaults=True):
    """A message as it is printed.

    Attributes:
        topic: what it was published under.
        headers: its metadata.
        body: its JSON; what is none is base64.
        encoding: ``base64``, or nothing.
    """

    topic: str
    headers: dict[str, str]
    body: Any
    encoding: str = ""

    def readable(self) -> str:
        """One line of JSON, for people too."""
        return codec.encode(self).decode()


@broker.command(short_help="Print messages as they come")
@click.argument("topic")
@click.option("--queue", "-q", default="", help="Share the messages with those of the same queue.")
@click.option("--limit", "-l", type=click.IntRange(0), default=0, help="End after so many.")
@click.pass_obj
def subscribe(session: Session, topic: str, queue: str, limit: int) -> Iterator[Heard]:
    """Print the messages of a topic as they come, a line of JSON each, until Ctrl-C.

    TOPIC may be a pattern: * stands for one part, a last > for all that follow. A body that is no
    JSON is printed in base64.
    """
    request = wire.SubscribeRequest(topic, queue, ready=True)
    return itertools.islice(_heard(session, codec.encode(request)), limit or None)


def _heard(session: Session, request: bytes) -> Iterator[Heard]:
    listening = refused = False
    while True:
        listened, listening = listening, False
        with closing(session.stream(wire.NAME, "Broker.Subscribe", request)) as messages:  # type: ignore[type-var]
            try:
                for body in messages:
                    message = msgspec.json.decode(body, type=wire.Message)
                    if message.topic:
                        yield _shown(message)
                    else:
                        listening = True
                        if not listened:
                            session.progress("Listening; Ctrl-C ends it.")
                return
            except errors.BadRequest as error:
                raise click.UsageError(error.detail) from None
            except errors.Unauthorized as error:
                # A token ends after a while, at worst as the stream begins; the next stream has
                # a new one.
                again, refused = refused, not listening
                if refused and (again or "expired" not in error.detail):
                    raise


def _shown(message: wire.Message) -> Heard:
    try:
        return Heard(message.topic, message.header, msgspec.json.decode(message.body))
    except codec.DECODE_ERRORS:
        text = base64.b64encode(message.body).decode()
        return Heard(message.topic, message.header, text, "base64")


def _json(body: bytes) -> bytes:
    """The message, when it is JSON.

    Raises:
        click.UsageError: it is none.
    """
    try:
        codec.decode(body)
    except errors.BadRequest as error:
        detail = f"the message is no JSON: {error.detail}; --raw sends it as it is"
        raise click.UsageError(detail) from None
    return body
