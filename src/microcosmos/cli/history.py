"""The lines typed at the prompt, kept in a file that only their user may read."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import History

from microcosmos.base.home import write_atomically

LINES = 1_000
"""How many lines the history keeps."""

_SECRET = re.compile(r"(?i)passw|passphrase|secret|token|credential|api.?key|private.?key")
_URL_WITH_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]*@")
# `micro config set --secret KEY VALUE` has a short flag.
_CONFIG_SECRET = re.compile(r"\bconfig\s+set\b.*\s-\w*s")


class FileHistory(History):
    """A history with a line of the file for each line typed; a line with a secret stays out.

    Where the file cannot be written, the history lasts as long as the prompt.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        """The lines of the file, the last one first; what is over the limit is removed from it."""
        try:
            lines = self._path.read_text("utf-8", "replace").splitlines()
        except OSError:
            return
        if len(lines) > LINES:
            lines = lines[-LINES:]
            with contextlib.suppress(OSError):
                write_atomically(self._path, "".join(f"{line}\n" for line in lines).encode())
        yield from reversed(lines)

    def store_string(self, string: str) -> None:
        """Add a line to the file, unless it seems to hold a secret."""
        if holds_secret(string):
            return
        line = " ".join(string.splitlines()) + "\n"
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            with os.fdopen(os.open(self._path, flags, 0o600), "ab") as file:
                # Also one that was there before: as a copy, or made by hand.
                self._path.chmod(0o600)
                file.write(line.encode("utf-8", "replace"))


def holds_secret(line: str) -> bool:
    """Whether a line names a password, token or key, and so may hold one."""
    return any(found.search(line) for found in (_SECRET, _URL_WITH_PASSWORD, _CONFIG_SECRET))
