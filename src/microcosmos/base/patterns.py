"""Paths with fields in them: ``/v2/users/{id}``, ``/files/{rest*}``."""

from __future__ import annotations

import re
from urllib.parse import quote

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)(\*?)\}")


def parts_of(path: str) -> list[str]:
    """The parts of a path; doubled and trailing slashes make none, as for services."""
    return [part for part in path.split("/") if part]


class Pattern:
    """A path with fields in it; a field is one part, with a star it is all that is left.

    Args:
        text: as it stands in the settings.

    Raises:
        ValueError: it is no pattern; the text says why.
    """

    def __init__(self, text: str) -> None:
        if not text.startswith("/"):
            raise ValueError(f"{text!r} does not begin with /")
        self.fields: list[str] = []
        self._parts = [self._part(part, text) for part in parts_of(text)]
        self._rest = ""
        if self._parts and self._parts[-1].endswith("*}"):
            self._rest = self._parts.pop()[1:-2]
        if any(part.endswith("*}") for part in self._parts):
            raise ValueError(f"{text!r}: only the last part may be a field with a star")
        if len(set(self.fields)) < len(self.fields):
            raise ValueError(f"{text!r} names a field twice")

    def _part(self, part: str, text: str) -> str:
        if found := _FIELD.fullmatch(part):
            self.fields.append(found[1])
        elif "{" in part or "}" in part:
            raise ValueError(f"{text!r}: a field is a whole part, like {{id}}; {part!r} is not")
        return part

    @property
    def order(self) -> tuple[bool, int, int]:
        """Sorts the plainest pattern first: no star, few fields, many parts."""
        return bool(self._rest), len(self.fields), -len(self._parts)

    def match(self, parts: list[str]) -> dict[str, str] | None:
        """The fields of a path given by its parts; None if it is another path."""
        count = len(self._parts)
        if len(parts) < count or (len(parts) > count and not self._rest):
            return None
        fields: dict[str, str] = {}
        for known, part in zip(self._parts, parts, strict=False):
            if known[0] == "{":
                fields[known[1:-1]] = part
            elif known != part:
                return None
        if self._rest:
            fields[self._rest] = "/".join(parts[count:])
        return fields

    def covers(self, parts: list[str]) -> bool:
        """Whether a path is one of these or below one."""
        return self.match(parts[: len(self._parts)] if not self._rest else parts) is not None


def fields_of(target: str) -> list[str]:
    """The names of the fields that a redirect's target is filled with."""
    return [name for name, _ in _FIELD.findall(target)]


def fill(target: str, fields: dict[str, str]) -> str:
    """A redirect's target with its fields filled in, each quoted."""
    filled = _FIELD.sub(lambda found: quote(fields[found[1]], safe="/"), target)
    # Two slashes would make the first part of a path a host, of anybody's choice.
    return "/" + filled.lstrip("/") if target.startswith("/") else filled
