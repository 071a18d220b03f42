"""The headers of messages: what may be sent, what travels by itself, what a handler gets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from microcosmos.base import context, errors, topics
from microcosmos.base.context import AUTHORIZATION, NAMESPACE, TRACE, Metadata

from .interface import KEY, MAX_BODY

CONTENT_TYPE = "Content-Type"
JSON = "application/json"
BYTES = "application/octet-stream"

MAX_QUEUE = 100
"""The longest name of a queue, in characters."""

_OURS = ("Micro-", "Nats-")
_LET_IN = frozenset((KEY, TRACE))


def checked(topic: str, body: bytes, headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers of a message as they are sent; what a message cannot have is refused.

    Raises:
        errors.BadRequest: no topic, no bytes, or headers that cannot be sent.
        errors.TooLarge: the body is over `MAX_BODY`.
    """
    topics.check_topic(topic)
    if not isinstance(body, bytes):
        raise errors.BadRequest("broker", f"a body is bytes, not a {type(body).__name__}")
    if len(body) > MAX_BODY:
        raise too_large(len(body))
    sent: dict[str, str] = {}
    for name, value in headers.items() if headers else ():
        # The usual value is quickly seen to be one.
        if not (isinstance(value, str) and value.isprintable()):
            context.sendable(name, value)
        sent[_titled(name)] = value.strip()
    return sent


@lru_cache(maxsize=2048)
def _titled(name: str) -> str:
    titled, _ = context.sendable(name, "")
    if not _may_be_sent(titled):
        raise errors.BadRequest(
            "metadata", f"the header {titled} is not for messages: leave it out"
        )
    return titled


def too_large(size: int, limit: int = MAX_BODY) -> errors.TooLarge:
    """The 413 of a message over a limit."""
    detail = f"the message has {size} bytes; the limit is {limit}: put it into a blob"
    return errors.TooLarge("broker", detail)


def check_queue(queue: str) -> str:
    """The name of a queue, or an empty text for none.

    Raises:
        errors.BadRequest: it cannot be one.
    """
    try:
        if queue == "" or (len(queue) <= MAX_QUEUE and topics.check_topic(queue)):
            return queue
    except (errors.BadRequest, TypeError):
        pass
    detail = (
        f"{queue!r:.80} is no name of a queue; one is letters, digits and _ - : @ / + = ~ with "
        f"dots between them, {MAX_QUEUE} characters at most"
    )
    raise errors.BadRequest("broker", detail)


def travelling() -> dict[str, str]:
    """What a message takes along from the call or message that is being handled.

    A trace always, the metadata otherwise; never who called: a token is not for everybody.
    """
    here = context.current_or_none()
    sent = {}
    if here is not None:
        sent = {k: v for k, v in here.outgoing().items() if k != KEY and _may_be_sent(k)}
    if TRACE not in sent:
        sent[TRACE] = context.new_trace()
    return sent


def received(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers as subscribers get them, whoever sent them in whatever case."""
    if not headers:
        return {}
    titled = {context.title(name): value for name, value in headers.items()}
    return {name: value for name, value in titled.items() if _may_be_sent(name)}


def metadata_of(headers: Mapping[str, str], namespace: str) -> Metadata:
    """The metadata that a handler of a message has, with a trace of its own if there is none."""
    inner = {name: value for name, value in headers.items() if name != KEY}
    if TRACE not in inner:
        inner[TRACE] = context.new_trace()
    if namespace != context.DEFAULT_NAMESPACE:
        inner[NAMESPACE] = namespace
    return Metadata.wrap(inner)


def _may_be_sent(name: str) -> bool:
    if name.startswith(_OURS):
        return name in _LET_IN
    return name != AUTHORIZATION
