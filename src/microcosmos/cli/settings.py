"""The user's settings: `config.json`, a JSON document reached by dotted paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from microcosmos.base import codec
from microcosmos.base.alone import alone
from microcosmos.base.home import indented, write_atomically


class UserSettings:
    """What a user has set, kept in a file that only they may read.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        """The whole document.

        Raises:
            click.ClickException: the file is damaged or cannot be read; the text names it.
        """
        try:
            document = msgspec.json.decode(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise click.ClickException(f"{self.path} cannot be read: {exc.strerror}") from None
        except codec.DECODE_ERRORS as exc:
            raise self._damaged(str(exc)) from None
        if not isinstance(document, dict):
            raise self._damaged("it is no JSON object")
        return document

    def _damaged(self, why: str) -> click.ClickException:
        return click.ClickException(f"{self.path} is damaged ({why}); mend it or remove it")

    def get(self, key: str) -> Any:
        """The value at a dotted path, or None."""
        found: Any = self.read()
        for part in _parts(key):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def set(self, key: str, value: Any) -> None:
        """Set the value at a dotted path; what stands in its way is replaced."""
        *above, last = _parts(key)

        def change(document: dict[str, Any]) -> None:
            for part in above:
                if not isinstance(document.get(part), dict):
                    document[part] = {}
                document = document[part]
            document[last] = value

        self.change(change)

    def delete(self, key: str) -> bool:
        """Remove the value at a dotted path; False if there was none."""
        *above, last = _parts(key)
        found = False

        def change(document: dict[str, Any]) -> None:
            nonlocal found
            below: Any = document
            for part in above:
                below = below.get(part) if isinstance(below, dict) else None
            found = isinstance(below, dict) and below.pop(last, None) is not None

        self.change(change)
        return found

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Read, change and write the document, with no other change in between."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with alone(self.path.with_name(f".{self.path.name}.lock")):
                document = self.read()
                before = codec.encode(document)
                change(document)
                if codec.encode(document) != before:
                    write_atomically(self.path, indented(document))
        except OSError as exc:
            why = exc.strerror or str(exc)
            raise click.ClickException(f"{self.path} cannot be written: {why}") from None


def _parts(key: str) -> list[str]:
    parts = key.split(".")
    if not all(parts):
        raise click.UsageError(f"{key!r} is no path; write it like git.baseurl")
    return parts
