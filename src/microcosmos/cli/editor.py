"""The line editor of the prompt: history and completion, by prompt_toolkit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from microcosmos.base.home import Home

from .candidates import following
from .completion import split
from .history import FileHistory
from .main import micro

HISTORY = "cli_history"


def open_editor(home: Home, flags: Sequence[str]) -> Callable[[str], str]:
    """What reads a line after a prompt.

    It raises KeyboardInterrupt for Ctrl-C and EOFError for Ctrl-D.

    Args:
        home: whose history it is.
        flags: the words that every line begins with.
    """
    session: PromptSession[str] = PromptSession(
        history=FileHistory(home.path / HISTORY),
        completer=_Completer(flags),
        complete_while_typing=False,
    )
    return session.prompt


class _Completer(Completer):
    def __init__(self, flags: Sequence[str]) -> None:
        self._flags = list(flags)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        *words, incomplete = split(document.text_before_cursor)
        if words[:1] == ["micro"]:
            del words[0]
        with contextlib.suppress(Exception):
            for item in following(micro, [*self._flags, *words], incomplete):
                if item.type == "plain":
                    yield Completion(item.value, -len(incomplete), display_meta=item.help or "")
                else:
                    yield from _paths(incomplete, event, only_folders=item.type == "dir")


def _paths(incomplete: str, event: CompleteEvent, *, only_folders: bool) -> Iterator[Completion]:
    paths = PathCompleter(only_directories=only_folders, expanduser=True)
    for found in paths.get_completions(Document(incomplete), event):
        slash = os.sep if found.display_text.endswith(os.sep) else ""
        yield Completion(found.text + slash, found.start_position, display=found.display)
