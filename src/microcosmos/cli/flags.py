"""Flags of a service's endpoint: the fields of its request, ``_`` between nested ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from microcosmos.base import errors, schema
from microcosmos.base.schema import Value

Path = tuple[str, ...]

_VALUE = "value"


class Flag:
    """One flag.

    Attributes:
        name: as it is typed, without the dashes: ``options_ttl``.
        path: the fields it goes through: ``("options", "ttl")``.
        type: as in the value tree.
        listed: whether the help page shows it; a struct is shown by its fields.
    """

    __slots__ = ("listed", "name", "path", "type")

    def __init__(self, path: Path, kind: str, listed: bool) -> None:
        self.name = "_".join(path)
        self.path = path
        self.type = kind
        self.listed = listed


def of(shape: Value) -> dict[str, Flag]:
    """The flags of a request, by name with ``_`` for every ``-``, in the order of its fields.

    Where ``a_b`` may be a field of that name or the field ``b`` of ``a``, the longer own name wins.
    """
    flags: dict[str, Flag] = {}
    for flag in _below(shape, ()):
        known = flags.get(_key(flag.name))
        if known is None or _lengths(flag.path) > _lengths(known.path):
            flags[_key(flag.name)] = flag
    return flags


def _below(shape: Value, above: Path) -> Iterator[Flag]:
    for field in shape.values:
        path = (*above, field.name)
        nested = bool(field.values) and not field.is_list and not field.is_map
        yield Flag(path, field.type, not nested)
        if nested:
            yield from _below(field, path)


def _key(name: str) -> str:
    return name.replace("-", "_")


def _lengths(path: Path) -> list[int]:
    return [len(part) for part in path]


def request(shape: Value, args: Sequence[str]) -> dict[str, Any]:
    """The request that flags describe: ``--name=value``, ``--name value``, or ``--switch``.

    Of a shape that is not told (a foreign service need not) every flag is a field: JSON, or a text.

    Raises:
        click.UsageError: an unknown flag (with names that are close), a missing value, or one
            that does not fit its field.
    """
    known = of(shape)
    found: dict[str, Any] = {}
    for flag, text in _given(known, list(args), free=shape == Value()):
        try:
            given = schema.from_pairs(_alone(flag), [(_VALUE, text)])
        except errors.BadRequest as exc:
            problem = exc.detail.partition(": ")[2]
            raise click.UsageError(f"--{flag.name}: {problem}") from None
        _merge(found, flag.path, given[_VALUE])
    return found


def _alone(flag: Flag) -> Value:
    # Under a name that `from_pairs` cannot take for a path, whatever the field's own is.
    return Value(values=[Value(name=_VALUE, type=flag.type)])


def _merge(request: dict[str, Any], path: Path, value: Any) -> None:
    *above, last = path
    for part in above:
        below = request.setdefault(part, {})
        if not isinstance(below, dict):
            raise click.UsageError(f"--{'_'.join(path)}: {part} has been given a value already")
        request = below
    before = request.get(last)
    if isinstance(before, list) and isinstance(value, list):
        before.extend(value)
    elif isinstance(before, dict) and isinstance(value, dict):
        before.update(value)
    else:
        request[last] = value


def _given(known: dict[str, Flag], args: list[str], *, free: bool) -> Iterator[tuple[Flag, str]]:
    while args:
        word = args.pop(0)
        if not word.startswith("--") or word == "--":
            raise click.UsageError(f"unexpected {word[:40]!r}: values follow a flag, --name=value")
        name, equals, text = word[2:].partition("=")
        flag = Flag((name,), "any", True) if free and name else known.get(_key(name))
        if flag is None:
            raise _unknown(name, known)
        yield flag, text if equals else _next(flag, args)


def _next(flag: Flag, args: list[str]) -> str:
    """The value in the words after a flag; a switch may stand alone."""
    follows = args[0] if args else "--"
    if flag.type == "bool":
        return args.pop(0) if follows.lower() in ("true", "false") else "true"
    if follows.startswith("--"):
        raise click.UsageError(f"--{flag.name} needs a value ({flag.type}): --{flag.name}=value")
    return args.pop(0)


def _unknown(name: str, known: dict[str, Flag]) -> click.NoSuchOption:
    from difflib import get_close_matches

    close = get_close_matches(_key(name), known)
    return click.NoSuchOption(f"--{name[:80]}", possibilities=[f"--{known[c].name}" for c in close])
