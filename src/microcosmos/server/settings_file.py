"""`micro.toml`: settings in a file, in a section for each word."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from microcosmos.base import errors, urls
from microcosmos.base.home import Home

NAME = "micro.toml"
"""The file's name in `MICRO_HOME`."""

LARGEST = 1024 * 1024
"""The most bytes that micro.toml may have."""

SERVER = "server"
"""The section of what has no other."""

_SECTIONS = ("api", "config", "nats", "proxy", "runtime", "store", "web")
_ELSEWHERE = {
    "admin_password": ("auth", "admin_password"),
    "admin_password_file": ("auth", "admin_password_file"),
}
# They say where the file is.
_OUTSIDE = ("home", "config_file")
_PATHS = ("api_config", "nats_creds")
_OTHERS = 0o077

_HEADER = re.compile(r"\s*\[\[?\s*([\w-]+)\s*([.\w-]*)")
_KEY = re.compile(r"\s*([\w-]+(?:\s*\.\s*[\w-]+)*)\s*=")


def place(name: str) -> tuple[str, str]:
    """The section and the key of a setting: ``api_address`` is ``address`` in ``[api]``."""
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    section, _, key = name.partition("_")
    return (section, key) if section in _SECTIONS and key else (SERVER, name)


def dotted(name: str) -> str:
    """A setting as it is named in micro.toml: ``api.address``."""
    return name if name in _OUTSIDE else ".".join(place(name))


class SettingsFile:
    """The file of the settings.

    Args:
        home: the platform's folder.
        chosen: the file if it is another one; it must be there then.
    """

    def __init__(self, home: Home, chosen: str = "") -> None:
        self.path = Path(chosen).expanduser().absolute() if chosen else home.path / NAME
        self._optional = not chosen

    @property
    def there(self) -> bool:
        """Whether there is such a file."""
        return self.path.exists()

    def read(
        self, names: Collection[str], secrets: Collection[str], links: Collection[str]
    ) -> Iterator[tuple[str, Any, str]]:
        """What the file says: the name of a setting, its value, and the file and the line.

        Args:
            names: all settings.
            secrets: those that nobody but the owner may read.
            links: those that may have a secret in them.

        Raises:
            errors.BadRequest: the file cannot be read, is no TOML, has a key that means nothing,
                or has a secret and may be read by others.
        """
        if self._optional and not self.there:
            return
        text = self._text()
        places = {place(name): name for name in names if name not in _OUTSIDE}
        for section, key, value in self._entries(text, places):
            name, where = places[section, key], self._where(text, section, key)
            secret = name in secrets or (name in links and _has_secret(value))
            if secret and self.path.stat().st_mode & _OTHERS:
                detail = f"{where} is secret, and others may read the file: chmod 600 {self.path}"
                raise _wrong(detail)
            if value != "":
                yield name, self._from_here(name, value), where

    def _text(self) -> str:
        try:
            with self.path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except OSError as exc:
            raise _wrong(f"{self.path} cannot be read: {exc.strerror or exc}") from None
        if len(data) > LARGEST:
            raise _wrong(f"{self.path} has more than {LARGEST} bytes")
        try:
            return data.decode()
        except UnicodeError:
            raise _wrong(f"{self.path} is not valid UTF-8") from None

    def _entries(
        self, text: str, places: dict[tuple[str, str], str]
    ) -> Iterator[tuple[str, str, Any]]:
        sections = {section for section, _ in places}
        for section, table in self._document(text).items():
            if section not in sections:
                raise self._unknown_section(text, section, places)
            if not isinstance(table, dict):
                raise _wrong(f"{self._where(text, '', section)} is a section, [{section}]")
            for key, value in table.items():
                if (section, key) not in places:
                    raise self._unknown_key(text, section, key, places)
                yield section, key, value

    def _document(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as exc:
            raise _wrong(f"{self.path}: {str(exc)[:1].lower()}{str(exc)[1:]}") from None
        except RecursionError:
            raise _wrong(f"{self.path} is nested too deeply") from None

    def _unknown_section(
        self, text: str, found: str, places: dict[tuple[str, str], str]
    ) -> errors.BadRequest:
        where = self._where(text, "", found)
        if found in _OUTSIDE:
            return _wrong(f"{where} cannot be said here; use --home or --config")
        names = {name: place for place, name in places.items()}
        if close := get_close_matches(found, names, 1, 0.8):
            section, key = names[close[0]]
            return _wrong(f"{where} is not known here; it is {key} in [{section}]")
        sections = sorted({section for section, _ in places})
        close = get_close_matches(found, sections, 1)
        meant = f"did you mean [{close[0]}]?" if close else f"there are: {', '.join(sections)}"
        if not close:
            meant += "; what the gateway does with requests is said in gateway.toml"
        return _wrong(f"{where} is no section; {meant}")

    def _unknown_key(
        self, text: str, section: str, key: str, places: dict[tuple[str, str], str]
    ) -> errors.BadRequest:
        where = self._where(text, section, key)
        keys = sorted(known for home, known in places if home == section)
        if key in _OUTSIDE:
            return _wrong(f"{where} cannot be said here; use --home or --config")
        if close := get_close_matches(key, keys, 1):
            return _wrong(f"{where} is not known; did you mean {close[0]}?")
        if elsewhere := sorted(home for home, known in places if known == key):
            return _wrong(f"{where} is not known; {key} is in [{'], ['.join(elsewhere)}]")
        return _wrong(f"{where} is not known; [{section}] has: {', '.join(keys)}")

    def _from_here(self, name: str, value: Any) -> Any:
        """A path as it is found from anywhere: it is meant from the file's own folder."""
        if isinstance(value, str) and (name.endswith("_file") or name in _PATHS):
            return str(self.path.parent / Path(value).expanduser())
        return value

    def _where(self, text: str, section: str, key: str) -> str:
        """The file, the line and the key."""
        name = f"{section}.{key}" if section else key
        line = _line(text, section, key)
        return f"{self.path}:{line}: {name}" if line else f"{self.path}: {name}"


def _line(text: str, section: str, key: str) -> int:
    """The line that a key stands in, from 1; 0 if it is written in a way that is not seen here."""
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            here, below = header[1] + header[2], header[2][1:]
            if (section, key) in (("", header[1]), (header[1], below)):
                return number
        elif found := _KEY.match(line):
            name = "".join(found[1].split())
            if (here, name) == (section, key) or (not here and name == f"{section}.{key}"):
                return number
            if not section and not here and name.partition(".")[0] == key:
                return number
    return 0


def _has_secret(value: Any) -> bool:
    return isinstance(value, str) and urls.masked(value) != value


def _wrong(detail: str) -> errors.BadRequest:
    return errors.BadRequest("server.settings", detail)
