"""What the engine is asked, and what its refusals mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.base import errors

from .layout import NANOSECONDS, STREAM, selected

PATIENCE = 5.0
"""Seconds that the engine has for an answer."""

BATCH = 1000
"""Messages that are read at once, at most."""

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes that are read at once, at most, so that no reader fills the memory."""

COARSE = 0.5e-6
"""Seconds that the time of an event may be off as a float: it is not to be missed for that."""

NOT_CLUSTERED = 10074
TOO_FEW = 10005
STREAM_MISSING = 10059
STREAM_OTHERWISE = 10058
CONSUMER_MISSING = 10014
CONSUMER_EXISTS = 10148
BATCH_INCOMPLETE = 10176
BATCHES_TOO_MANY = 10210
DUPLICATES = 10201
LAST_ID = 10070
MESSAGE_MISSING = 10043

# The stream could not be written to; no space or memory is left for JetStream.
_FULL = frozenset({10023, 10028, 10047, 10077})
_SUBJECTS = 100_000
_SEQUENCE = "Nats-Sequence"


class Frozen(errors.Unavailable):
    """The engine could not write, and takes nothing any more until it is started again."""


class Refused(Exception):
    """The engine says no.

    Attributes:
        code: JetStream's own, of its table of errors.
        error: for people.
        again: it was asked more than once, and may have said yes before.
    """

    def __init__(self, said: dict[str, Any], *, again: bool = False) -> None:
        self.again = again
        self.code = int(said.get("err_code") or 0)
        self.status = int(said.get("code") or 500)
        text = str(said.get("description") or "no reason was given")
        super().__init__(text)
        self.error = self._meaning(text)

    @property
    def passing(self) -> bool:
        """Whether it may be otherwise soon: nobody is in charge just now."""
        return self.status == 503 and self.code not in _FULL

    def _meaning(self, text: str) -> errors.Error:
        if self.code in _FULL or "no space left" in text:
            return errors.Unavailable(
                "events", f"the engine cannot store anything, its disk may be full: {text}"
            )
        if self.status == 400:
            return errors.BadRequest("events", f"the engine refuses it: {text}")
        if self.status in (404, 503):
            return errors.Unavailable("events", f"the engine's JetStream: {text}")
        return errors.InternalServerError("events", f"the engine's JetStream: {text}")


