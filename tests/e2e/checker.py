"""What publishers were promised and what consumers did, and what of it does not hold.

The events of a key are numbered from 1, each published once the one before is acknowledged; their
ids are ``key-number``. Consumers write a line to a file whenever something happens, so that
`kill -9` takes nothing of it away:

    up PID                      a replica has begun
    begun PID KEY NUMBER        it was given an event
    worked PID KEY NUMBER       it has done its work, and acknowledges next

and so do tests, who kill the engine:

    killed PID                  it forgets the acknowledgements of the last moment before

An event comes again only if it was the last of its key, or if the engine was killed since: then
the last ones may, again in their order.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """One thing that a consumer did."""

    word: str
    pid: int
    key: str = ""
    number: int = 0

    @property
    def id(self) -> str:
        return f"{self.key}-{self.number}"


class Journal:
    """What publishers asked for and were promised, and where consumers write.

    Attributes:
        file: where.
        asked: the number of the last event of each key that was sent, acknowledged or not.
        promised: and of the last one that was acknowledged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.asked: dict[str, int] = {}
        self.promised: dict[str, int] = {}
        self._lock = threading.Lock()
        file.touch()

    def asks(self, key: str, number: int) -> None:
        """A publisher sends an event, for the first time or again."""
        with self._lock:
            self.asked[key] = number

    def acknowledged(self, key: str, number: int) -> None:
        """A publisher was told that an event is durable."""
        with self._lock:
            self.promised[key] = number

    @property
    def size(self) -> int:
        """How many events were acknowledged."""
        with self._lock:
            return sum(self.promised.values())

    def lines(self, word: str) -> list[Line]:
        """What consumers did, of one kind, in the order in which they did it."""
        return [line for line in self.all() if line.word == word]

    def times(self, word: str, line: Line) -> int:
        """How often consumers did something with the event of a line."""
        return sum(one.id == line.id for one in self.lines(word))

    def all(self) -> list[Line]:
        """All that consumers did."""
        found = []
        for text in self.file.read_text().splitlines():
            word, pid, *rest = text.split()
            found.append(Line(word, int(pid), *(rest and (rest[0], int(rest[1])))))
        return found

    def note(self, word: str, pid: int) -> None:
        """Write a line as consumers do."""
        with self.file.open("a") as file:
            file.write(f"{word} {pid}\n")

    def missed(self, numbers: Mapping[str, int] | None = None) -> list[str]:
        """Events of some keys up to a number each that nobody worked off; else of all promised."""
        worked = {line.id for line in self.lines("worked")}
        return sorted(ids(self.promised if numbers is None else numbers) - worked)

    def faults(self, stored: Iterable[str], effects: Mapping[str, int]) -> list[str]:
        """All that does not hold, in words; empty if everything does.

        Args:
            stored: the ids of the events in the log, in its order.
            effects: how often each event had its effect.
        """
        begun, worked = self.lines("begun"), self.lines("worked")
        stored = list(stored)
        return [
            *_lost("the log", ids(self.promised), stored),
            *_lost("those worked off", ids(self.promised), (line.id for line in worked)),
            *_lost("those with an effect", ids(self.promised), effects),
            *_invented(ids(self.asked), stored, (line.id for line in begun), effects),
            *(f"{id} is stored {n} times" for id, n in Counter(stored).items() if n != 1),
            *(f"{id} had {n} effects" for id, n in effects.items() if n != 1),
            *_disordered("stored", map(_parts, stored)),
            *_gone_back(self.all()),
            *_disordered("worked", dict.fromkeys((one.key, one.number) for one in worked)),
        ]


def ids(numbers: Mapping[str, int]) -> set[str]:
    """The ids of the events of some keys, up to a number each."""
    return {f"{key}-{n}" for key, last in list(numbers.items()) for n in range(1, last + 1)}


def _parts(id: str) -> tuple[str, int]:
    key, _, number = id.rpartition("-")
    return key, int(number)


def _lost(where: str, promised: set[str], there: Iterable[str]) -> list[str]:
    gone = sorted(promised - set(there))
    return [f"lost, not among {where}: {gone[:20]} ({len(gone)})"] if gone else []


def _invented(asked: set[str], *seen: Iterable[str]) -> list[str]:
    return [f"nobody has published {id}" for id in sorted(set().union(*seen) - asked)]


def _disordered(what: str, events: Iterable[tuple[str, int]]) -> list[str]:
    """Where an event does not follow the one before of its key."""
    faults, last = [], dict[str, int]()
    for key, number in events:
        if number != last.get(key, 0) + 1:
            faults.append(f"{key}: {number} was {what} after {last.get(key, 0)}")
        last[key] = number
    return faults


def _gone_back(lines: Iterable[Line]) -> list[str]:
    """Where an event was begun neither after the one before of its key nor again."""
    faults, last, since_killed = [], dict[str, int](), set[str]()
    for line in lines:
        if line.word == "killed":
            since_killed = set(last)
        if line.word != "begun":
            continue
        before = last.get(line.key, 0)
        if line.number not in (before, before + 1):
            if line.number > before or line.key not in since_killed:
                faults.append(f"{line.key}: {line.pid} has begun {line.number} after {before}")
            since_killed.discard(line.key)
        last[line.key] = line.number
    return faults
