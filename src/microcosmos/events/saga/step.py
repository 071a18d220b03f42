"""Steps: what a saga does, and how each of it is taken back."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from microcosmos.base import codec, errors, payload
from microcosmos.events.transactions.inbox import Inbox
from microcosmos.events.transactions.transaction import Transaction

T = TypeVar("T")

RETRY_LIMIT = 5
"""Times that an action is tried again before the saga takes back what it has done."""

UNDO_LIMIT = 20
"""Times that an undo is tried again before the saga is stuck and waits for people."""

FIRST_PAUSE = 0.2
"""Seconds before the first of these tries; each time doubled."""

LONGEST_PAUSE = 30.0
"""The most of those seconds."""

TIMEOUT = 30.0
"""Seconds that one try may take."""

MAX_OUTPUT = 64 * 1024
"""The largest output of an action, and input of a saga, in bytes of JSON; larger are blobs."""

MAX_STEPS = 64
"""The most steps of a saga."""


class Refused(errors.Error):
    """Raised by an action that has no effect and will have none: it is not tried again.

    Args:
        detail: why, for people.
    """

    code = 422
    status = "Unprocessable Content"

    def __init__(self, detail: str) -> None:
        super().__init__("saga", detail)


class Attempt:
    """One try of an action or of an undo.

    Attributes:
        saga: the name of the saga.
        id: which one of these it is.
        step: the name of the step.
        number: of the try, from 1.
        key: the idempotency key of the step: the same at every try, and for action and undo.
        outputs: what the actions before have returned, by step, as JSON values; for an undo also
            its own action's, if it is known to have happened.
    """

    def __init__(
        self, saga: str, id: str, step: str, number: int, outputs: Mapping[str, Any], inbox: Inbox
    ) -> None:
        self.saga = saga
        self.id = id
        self.step = step
        self.number = number
        self.key = f"{saga}/{id}/{step}"
        self.outputs = outputs
        self._inbox = inbox

    def output(self, step: str, type: type[T]) -> T:
        """What an action before has returned, as a type.

        Raises:
            LookupError: it returned nothing, or did not happen.
            errors.BadRequest: it is not of that type.
        """
        return codec.decode(payload.encode(self.outputs[step]), type, id="saga")

    def once(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction on the saga's store that is committed once, however often it is tried.

        ``tx.done`` says that it was. See `Inbox.once`.
        """
        return self._inbox.once(group_of(self.saga), self.key, keep=0)

    def undo(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that takes back, once, what the action did in `once`.

        ``tx.done`` says that there is nothing to take back: it was, or it never happened, and now
        cannot happen any more. See `Inbox.undo`.
        """
        return self._inbox.undo(group_of(self.saga), self.key, keep=0)


def group_of(saga: str) -> str:
    """The group under which an inbox knows the steps of a saga; no consumers can be called so."""
    return f"saga {saga}"


Action = Callable[[T], Awaitable[Any]] | Callable[[T, Attempt], Awaitable[Any]]
"""``async def debit(transfer: Transfer, attempt: Attempt)``; the second may be left out."""


@dataclass(frozen=True)
class Step(Generic[T]):
    """A part of a saga.

    Attributes:
        action: does it. It may be called when it has happened already, so it gives `Attempt.key`
            to whom it calls, or works in `Attempt.once`. What it returns is kept, as JSON.
        undo: takes it back; None when there is nothing to take back. It may be called when it
            has been taken back, and when it never happened: `Attempt.undo` knows.
        name: of the step, unique in its saga; the action's unless said.
        retry_limit: times that the action is tried again; -1 is for ever.
        undo_limit: the same for the undo.
        pause: seconds before the first of these tries; each time doubled, up to `LONGEST_PAUSE`.
        timeout: seconds that one try may take.
    """

    action: Action[T]
    undo: Action[T] | None = None
    name: str = ""
    retry_limit: int = RETRY_LIMIT
    undo_limit: int = UNDO_LIMIT
    pause: float = FIRST_PAUSE
    timeout: float = TIMEOUT

    @property
    def title(self) -> str:
        """Its name."""
        return self.name or getattr(self.action, "__name__", "")


def taking(action: Action[T]) -> Callable[[T, Attempt], Awaitable[Any]]:
    """An action as it is called, with the attempt or without it.

    Raises:
        TypeError: it takes something else, or is not async.
    """
    name = getattr(action, "__name__", repr(action))
    called: Callable[..., Awaitable[Any]] = action
    if not inspect.iscoroutinefunction(inspect.unwrap(called)):
        raise TypeError(f"{name} is no async function, so it cannot be a part of a saga")
    count = len(inspect.signature(called).parameters)
    if count not in (1, 2):
        raise TypeError(
            f"{name} takes {count} arguments: an action takes the input, and an Attempt"
        )
    if count == 2:
        return called
    return lambda input, _: called(input)
