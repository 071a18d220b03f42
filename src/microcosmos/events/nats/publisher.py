"""Publishing: what was sent and is not acknowledged yet, and sending it again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import nats.errors
from msgspec.structs import replace
from nats.aio.msg import Msg

from microcosmos.base import errors
from microcosmos.events.checks import check_draft, check_drafts
from microcosmos.events.interface import PUBLISH_PATIENCE, Draft, Receipt

from .api import BATCH_INCOMPLETE, BATCHES_TOO_MANY, DUPLICATES, LAST_ID, Refused
from .layout import HEADROOM, ID, TTL, check_size, headers_of, subject
from .link import Link, Signal, Turnstile

log = logging.getLogger("microcosmos.events")

MAX_UNACKED = 4000
"""Events that a process has sent and that are not acknowledged; who publishes more waits."""

MAX_BATCH_BYTES = 64 * 1024 * 1024
"""The largest payloads, together and in bytes, of events that are published at once."""

MAX_BATCHES = 8
"""Batches that a process has under way at once; the engine takes 50 at once from all of them."""

SILENCE = 5.0
"""Seconds without any acknowledgement after which everything is sent again."""

PAUSE = 0.1
"""Seconds until everything is sent again; twice as many each time that it does not help."""

_LONGEST_PAUSE = 1.0

_LARGE = 32 * 1024
_BATCH = "Nats-Batch-Id"
_PLACE = "Nats-Batch-Sequence"
_COMMIT = "Nats-Batch-Commit"
_EXPECTED_LAST = "Nats-Expected-Last-Msg-Id"
_NO_ID = "no id"


class _Ack(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: dict[str, int | str] | None = None


_decode = msgspec.json.Decoder(_Ack).decode


class _Message(msgspec.Struct, gc=False):
    """What is sent for one event."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class _Sent:
    """One message, or several that are stored all or none, and who waits for their being stored."""

    __slots__ = ("future", "messages", "number", "since", "times", "written")

    def __init__(
        self, number: int, messages: Sequence[_Message], future: asyncio.Future[_Ack]
    ) -> None:
        self.number = number
        self.messages = messages
        self.future = future
        self.since = self.written = time.monotonic()
        self.times = 0