class Found(msgspec.Struct):
    """A message that was read."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    sequence: int
    stored: float


class Api:
    """JetStream's API in one account.

    Args:
        nc: a connection that may use it.
    """

    def __init__(self, nc: NatsClient) -> None:
        self.nc = nc

    async def __call__(self, subject: str, body: Any = None) -> dict[str, Any]:
        """Ask for something.

        Raises:
            Refused: the engine says no.
            errors.Unavailable: it does not answer.
        """
        answer = await request(
            self.nc, f"$JS.API.{subject}", b"" if body is None else msgspec.json.encode(body)
        )
        said: dict[str, Any] = msgspec.json.decode(answer.data)
        if error := said.get("error"):
            raise Refused(error)
        return said

    async def ask(self, subject: str, body: Any = None) -> dict[str, Any]:
        """Ask for something that the engine has no reason to refuse.

        Raises:
            errors.Error: what it says.
        """
        try:
            return await self(subject, body)
        except Refused as refused:
            raise refused.error from None

    async def subjects(self, stream: str, pattern: str) -> dict[str, int]:
        """The subjects of a stream that are like a pattern, each with its messages."""
        found: dict[str, int] = {}
        while True:
            body = {"subjects_filter": pattern, "offset": len(found)}
            said = await self.ask(f"STREAM.INFO.{stream}", body)
            page = said["state"].get("subjects") or {}
            found.update(page)
            if len(page) < min(said.get("limit") or _SUBJECTS, _SUBJECTS):
                return found

    async def check(self) -> None:
        """See that events can be stored.

        After it could not write, nats-server takes no event of a stream any more, and says nothing
        to who publishes, until it is started again.

        Raises:
            Frozen: they cannot, and why.
            errors.Unavailable: the engine does not answer.
        """
        try:
            # No event is there; whether some could be removed is looked at before.
            await self(f"STREAM.PURGE.{STREAM}", {"filter": selected("-", -1)})
        except Refused as refused:
            raise Frozen(
                "events",
                f"the engine cannot store anything, and has to be started again: {refused}",
            ) from None

    async def last(self) -> int:
        """The sequence of the newest event."""
        return int((await self.ask(f"STREAM.INFO.{STREAM}"))["state"]["last_seq"])

    async def get(self, stream: str, **what: Any) -> Found | None:
        """One message, or None."""
        found = await self._batch(stream, what, 1)
        return found[0] if found else None

    async def read(self, stream: str, after: int, limit: int, pattern: str) -> list[Found]:
        """Messages with a larger sequence, in order: at most so many, fewer when they are large.

        There are no more when none comes.
        """
        body = {
            "seq": after + 1,
            "batch": min(limit, BATCH),
            "max_bytes": BATCH_BYTES,
            "next_by_subj": pattern,
        }
        return await self._batch(stream, body)

    async def since(self, pattern: str, time: float) -> int:
        """The sequence of the first event stored at or after a time; 0 when there is none."""
        moment = _rfc3339(time - COARSE)
        body = {"start_time": moment, "batch": 1, "next_by_subj": pattern}
        found = await self._batch(STREAM, body)
        return found[0].sequence if found else 0

    async def _batch(self, stream: str, body: dict[str, Any], most: int = 0) -> list[Found]:
        if not self.nc.is_connected:
            raise errors.Unavailable("events", "the engine cannot be reached")
        found: list[Found] = []
        inbox = self.nc.new_inbox()
        try:
            answers = await self.nc.subscribe(inbox)
            try:
                subject = f"$JS.API.DIRECT.GET.{stream}"
                await self.nc.publish(subject, msgspec.json.encode(body), reply=inbox)
                while True:
                    answer = await answers.next_msg(PATIENCE)
                    if not (status := _status(answer)):
                        found.append(_found(answer))
                        if len(found) == most:
                            return found
                    elif status in ("204", "404"):
                        return found
                    else:
                        raise errors.Unavailable("events", f"the engine answers {status}")
            finally:
                await answers.unsubscribe()
        except (nats.errors.Error, TimeoutError, OSError) as exc:
            raise unavailable(exc) from None


async def request(nc: NatsClient, subject: str, body: bytes) -> Msg:
    """The engine's answer.

    Raises:
        errors.Unavailable: there is none.
    """
    if not nc.is_connected:
        raise errors.Unavailable("events", "the engine cannot be reached")
    try:
        return await nc.request(subject, body, timeout=PATIENCE)
    except (nats.errors.Error, TimeoutError, OSError) as exc:
        raise unavailable(exc) from None


def unavailable(exc: Exception) -> errors.Unavailable:
    """What it means that nats-py could not."""
    if isinstance(exc, nats.errors.NoRespondersError):
        return errors.Unavailable("events", "the engine has no JetStream just now")
    reason = str(exc) or type(exc).__name__
    return errors.Unavailable("events", f"the engine does not answer: {reason}")


def _status(answer: Msg) -> str:
    # Publishers may have headers of that name.
    headers = answer.headers or {}
    return "" if _SEQUENCE in headers else str(headers.get("Status", ""))


def _found(answer: Msg) -> Found:
    headers = dict(answer.headers or {})
    subject = headers.pop("Nats-Subject")
    sequence = int(headers.pop(_SEQUENCE))
    moment = headers.pop("Nats-Time-Stamp")
    return Found(subject, answer.data, headers, sequence, _seconds(moment))


def _seconds(moment: str) -> float:
    """RFC 3339 with up to nine digits after the seconds, as seconds since the epoch."""
    whole, _, rest = moment.rstrip("Z").partition(".")
    fraction = int(rest.ljust(9, "0")[:9]) / NANOSECONDS if rest else 0.0
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + fraction


def _rfc3339(seconds: float) -> str:
    nanoseconds = round(seconds * NANOSECONDS)
    whole = datetime.fromtimestamp(nanoseconds // NANOSECONDS, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % NANOSECONDS:09d}Z"
