"""A run: one saga is brought to one of its ends."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from microcosmos.base import codec, errors, payload
from microcosmos.base.clock import Clock
from microcosmos.base.recipient import refusal
from microcosmos.events.checks import one_line
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.transaction import OVERTAKEN_LIMIT, Overtaken, pause
from microcosmos.store import Op

from .journal import KEEP_ENDED, Entry, Journal, Progress, StepState, new_token
from .step import LONGEST_PAUSE, MAX_OUTPUT, Action, Attempt, Refused, Step, group_of, taking

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("microcosmos.saga")

STORE_PAUSE = 0.5
"""Seconds from a failure of the store to the next try."""

# Others may pass: who is not found or not let in just now may be there, or known, a little later.
_HOPELESS = (400, 405, 413, 422, 501)


class Ousted(Exception):
    """Somebody else works on the saga now."""


class Left(Exception):
    """The process stops, and somebody else shall go on."""


class Run(Generic[T]):
    """Brings a saga to an end: forward, and if a step fails for good, back.

    Before each try of a step the journal has that it begins, so after a death it is known that it
    may have happened. Every write to the journal is refused if somebody else has written to it.

    Args:
        name: of the saga.
        decode: reads its input.
        steps: in their order, by name.
        journal: where it stands how far it is.
        inbox: what transactions of the steps are remembered by.
        entry: how far it is now.
        clock: what pauses go by.
        leaving: set when no further try may begin here.
    """

    def __init__(
        self,
        name: str,
        decode: Callable[[bytes], T],
        steps: Mapping[str, Step[T]],
        journal: Journal,
        inbox: Inbox,
        entry: Entry,
        clock: Clock,
        leaving: asyncio.Event,
    ) -> None:
        self._name = name
        self._decode = decode
        self._steps = steps
        self._journal = journal
        self._inbox = inbox
        self._entry = entry
        self._progress = entry.progress
        self._clock = clock
        self._leaving = leaving

    async def go(self) -> Progress:
        """Work until the end, or until it is stuck.

        Raises:
            Ousted: somebody else has written to the journal.
            Left: no further try may begin here.
        """
        try:
            self._input = self._decode(payload.encode(self._progress.input))
        except (*codec.DECODE_ERRORS, ValueError) as exc:
            await self._stuck(f"this version of the saga cannot read its input: {refusal(exc)}")
        if self._progress.status == "running":
            await self._forward()
        if self._progress.status == "undoing":
            await self._back()
        return self._progress

    # Forward.

    async def _forward(self) -> None:
        if unknown := self._unknown():
            await self._stuck(f"this version of the saga has no step {unknown}")
            return
        for step in self._steps.values():
            if self._state(step).state != "done" and not await self._act(step):
                return
        await self._end("done")

    async def _act(self, step: Step[T]) -> bool:
        """Try an action until it has happened, or has failed for good and all goes back."""
        while True:
            await self._stay()
            state = self._state(step)
            if 0 <= step.retry_limit < state.attempts:
                await self._turn(step, state)
                return False
            number = state.attempts + 1
            await self._save(step, StepState("begun", number, error=state.error))
            try:
                output = await self._call(step.action, step, number)
            except Exception as exc:  # noqa: BLE001 - an author's code may raise anything
                if not await self._failed(step, number, exc):
                    return False
            else:
                self._note(step, StepState("done", number, output=output))
                return True

    async def _failed(self, step: Step[T], number: int, exc: Exception) -> bool:
        """Note why a try of an action has failed, and wait for the next one, if there is one."""
        reason = one_line(refusal(exc))
        if isinstance(exc, errors.Error) and exc.code in _HOPELESS:
            # Only a first try that is refused is known to have had no effect.
            refused = isinstance(exc, Refused) and number == 1
            state = StepState("refused" if refused else "begun", number, error=reason)
            await self._turn(step, state)
            return False
        log.info("%s %s: %s failed: %s", self._name, self._progress.id, step.title, reason)
        await self._save(step, StepState("begun", number, error=reason))
        if step.retry_limit < 0 or number <= step.retry_limit:
            await self._wait(step, number)
        return True

    async def _turn(self, step: Step[T], state: StepState) -> None:
        """Go back from here."""
        reason = f"{step.title}: {state.error or 'the process ended at every try'}"
        level = logging.INFO if state.state == "refused" else logging.WARNING
        log.log(level, "%s %s is undone: %s", self._name, self._progress.id, reason)
        self._note(step, state)
        await self._save(status="undoing", error=reason)

    # Back.

    async def _back(self) -> None:
        for name, state in reversed(self._progress.steps.items()):
            if state.state not in ("begun", "done"):
                continue
            step = self._steps.get(name)
            if step is None:
                await self._stuck(f"this version of the saga has no step {name}")
                return
            if step.undo is not None and not await self._take_back(step, step.undo):
                return
            self._note(step, _changed(self._state(step), state="undone", error=state.error))
        await self._end("undone")

    async def _take_back(self, step: Step[T], undo: Action[T]) -> bool:
        """Try an undo until it has happened, or there were enough tries."""
        while True:
            await self._stay()
            state = self._state(step)
            if 0 <= step.undo_limit < state.undos:
                await self._stuck(f"{step.title} cannot be undone: {state.error}")
                return False
            number = state.undos + 1
            await self._save(step, _changed(state, undos=number))
            try:
                await self._call(undo, step, number)
            except Exception as exc:  # noqa: BLE001 - an author's code may raise anything
                reason = one_line(refusal(exc))
                log.warning(
                    "%s %s: %s is not undone yet: %s",
                    *(self._name, self._progress.id, step.title, reason),
                )
                await self._save(step, _changed(self._state(step), error=reason))
                if step.undo_limit < 0 or number <= step.undo_limit:
                    await self._wait(step, number)
            else:
                return True

    async def _stuck(self, reason: str) -> None:
        log.error("%s %s is stuck: %s", self._name, self._progress.id, reason)
        undoing = self._progress.status == "undoing"
        why = f"{reason} (after {self._progress.error})" if self._progress.error else reason
        await self._save(status="stuck", error=why, undoing=undoing)

    # Both.

    async def _call(self, action: Action[T], step: Step[T], number: int) -> Any:
        """Call an action or an undo, and anew while others change what it has read."""
        outputs = self._progress.outputs
        attempt = Attempt(self._name, self._progress.id, step.title, number, outputs, self._inbox)
        call = taking(action)
        limit = asyncio.timeout(step.timeout)
        try:
            async with limit:
                return _kept(await _patiently(lambda: call(self._input, attempt)))
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(f"it took longer than {step.timeout:g} seconds") from None
        except asyncio.CancelledError as exc:
            # Of something that the action waited for, unless the saga itself was cancelled.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise RuntimeError("what it waited for was cancelled") from exc
        except SystemExit as exc:
            raise RuntimeError("it ended the program") from exc

    async def _end(self, status: Any) -> None:
        """Come to an end; from then on nobody needs to know of the steps' keys for long."""
        while True:
            keys = [f"{self._name}/{self._progress.id}/{name}" for name in self._progress.steps]
            more = await asyncio.gather(*map(self._fading, keys))
            try:
                await self._save(status=status, more=[op for ops in more for op in ops])
                return
            except Ousted:
                there = await self._surely(partial(self._journal.find, self._progress.id))
                if there is None or there.version != self._entry.version:
                    raise
                # It was a key: somebody late has done, or not done, a step.

    async def _fading(self, key: str) -> list[Op]:
        fading = partial(self._inbox.fading, group_of(self._name), key, after=KEEP_ENDED)
        return await self._surely(fading)

    def _unknown(self) -> str:
        return next((name for name in self._progress.steps if name not in self._steps), "")

    def _state(self, step: Step[T]) -> StepState:
        return self._progress.steps.get(step.title) or StepState("begun")

    def _note(self, step: Step[T], state: StepState) -> None:
        steps = {**self._progress.steps, step.title: state}
        self._progress = msgspec.structs.replace(self._progress, steps=steps)

    async def _stay(self) -> None:
        """Leave, if that is asked for, with the journal up to date."""
        if self._leaving.is_set():
            await self._save()
            raise Left

    async def _save(
        self,
        step: Step[T] | None = None,
        state: StepState | None = None,
        *,
        more: Sequence[Op] = (),
        **fields: Any,
    ) -> None:
        """Write the progress with these changes to the journal, and all noted before with it."""
        if step is not None and state is not None:
            self._note(step, state)
        self._progress = msgspec.structs.replace(self._progress, **fields)
        save = partial(self._journal.save, self._entry, self._progress, new_token(), more)
        try:
            self._entry = await self._surely(save)
        except errors.Conflict:
            raise Ousted from None

    async def _surely(self, work: Callable[[], Awaitable[R]]) -> R:
        """Do something with the store, as soon as that is there."""
        while True:
            try:
                return await work()
            except (errors.Conflict, errors.BadRequest, errors.TooLarge):
                raise
            except errors.Error as exc:
                log.info("%s %s waits: %s", self._name, self._progress.id, exc.detail)
            await self._clock.sleep(STORE_PAUSE)

    async def _wait(self, step: Step[T], times: int) -> None:
        """Wait before a try after so many that have failed."""
        most = min(step.pause * 2.0 ** min(times - 1, 30), max(LONGEST_PAUSE, step.pause))
        pause = self._clock.sleep(most * (0.5 + random.random() / 2))
        waits = [asyncio.ensure_future(pause), asyncio.ensure_future(self._leaving.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()


_changed = msgspec.structs.replace


async def _patiently(call: Callable[[], Awaitable[R]]) -> R:
    """Call, and anew as long as its transactions are overtaken, which have done nothing then."""
    for times in range(1, OVERTAKEN_LIMIT):
        try:
            return await call()
        except Overtaken:
            await pause(times)
    return await call()


def _kept(output: Any) -> Any:
    """What an action returned, as the journal has it.

    Raises:
        errors.BadRequest: JSON cannot carry it.
        errors.TooLarge: it is over `MAX_OUTPUT`.
    """
    try:
        written = payload.encode(output)
    except (TypeError, ValueError, NotImplementedError, RecursionError) as exc:
        raise errors.BadRequest("saga", f"its output cannot be kept: {exc}") from None
    if len(written) > MAX_OUTPUT:
        detail = f"its output has {len(written)} bytes; the limit is {MAX_OUTPUT}"
        raise errors.TooLarge("saga", detail)
    return msgspec.json.decode(written)