class Publisher:
    """Stores messages in streams, again and again by the same ids until they are acknowledged.

    What one process publishes reaches the engine in the order in which it was published, also what
    is sent again after the connection broke.

    Args:
        link: the connection.
        ttl: how long the events of a topic are kept unless they say so themselves.
        check: raises when the engine cannot store anything: then it does not answer, either.
    """

    def __init__(
        self,
        link: Link,
        ttl: Callable[[str], float],
        check: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._check = check
        self._link = link
        self._nc = link.nc
        self._ttl = ttl
        self._inbox = self._nc.new_inbox() + "."
        self._skip = len(self._inbox)
        self._numbers = itertools.count(1)
        self._prefix = str(uuid.uuid4())
        self._ids = itertools.count(1)
        self._pending: dict[int, _Sent] = {}
        self._batches = asyncio.Semaphore(MAX_BATCHES)
        self._room = Signal()
        self._flows = Signal()
        self._turnstile = Turnstile()
        self._flowing = True
        self._troubled = False
        self._pause = PAUSE
        self._heard = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._resending: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Listen to acknowledgements.

        Raises:
            errors.Unavailable: the connection is closed.
        """
        try:
            self._answers = await self._nc.subscribe(
                f"{self._inbox}*", cb=self._answered, pending_bytes_limit=0
            )
        except nats.errors.Error as exc:
            raise _cannot_send(exc) from None
        self._link.add(self)

    async def close(self) -> None:
        """Wait for nothing more: who still does hears that it is not known what is stored."""
        self._link.remove(self)
        if self._watch is not None:
            self._watch.cancel()
        for task in (self._resending, self._checking):
            if task is not None:
                task.cancel()
        for number in list(self._pending):
            self._fail(number, "the connection was closed before it was acknowledged")
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._answers.unsubscribe()

    async def publish(self, drafts: Sequence[Draft]) -> list[Receipt]:
        """See `interface.Log.publish`."""
        if len(drafts) == 1:
            message = self._message(check_draft(self._named(drafts[0])))
            sent = await self._send((message,))
            return [_receipt(message.headers[ID], await self._end(sent), sent.times)]
        checked = check_drafts([self._named(draft) for draft in drafts])
        size = sum(len(draft.payload) for draft in checked)
        if size > MAX_BATCH_BYTES:
            raise errors.TooLarge(
                "events", f"payloads of {size} bytes at once are over {MAX_BATCH_BYTES}"
            )
        messages = [self._message(draft) for draft in checked]
        return await self._all_or_none([draft.id for draft in checked], messages)

    async def store(self, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        """Store one message; with the header `ID` it is stored once.

        Returns:
            Its sequence.
        """
        check_size(payload, headers, self._nc.max_payload)
        sent = await self._send((_Message(subject, payload, headers),))
        return (await self._end(sent)).seq

    def _named(self, draft: Draft) -> Draft:
        """With an id that nobody else makes up; a number is made sooner than another UUID."""
        if draft.id:
            return draft
        return replace(draft, id=f"{self._prefix}-{next(self._ids)}")

    def _message(self, draft: Draft) -> _Message:
        headers = headers_of(draft)
        headers[ID] = draft.id
        if ttl := draft.ttl or self._ttl(draft.topic):
            headers[TTL] = f"{ttl:.0f}s"
        if len(draft.payload) > _LARGE or draft.metadata:
            check_size(draft.payload, headers, self._nc.max_payload - HEADROOM)
        return _Message(subject(draft.topic, draft.key), draft.payload, headers)

    # Sending.

    async def _send(self, messages: Sequence[_Message]) -> _Sent:
        """Send something; its future tells of its end."""
        if self._turnstile or not self._flowing or len(self._pending) >= MAX_UNACKED:
            await self._turn()
        number = next(self._numbers)
        sent = self._pending[number] = _Sent(number, messages, self._loop.create_future())
        if self._watch is None:
            self._heard = sent.since
            self._watch = self._loop.call_later(1, self._look)
        try:
            await self._write(sent)
        except BaseException:
            self._forget(number)
            raise
        return sent

    async def _end(self, sent: _Sent) -> _Ack:
        """What became of something that was sent."""
        try:
            return await sent.future
        finally:
            self._forget(sent.number)

    def _forget(self, number: int) -> None:
        self._pending.pop(number, None)
        if self._flowing:
            self._room.tell_one()

    async def _turn(self) -> None:
        """Wait until something can be sent, behind those who wait already."""
        try:
            async with asyncio.timeout(PUBLISH_PATIENCE), self._turnstile:
                while not self._flowing or len(self._pending) >= MAX_UNACKED:
                    await (self._room if self._flowing else self._flows).wait()
        except TimeoutError:
            raise errors.Unavailable("events", _away("it was not sent")) from None

    async def _write(self, sent: _Sent) -> None:
        sent.times += 1
        if sent.times > 1:
            sent.written = time.monotonic()
        reply = f"{self._inbox}{sent.number}"
        try:
            if not self._nc.is_connected:
                self._stall()
            elif len(sent.messages) == 1:
                one = sent.messages[0]
                await self._nc.publish(one.subject, one.payload, reply, one.headers)
            else:
                await self._write_all(reply, sent.messages)
        except (nats.errors.OutboundBufferLimitError, OSError):
            self._stall()
        except (nats.errors.Error, ValueError) as exc:
            if not sent.future.done():
                sent.future.set_exception(_cannot_send(exc))

    async def _write_all(self, reply: str, messages: Sequence[_Message]) -> None:
        batch = uuid.uuid4().hex
        for place, one in enumerate(messages, 1):
            headers = {**one.headers, _BATCH: batch, _PLACE: str(place)}
            if place < len(messages):
                await self._nc.publish(one.subject, one.payload, headers=headers)
            else:
                headers[_COMMIT] = "1"
                await self._nc.publish(one.subject, one.payload, reply, headers)

    async def _all_or_none(self, ids: Sequence[str], messages: Sequence[_Message]) -> list[Receipt]:
        """Store several at once; those that are there already are left out."""
        receipts: dict[str, Receipt] = {}
        left = list(zip(ids, messages, strict=True))
        again = False
        while left:
            try:
                async with self._batches:
                    sent = await self._send([message for _, message in left])
                    last = (await self._end(sent)).seq
            except Refused as refused:
                if refused.code != DUPLICATES:
                    raise refused.error from None
                again = again or refused.again
                known = await asyncio.gather(*(self._known(message) for _, message in left))
                for (id, _), sequence in zip(left, known, strict=True):
                    if sequence:
                        receipts[id] = Receipt(id, sequence) if again else Receipt(id, 0, True)
                if not any(known):
                    raise errors.Unavailable(
                        "events", "the engine found events there already, and then did not"
                    ) from None
                left = [one for one in left if one[0] not in receipts]
                continue
            first = last - len(left) + 1
            receipts.update((id, Receipt(id, first + at)) for at, (id, _) in enumerate(left))
            break
        return [receipts[id] for id in ids]

    async def _known(self, message: _Message) -> int:
        """The sequence of the event that has this id already; 0 if there is none.

        Of two reasons to refuse a message, the engine looks first whether it has its id.
        """
        headers = {ID: message.headers[ID], _EXPECTED_LAST: _NO_ID}
        sent = await self._send((_Message(message.subject, b"", headers),))
        try:
            return (await self._end(sent)).seq
        except Refused as refused:
            if refused.code == LAST_ID:
                return 0
            raise refused.error from None

    # Acknowledgements.

    async def _answered(self, msg: Msg) -> None:
        number = int(msg.subject[self._skip :])
        sent = self._pending.get(number)
        if sent is None or sent.future.done():
            return
        if msg.headers is not None and msg.headers.get("Status") == "503":
            self._stall()
            return
        try:
            ack = _decode(msg.data)
        except msgspec.DecodeError:
            self._fail(number, "the engine's answer cannot be read")
            return
        self._heard = time.monotonic()
        if ack.error is None:
            self._pause = PAUSE
            sent.future.set_result(ack)
            return
        self._refused(sent, Refused(ack.error, again=sent.times > 1))

    def _refused(self, sent: _Sent, refused: Refused) -> None:
        if refused.passing:
            self._stall()
        elif refused.code in (BATCH_INCOMPLETE, BATCHES_TOO_MANY):
            # Others have batches on their way, or the engine was started again in between.
            self._stall()
        elif refused.code in (DUPLICATES, LAST_ID):
            sent.future.set_exception(refused)
        else:
            sent.future.set_exception(refused.error)

    def _fail(self, number: int, why: str) -> None:
        sent = self._pending[number]
        if not sent.future.done():
            sent.future.set_exception(errors.Unavailable("events", _away(why)))

    # Sending again.

    def broken(self) -> None:
        """See `link.Listener`."""
        self._link.drop(self._inbox)
        self._stall()

    def restored(self) -> None:
        """See `link.Listener`."""

    def _stall(self) -> None:
        """Send nothing new until everything that is not acknowledged was sent again."""
        self._flowing = False
        self._troubled = True
        if self._resending is None or self._resending.done():
            self._resending = self._loop.create_task(self._resend(), name="publish again")

    async def _resend(self) -> None:
        while self._troubled:
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._expire()
            # What comes from here on is trouble again.
            self._troubled = not self._nc.is_connected
            for _, sent in sorted(self._pending.items()):
                if self._troubled:
                    break
                if not sent.future.done():
                    await self._write(sent)
        self._flowing = True
        self._flows.tell()

    def _look(self) -> None:
        """Look every second whether anything is heard of what was sent."""
        self._watch = None
        if not self._pending:
            return
        now = time.monotonic()
        self._expire()
        oldest = min((sent.written for sent in self._pending.values()), default=now)
        if self._flowing and (now - self._heard > SILENCE or now - oldest > 2 * SILENCE):
            self._heard = now
            self._stall()
            if self._check is not None and self._checking is None:
                self._checking = self._loop.create_task(
                    self._diagnose(), name="check of the engine"
                )
        self._watch = self._loop.call_later(1, self._look)

    async def _diagnose(self) -> None:
        """Nothing is heard of the engine: who waits need not wait longer if it says why."""
        assert self._check is not None
        try:
            await self._check()
        except errors.Error as error:
            if self._nc.is_connected:
                for sent in self._pending.values():
                    if not sent.future.done():
                        sent.future.set_exception(errors.Unavailable(error.id, error.detail))
        finally:
            self._checking = None

    def _expire(self) -> None:
        since = time.monotonic() - PUBLISH_PATIENCE
        for number, sent in list(self._pending.items()):
            if sent.since < since:
                self._fail(
                    number,
                    "it was sent and not acknowledged; its log says why, its disk may be full",
                )


def _receipt(id: str, ack: _Ack, times: int) -> Receipt:
    if not ack.duplicate:
        return Receipt(id, ack.seq)
    # Sent more than once, it was most likely this one that is there already.
    return Receipt(id, ack.seq) if times > 1 else Receipt(id, 0, True)


def _away(what: str) -> str:
    return f"the engine has stored nothing for {PUBLISH_PATIENCE:g} s: {what}"


def _cannot_send(exc: Exception) -> errors.Error:
    reason = str(exc) or type(exc).__name__
    if isinstance(exc, nats.errors.BadSubjectError | nats.errors.BadHeaderError | UnicodeError):
        return errors.BadRequest("events", f"NATS cannot carry the event: {reason}")
    return errors.Unavailable("events", f"cannot send by NATS: {reason}")
