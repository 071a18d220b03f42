"""A context of the engine with the prelude in it, and its entries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

# Not `quickjs`, which starts a thread when it is imported.
from _quickjs import Context, JSException, StackOverflow  # type: ignore[import-not-found]

from microcosmos.functions.limits import DEFAULTS

from .failures import Ended
from .limits import LOAD_CPU
from .prelude import PARTS, REALM

Failure = (JSException, StackOverflow, Ended)
"""What an entry raises when the engine has ended it."""

Entry = Callable[..., Any]


class Realm:
    """One heap of JavaScript, that no function has used yet when it is made.

    Attributes:
        context: of the engine.
        limit: sets the seconds of the processor that each entry may take.
        run: answers a request of a handler; gives a text, or None if it comes later.
        execute: the same for a script.
        event: the same for an event.
        again: the last answer as JSON, for one that the engine has cut.
        settle: tells that something asked for has come.
        grant: lets a streamed answer go on.
        take: gives what has been asked for since, as JSON.
        step: runs one job that waits; False if there is none.
    """

    __slots__ = (
        *("again", "begin", "clear", "context", "event", "execute", "grant", "limit", "run"),
        *("script", "settle", "setup", "step", "take"),
    )

    def __init__(self) -> None:
        self.context = context = Context()
        context.set_max_stack_size(DEFAULTS.stack)
        context.set_time_limit(LOAD_CPU)
        entry = context.eval(REALM)(PARTS)
        self.limit: Callable[[float], None] = context.set_time_limit
        self.step: Callable[[], bool] = context.execute_pending_job
        self.run: Entry = entry("run")
        self.execute: Entry = entry("execute")
        self.event: Entry = entry("event")
        self.again: Entry = entry("again")
        self.settle: Entry = entry("settle")
        self.grant: Entry = entry("grant")
        self.take: Entry = entry("take")
        self.clear: Entry = entry("clear")
        self.setup: Entry = entry("setup")
        self.begin: Entry = entry("begin")
        self.script: Entry = entry("script")

    @property
    def heap(self) -> int:
        """Bytes that it takes."""
        return int(self.context.memory()["malloc_size"])


class Spares:
    """Realms that are ready, made while there is nothing else to do."""

    KEPT = 4
    """How many."""

    def __init__(self) -> None:
        self._ready: deque[Realm] = deque()

    def take(self) -> Realm:
        """One that nobody has."""
        return self._ready.popleft() if self._ready else Realm()

    def refill(self) -> bool:
        """Make one more; False if there are enough."""
        if len(self._ready) >= self.KEPT:
            return False
        self._ready.append(Realm())
        return True
