"""Values: what was found at a path, as the type that is asked for."""

from __future__ import annotations

import copy
import math
import re
from typing import Any, TypeAlias, TypeVar

import msgspec

from microcosmos.base import codec, errors

T = TypeVar("T")

# The methods of `Value` are named after types, which inside of it these still mean.
_Str: TypeAlias = str
_Int: TypeAlias = int
_Float: TypeAlias = float
_Bool: TypeAlias = bool
_LIST = list
_Items: TypeAlias = list[Any]
_Map: TypeAlias = dict[str, Any]

_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS["d"] = 24 * _UNITS["h"]
_DURATION = re.compile(r"[+-]?(?:(?:\d+(?:\.\d+)?)(?:ns|us|µs|ms|s|m|h|d))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_LONGEST_NUMBER = 1000

MISSING: Any = object()
"""The value of a path where nothing is."""


class Value:
    """What stands at a path, or nothing.

    The methods named after types never raise: they make the best of what is there (``"42"`` is
    the number 42) or give the default. Only `struct` is strict.

    Args:
        path: where it was looked for.
        value: its JSON, or `MISSING`.
        secret: whether it is kept encrypted, so that nobody prints it unasked.

    Attributes:
        path: where it was looked for.
    """

    __slots__ = ("_secret", "_value", "path")

    def __init__(self, path: _Str, value: Any = MISSING, *, secret: _Bool = False) -> None:
        self.path = path
        self._value = value
        self._secret = secret

    def __repr__(self) -> _Str:
        if self._value is MISSING:
            return f"<{self.path}: not set>"
        return f"<{self.path}: {'[secret]' if self._secret else repr(self._value)}>"

    def exists(self) -> _Bool:
        """Whether something is there; null is something."""
        return self._value is not MISSING

    def json(self, default: Any = None) -> Any:
        """It as JSON has it: a text, number, boolean, list, dict or None."""
        return default if self._value is MISSING else copy.deepcopy(self._value)

    def str(self, default: _Str = "") -> _Str:
        """It as text: maps, lists, numbers and booleans as JSON writes them."""
        value = self._value
        if isinstance(value, _Str):
            return value
        if value is MISSING or value is None:
            return default
        return msgspec.json.encode(value, order="deterministic").decode()

    def int(self, default: _Int = 0) -> _Int:
        """It as a whole number; of 42.9 that is 42."""
        value = self._value
        if isinstance(value, _Str) and len(value) <= _LONGEST_NUMBER:
            text = value.strip()
            if _WHOLE.fullmatch(text):
                return _Int(text)
            value = _Float(text) if _NUMBER.fullmatch(text) else None
        if isinstance(value, _Float) and not math.isfinite(value):
            return default
        return _Int(value) if isinstance(value, _Int | _Float) else default

    def float(self, default: _Float = 0.0) -> _Float:
        """It as a number."""
        value = self._value
        if isinstance(value, _Str) and len(value) <= _LONGEST_NUMBER:
            text = value.strip()
            value = _Float(text) if _NUMBER.fullmatch(text) else None
        try:
            number = _Float(value) if isinstance(value, _Int | _Float) else math.nan
        except OverflowError:
            return default
        return number if math.isfinite(number) else default

    def bool(self, default: _Bool = False) -> _Bool:
        """It as yes or no: true, t, yes, y, on, 1 and their opposites; of numbers, not 0."""
        value = self._value
        if isinstance(value, _Str):
            return _WORDS.get(value.strip().lower(), default)
        return _Bool(value) if isinstance(value, _Int | _Float) else default

    def duration(self, default: _Float = 0.0) -> _Float:
        """It in seconds: ``1m30s`` is 90; numbers are seconds already."""
        value = self._value
        if isinstance(value, _Str) and _DURATION.fullmatch(text := value.strip()):
            seconds = math.fsum(_Float(n) * _UNITS[unit] for n, unit in _PART.findall(text))
            return -seconds if text.startswith("-") else seconds
        return default if isinstance(value, _Bool) else self.float(default)

    def list(self, default: _Items | None = None) -> _Items:
        """It as a list: of a text what stands between its commas, or in its JSON."""
        value = self._value
        if isinstance(value, _Str):
            parsed = _parsed(value)
            if isinstance(parsed, _LIST):
                return parsed
            return [part for part in map(_Str.strip, value.split(",")) if part]
        if isinstance(value, _LIST):
            return copy.deepcopy(value)
        if isinstance(value, _Int | _Float):
            return [value]
        return [] if default is None else default

    def map(self, default: _Map | None = None) -> _Map:
        """It as a dict; a text may be the JSON of one."""
        value = _parsed(self._value) if isinstance(self._value, _Str) else self._value
        if isinstance(value, dict):
            return copy.deepcopy(value)
        return {} if default is None else default

    def struct(self, type: type[T] | Any) -> T:
        """It as exactly this type, such as a struct, a dataclass or a pydantic model.

        Raises:
            errors.NotFound: nothing is there.
            errors.BadRequest: it is of another shape; the detail names the field.
        """
        if self._value is MISSING:
            raise errors.NotFound("config", f"{self.path} is not set")
        try:
            if validate := getattr(type, "model_validate", None):
                model: T = validate(self.json())
                return model
            return msgspec.json.decode(codec.encode(self._value), type=type)
        except (msgspec.ValidationError, ValueError) as exc:
            detail = codec.bad_input("config", exc).detail
            if self._secret:
                # What pydantic says quotes the value.
                detail = detail if isinstance(exc, msgspec.ValidationError) else "of another shape"
            raise errors.BadRequest("config", f"{self.path}: {detail}") from None


def encoded(value: Any) -> bytes:
    """A value as JSON, pydantic models included.

    Raises:
        errors.BadRequest: JSON cannot carry it.
    """
    try:
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_foreign)
        _check_finite(plain)
        return msgspec.json.encode(plain)
    except (TypeError, ValueError, NotImplementedError, RecursionError) as exc:
        raise errors.BadRequest("config", f"the value is no JSON: {exc}") from None


def _check_finite(value: Any) -> None:
    """Refuse what would silently become null."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, float) and not math.isfinite(part):
            raise ValueError(f"there is no number {part}")


def _foreign(value: Any) -> Any:
    if dump := getattr(value, "model_dump", None):
        return dump(mode="json")
    raise NotImplementedError(f"a {type(value).__name__} cannot be written as JSON")


def _parsed(text: str) -> Any:
    """The JSON of a text that may be a list or a map; None if it is none."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return codec.decode(text)
    except errors.BadRequest:
        return None
