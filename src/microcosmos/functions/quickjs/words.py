"""What a realm says in its turn: the words of its queue, and what is done for each."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import msgspec

from microcosmos.rpc import frames

from . import crossing, failures
from .run import Run
from .runs import Runs

_now = time.perf_counter_ns


class Words:
    """The ear for one function.

    Args:
        runs: its requests and events.
        main: the name of the user's file.
        shift: lines that the engine counts before those of the function.
    """

    def __init__(self, runs: Runs, main: str, shift: int) -> None:
        self._runs = runs
        self._main = main
        self._shift = shift

    def take(self, said: str, again: Callable[[], str], current: Run | None) -> None:
        """Do what was asked for.

        Args:
            said: by the realm.
            again: gives the last answer as JSON.
            current: the run whose turn it was.

        Raises:
            ValueError, TypeError, KeyError, msgspec.ValidationError: nothing but a function that
                has broken its own realm can have said this.
        """
        runs = self._runs
        asking = runs.asking
        if said[-1] != "]":
            # Behind what was asked for is an answer, which the engine may have cut.
            whole = said[:-1] if said[-1] == "\x01" else msgspec.json.decode(again())
            said, number, answer = whole.split("\n", 2)
            self._answered(current, int(number), answer)
            if said == "[]":
                return
        for word, *rest in crossing.asked(said):
            if runs.asking is not asking:
                # The realm has been ended meanwhile.
                return
            self._words[word](self, current, *rest)

    def _ask(self, name: str, current: Run | None, number: int, of: int, *rest: Any) -> None:
        run = self._runs.of(of, current)
        self._runs.keep(run)
        getattr(self._runs.asking, name)(run, number, *rest)

    def _fetch(self, current: Run | None, number: int, of: int, *rest: Any) -> None:
        self._runs.meter.fetches += 1
        url, method, headers, body, is_base64, redirect = rest
        pairs = msgspec.convert(headers, list[tuple[str, str]])
        self._ask("fetch", current, number, of, url, method, pairs, body, is_base64, redirect)

    def _use(self, current: Run | None, number: int, of: int, *rest: Any) -> None:
        self._runs.meter.fetches += 1
        self._ask("use", current, number, of, *rest)

    def _timer(self, current: Run | None, number: int, of: int, milliseconds: float) -> None:
        self._ask("timer", current, number, of, milliseconds)

    def _piece(self, current: Run | None, number: int, of: int, body: int) -> None:
        self._ask("piece", current, number, of, body)

    def _whole(self, current: Run | None, number: int, of: int, body: int) -> None:
        self._ask("whole", current, number, of, body)

    def _forget(self, current: Run | None, number: int) -> None:
        self._runs.asking.forget(number)

    def _discard(self, current: Run | None, number: int) -> None:
        self._runs.asking.discard(number)

    def _line(self, current: Run | None, of: int, level: str, text: str) -> None:
        if level == "error":
            text = failures.trace(text, self._main, self._shift)
        self._runs.line(self._runs.of(of, current), level, text)

    def _answered(self, current: Run | None, of: int, said: str) -> None:
        if (run := self._runs.open.get(of)) is not None:
            self._runs.answer(run, said)

    def _stream(self, current: Run | None, of: int, piece: str) -> None:
        if (run := self._runs.open.get(of)) is not None:
            data = base64.b64decode(piece)
            run.room -= len(data)
            run.moved = _now()
            self._runs.meter.response_bytes += len(data)
            run.send(frames.ITEM, data)

    def _streamed(self, current: Run | None, of: int) -> None:
        if (run := self._runs.open.get(of)) is not None:
            run.send(frames.END, b"")
            self._runs.close(run)

    def _torn(self, current: Run | None, of: int) -> None:
        if (run := self._runs.open.get(of)) is not None:
            self._runs.fail(run, failures.exception())

    _words: dict[str, Callable[..., None]] = {  # noqa: RUF012 - never changed
        "a": _answered,
        "c": _use,
        "d": _discard,
        "f": _fetch,
        "l": _line,
        "p": _piece,
        "q": _torn,
        "s": _stream,
        "t": _timer,
        "w": _whole,
        "x": _forget,
        "z": _streamed,
    }
