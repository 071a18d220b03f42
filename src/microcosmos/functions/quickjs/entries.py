"""What a realm of any engine is entered by."""

from __future__ import annotations

from typing import Any, Protocol


class Entries(Protocol):
    """One heap of JavaScript with a function in it.

    An entry raises one of `realm.Failure` when the engine has ended it.
    """

    @property
    def heap(self) -> int:
        """Bytes that it takes."""

    @property
    def limit(self) -> Any:
        """Sets the seconds of the processor that each entry may take."""

    @property
    def run(self) -> Any:
        """Answers a request of a handler; gives a text, or None if it comes later."""

    @property
    def execute(self) -> Any:
        """The same for a script."""

    @property
    def event(self) -> Any:
        """The same for an event."""

    @property
    def again(self) -> Any:
        """The last answer as JSON, for one that the engine has cut."""

    @property
    def settle(self) -> Any:
        """Tells that something asked for has come."""

    @property
    def grant(self) -> Any:
        """Lets a streamed answer go on."""

    @property
    def take(self) -> Any:
        """Gives what has been asked for since, as JSON."""

    @property
    def clear(self) -> Any:
        """Forgets what is under way."""

    @property
    def step(self) -> Any:
        """Runs a job that waits, or some; False if there is none."""
