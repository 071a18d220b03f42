"""Whether who reads by one schema can read everything that is written by another.

Nobody keeps a library for this that says why not, so it is done here. It is sound: what is said
to be compatible is. It is not complete: what cannot be told counts as incompatible, and says so.

A writer writes the properties that it declares, and others only if it says so by
``additionalProperties``, or declares none at all (a map). A reader takes properties that it does
not know unless it forbids them, and fills in what is missing where it has a default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from microcosmos.base import codec, errors

from .interface import Problem
from .shapes import (
    Array,
    CannotTellError,
    Node,
    Number,
    Object,
    Shape,
    Text,
    Value,
    matches,
)
from .side import Side

MAX_STEPS = 10_000
"""Pairs of places that are compared; with more it cannot be told."""

MAX_PROBLEMS = 20
"""Problems that are told; there may be more."""

_Key = tuple[tuple[str, ...], tuple[str, ...]]


def compare(reader: Any, writer: Any) -> list[Problem]:
    """Why who reads by one schema cannot read what is written by another; nothing if it can.

    Args:
        reader: a JSON Schema, a dict or a boolean.
        writer: the same.
    """
    comparison = _Comparison(Side(reader, reading=True), Side(writer, reading=False))
    try:
        found = comparison.nodes((reader,), (writer,), "$")
    except (CannotTellError, errors.Error, RecursionError) as exc:
        why = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        found = [Problem("$", f"it cannot be told: {why}", unsure=True)]
    return list(dict.fromkeys(found))[:MAX_PROBLEMS]


class _Comparison:
    """Compares what two sides have at the same places.

    Schemas may be made of themselves: a pair of places that is being compared already is taken to
    be compatible meanwhile.
    """

    def __init__(self, reader: Side, writer: Side) -> None:
        self._reader = reader
        self._writer = writer
        self._steps = 0
        self._open: set[_Key] = set()
        self._compatible: dict[_Key, None] = {}

    def nodes(self, reader: Node, writer: Node, path: str) -> list[Problem]:
        """What is wrong at a place."""
        key = (self._reader.key(reader), self._writer.key(writer))
        if key in self._open or key in self._compatible:
            return []
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise CannotTellError(f"there are more than {MAX_STEPS} places to compare")
        sure = len(self._compatible)
        self._open.add(key)
        try:
            found = self._nodes(reader, writer, path)
        finally:
            self._open.discard(key)
        if found:
            # What was found since may rest on this pair, which is not compatible after all.
            while len(self._compatible) > sure:
                self._compatible.popitem()
        else:
            self._compatible[key] = None
        return found

    def _nodes(self, reader: Node, writer: Node, path: str) -> list[Problem]:
        if not reader or self._same(reader, writer):
            return []
        try:
            taken, written = self._reader.shapes(reader), self._writer.shapes(writer)
        except CannotTellError as exc:
            return [Problem(path, f"it cannot be told: {exc}", unsure=True)]
        found: list[Problem] = []
        for shape in written:
            found += self._covered(shape, reader, taken, path)
            if len(found) > MAX_PROBLEMS:
                break
        return list(dict.fromkeys(found))

    def _same(self, reader: Node, writer: Node) -> bool:
        if self._reader.key(reader) != self._writer.key(writer):
            return False
        return self._reader.whole(reader) == self._writer.whole(writer)

    def _covered(
        self, written: Shape, reader: Node, taken: list[Shape], path: str
    ) -> list[Problem]:
        """What is wrong with one shape that is written."""
        if isinstance(written, Value):
            if self._reader.fits(reader, written.value):
                return []
            return self._refused(written, taken, path)
        candidates = [one for one in taken if one.kind == written.kind]
        tried = []
        for one in candidates:
            problems = list(self._fits(one, written, path))
            if not problems:
                return []
            tried.append((one, problems))
        if not tried:
            return [_unlike(written, taken, path)]
        # Of a union the member that was meant, which a property with values of its own tells.
        meant = [each for each in tried if not self._tag(each[0], written)]
        if not meant:
            return [self._untold(candidates, written, path)]
        return min((problems for _, problems in meant), key=len)

    def _tag(self, reader: Shape, writer: Shape) -> str:
        """A property whose values in one are none of the other; empty when there is none."""
        if isinstance(reader, Object) and isinstance(writer, Object):
            for name in writer.declared:
                mine = self._reader.values(reader.of(name))
                theirs = self._writer.values(writer.of(name))
                if mine and theirs and not any(one in mine for one in theirs):
                    return name
        return ""

    def _untold(self, candidates: list[Shape], written: Shape, path: str) -> Problem:
        """What is wrong when another member of a union was meant than any that is taken."""
        assert isinstance(written, Object)
        name = self._tag(candidates[0], written)
        mine = [
            value
            for one in candidates
            if isinstance(one, Object)
            for value in self._reader.values(one.of(name)) or ()
        ]
        theirs = self._writer.values(written.of(name)) or []
        detail = f"{_list(map(_json, theirs))} may be written, and only {_list(map(_json, mine))}"
        return Problem(_below(path, name), f"{detail} is taken")

    def _refused(self, written: Value, taken: list[Shape], path: str) -> list[Problem]:
        if written.any_of_type or not isinstance(written.value, dict | list):
            return [_unlike(written, taken, path)]
        return [Problem(path, f"{_json(written.value)} may be written, and is not taken")]

    def _fits(self, reader: Shape, writer: Shape, path: str) -> Iterator[Problem]:
        match reader, writer:
            case Number(), Number():
                yield from _numbers(reader, writer, path)
            case Text(), Text():
                yield from _texts(reader, writer, path)
            case Array(), Array():
                yield from self._arrays(reader, writer, path)
            case Object(), Object():
                yield from self._objects(reader, writer, path)
        for keyword, _ in sorted(reader.opaque - writer.opaque):
            detail = f"it cannot be told whether what is written fits `{keyword}`"
            yield Problem(path, detail, unsure=True)

    def _arrays(self, reader: Array, writer: Array, path: str) -> Iterator[Problem]:
        longest = writer.longest
        yield from _sizes("items", reader, writer.least, longest, path)
        if reader.unique and not writer.unique and (longest is None or longest > 1):
            yield Problem(path, "items have to be unique, and may be written twice")
        first = max(reader.first, writer.first)
        if longest is not None:
            first = min(first, longest)
        for index in range(first):
            yield from self.nodes(reader.at(index), writer.at(index), f"{path}[{index}]")
        if longest is None or longest > first:
            yield from self.nodes(reader.at(first), writer.at(first), f"{path}[*]")

    def _objects(self, reader: Object, writer: Object, path: str) -> Iterator[Problem]:
        names = [name for name in writer.declared if self._is_written(writer, name)]
        others, patterns = writer.others, writer.patterns
        for name in sorted(reader.required - writer.required):
            detail = (
                "it is required, and may be left out"
                if name in names
                else "it is required, and is not written"
            )
            yield Problem(_below(path, name), detail)
        count = None if others is not None or patterns else len(names)
        most = (
            count
            if writer.most is None
            else writer.most
            if count is None
            else min(count, writer.most)
        )
        least = max(writer.least, len(writer.required))
        yield from _sizes("properties", reader, least, most, path)
        for name in names:
            yield from self._property(reader, writer, name, path)
        if others is not None:
            yield from self._others(reader, writer, others, names, path)
        for pattern, schemas in patterns.items():
            yield from self._patterned(reader, pattern, schemas, names, path)
        if reader.called:
            yield from self._called(reader, writer, names, others is not None, path)

    def _is_written(self, writer: Object, name: str) -> bool:
        """Whether a declared property can be there."""
        try:
            return bool(self._writer.shapes(writer.of(name)))
        except CannotTellError:
            return True

    def _property(self, reader: Object, writer: Object, name: str, path: str) -> Iterator[Problem]:
        taken, at = reader.of(name), _below(path, name)
        if False in taken and name not in reader.declared:
            yield Problem(at, "it may be written, and unknown properties are not taken")
        else:
            yield from self.nodes(taken, writer.of(name), at)

    def _others(
        self, reader: Object, writer: Object, others: Node, names: list[str], path: str
    ) -> Iterator[Problem]:
        """Names that a writer does not tell."""
        for name in reader.declared:
            if name not in names and self._may_be_called(writer, name):
                problems = self.nodes(reader.of(name), others, _below(path, name))
                if problems:
                    detail = f"any property may be written, this one too: {problems[0].detail}"
                    yield Problem(problems[0].path, detail, problems[0].unsure)
        for one in reader.names:
            for schema in (*one.patterns.values(), one.rest):
                if schema is False:
                    yield Problem(path, "any property may be written, and not all are taken")
                elif schema is not None:
                    yield from self.nodes((schema,), others, f"{path}.*")

    def _may_be_called(self, writer: Object, name: str) -> bool:
        return not writer.called or self._writer.fits(writer.called, name)

    def _patterned(
        self, reader: Object, pattern: str, schemas: Node, names: list[str], path: str
    ) -> Iterator[Problem]:
        """Names of a pattern."""
        at = f"{path}.*"
        for name in reader.declared:
            if name not in names and matches(pattern, name):
                yield from self.nodes(reader.of(name), schemas, _below(path, name))
        for one in reader.names:
            for schema in one.patterns.values():
                # Other patterns may have the same names.
                yield from self.nodes((schema,), schemas, at)
            if one.rest is not None and pattern not in one.patterns:
                yield from self.nodes((one.rest,), schemas, at)

    def _called(
        self, reader: Object, writer: Object, names: list[str], others: bool, path: str
    ) -> Iterator[Problem]:
        """What the names look like."""
        for name in names:
            if not self._reader.fits(reader.called, name):
                yield Problem(_below(path, name), "it may be written, and such a name is not taken")
        text = {"type": "string"}
        written: list[Node] = [(*writer.called, text)] if others else []
        written += [(*writer.called, text, {"pattern": one}) for one in writer.patterns]
        for node in written:
            for problem in self.nodes((*reader.called, text), node, path):
                yield Problem(path, f"names of properties: {problem.detail}", problem.unsure)


def _sizes(
    what: str, reader: Array | Object, least: int, most: int | None, path: str
) -> Iterator[Problem]:
    if reader.least > least:
        yield Problem(path, f"at least {reader.least} {what} are taken, and {least} may be written")
    if reader.most is not None and (most is None or most > reader.most):
        written = "more" if most is None else str(most)
        yield Problem(path, f"at most {reader.most} {what} are taken, and {written} may be written")


def _numbers(reader: Number, writer: Number, path: str) -> Iterator[Problem]:
    whole = writer.integer or any(step == step.to_integral_value() for step in writer.steps)
    if reader.integer and not whole:
        yield Problem(path, "a number may be written, and only an integer is taken")
    low, high = _low(writer), _high(writer)
    for least, word, out in ((reader.least, "from", 0), (reader.above, "above", 1)):
        if least is not None and (low is None or low < (least, out)):
            detail = f"numbers {word} {least} are taken, and {_range(writer)} may be written"
            yield Problem(path, detail)
    for most, word, out in ((reader.most, "up to", 0), (reader.below, "below", -1)):
        if most is not None and (high is None or high > (most, out)):
            detail = f"numbers {word} {most} are taken, and {_range(writer)} may be written"
            yield Problem(path, detail)
    for step in sorted(reader.steps - writer.steps):
        steps = writer.steps | ({Decimal(1)} if writer.integer else set())
        if not any(one % step == 0 for one in steps):
            yield Problem(path, f"multiples of {step} are taken, and others may be written")


def _low(number: Number) -> tuple[Decimal, int] | None:
    """The lower end; a one beside it says that it is excluded, so that ends can be compared."""
    ends = ((number.least, 0), (number.above, 1))
    return max(((limit, out) for limit, out in ends if limit is not None), default=None)


def _high(number: Number) -> tuple[Decimal, int] | None:
    """The upper end; minus one beside it says that it is excluded."""
    ends = ((number.most, 0), (number.below, -1))
    return min(((limit, out) for limit, out in ends if limit is not None), default=None)


def _range(number: Number) -> str:
    said = [
        f"{word} {limit}"
        for word, limit in (
            ("from", number.least),
            ("above", number.above),
            ("up to", number.most),
            ("below", number.below),
        )
        if limit is not None
    ]
    return " ".join(said) if said else "any"


def _texts(reader: Text, writer: Text, path: str) -> Iterator[Problem]:
    if reader.least > writer.least:
        detail = f"at least {reader.least} characters are taken, and {writer.least} may be written"
        yield Problem(path, detail)
    if reader.most is not None and (writer.most is None or writer.most > reader.most):
        written = "more" if writer.most is None else str(writer.most)
        detail = f"at most {reader.most} characters are taken, and {written} may be written"
        yield Problem(path, detail)
    for pattern in sorted(reader.patterns - writer.patterns):
        if writer.patterns or writer.formats:
            detail = f"it cannot be told whether what is written is like {pattern}"
            yield Problem(path, detail, unsure=True)
        else:
            yield Problem(path, f"texts like {pattern} are taken, and any may be written")
    for format in sorted(reader.formats - writer.formats):
        if writer.patterns or writer.formats:
            detail = f"it cannot be told whether what is written is a {format}"
            yield Problem(path, detail, unsure=True)
        else:
            yield Problem(path, f"a {format} is taken, and any text may be written")


def _unlike(written: Shape, taken: list[Shape], path: str) -> Problem:
    """What is wrong when there is nothing of its kind."""
    what = _called(written)
    if not taken:
        return Problem(path, f"{what} may be written, and nothing is taken here")
    return Problem(path, f"{what} may be written, and only {_list(map(_called, taken))} is taken")


def _called(shape: Shape) -> str:
    match shape:
        case Value():
            if shape.any_of_type:
                return "null" if shape.value is None else "a boolean"
            return _json(shape.value)
        case Number():
            return "an integer" if shape.integer else "a number"
    return f"{'an' if shape.kind in ('array', 'object') else 'a'} {shape.kind}"


def _list(names: Iterable[str]) -> str:
    told = list(dict.fromkeys(names)) or ["nothing"]
    shown = told[:10] + (["…"] if len(told) > 10 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _json(value: Any) -> str:
    text = codec.encode(value).decode()
    return text if len(text) <= 60 else text[:60] + "…"


_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if _PLAIN_NAME.fullmatch(name) else f"{path}[{_json(name)}]"
