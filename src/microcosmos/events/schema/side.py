"""One schema of a comparison, with everything that it refers to."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import jsonschema_rs

from .document import DEFAULT_DRAFT, validator
from .keywords import plain
from .rewriting import CONTRARY, bare, encoded, moved, pointers, says
from .shapes import ANY, CannotTellError, Node, Object, Shape, Value, both, kind_of, same


class Side:
    """One schema of a comparison, taken apart as far as is asked.

    Args:
        schema: the whole of it.
        reading: what is left out is filled in where there is a default; unless the schema says
            somewhere what must not fit (``oneOf``, ``not``, ``if``): more would fit that then.
    """

    def __init__(self, schema: Any, *, reading: bool) -> None:
        self.root = schema
        self.reading = reading
        self._fills = reading and not says(schema, CONTRARY)
        named = schema.get("$schema", "") if isinstance(schema, dict) else ""
        self._draft = named or DEFAULT_DRAFT
        # Up to draft 7 a reference stands alone, whatever is beside it.
        self._lonely = any(f"draft-0{number}" in self._draft for number in (3, 4, 6, 7))
        self._texts: dict[int, str] = {}
        self._shapes: dict[tuple[str, ...], list[Shape]] = {}
        self._validators: dict[tuple[str, ...], jsonschema_rs.Validator] = {}
        self._wholes: dict[tuple[str, ...], str] = {}

    def key(self, node: Node) -> tuple[str, ...]:
        """What tells nodes of this side apart."""
        return tuple(sorted({self._text(one) for one in node}))

    def whole(self, node: Node) -> str:
        """What tells nodes of any side apart: with everything that they refer to."""
        key = self.key(node)
        if key not in self._wholes:
            found: dict[str, str] = {}
            waiting = [pointer for one in node for pointer in pointers(one)]
            while waiting:
                pointer = waiting.pop()
                if pointer not in found:
                    target = self.at(pointer)
                    found[pointer] = self._text(target)
                    waiting += pointers(target)
            self._wholes[key] = repr((self._draft, key, sorted(found.items())))
        return self._wholes[key]

    def fits(self, node: Node, value: Any) -> bool:
        """Whether a value fits."""
        key = self.key(node)
        if key not in self._validators:
            root = self.root
            if isinstance(root, dict):
                root = {name: inner for name, inner in root.items() if name != "$schema"}
            held = {"$schema": self._draft, "$defs": {"root": root}, "allOf": list(node)}
            self._validators[key] = validator(moved(held, reading=self._fills))
        try:
            return self._validators[key].is_valid(value)
        except ValueError:  # it is nested too deeply
            return False

    def at(self, pointer: str) -> Any:
        """What a reference leads to."""
        found = self.root
        for part in pointer.removeprefix("#").split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise CannotTellError(f"{pointer} leads nowhere") from None
        return found

    def shapes(self, node: Node) -> list[Shape]:
        """The shapes that a value may have.

        Raises:
            CannotTellError: a part of it is not understood, or there are too many.
        """
        key = self.key(node)
        if key not in self._shapes:
            found = self._all(node, frozenset())
            self._shapes[key] = [one for one in found if self._stands(one, node)]
        return self._shapes[key]

    def _stands(self, shape: Shape, node: Node) -> bool:
        """Whether there is a value of a shape, where that can be told at once."""
        if not isinstance(shape, Value) or (shape.any_of_type and not shape.opaque):
            return True
        return self.fits(node, shape.value)

    def _all(self, node: Iterable[Any], open_refs: frozenset[str]) -> list[Shape]:
        found = ANY
        for one in node:
            found = both(found, self._of(one, open_refs))
        return found

    def _of(self, schema: Any, open_refs: frozenset[str]) -> list[Shape]:
        if not isinstance(schema, dict):
            return ANY if schema is not False else []
        reference = schema.get("$ref")
        if reference is not None and self._lonely:
            return self._referred(reference, open_refs)
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return [Value(value=one) for one in values if self.fits((schema,), one)]
        found = list(plain(schema, self._lonely, reading=self._fills))
        if reference is not None:
            found = both(found, self._referred(reference, open_refs))
        for inner in schema.get("allOf", ()):
            found = both(found, self._of(inner, open_refs))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                branches = [self._of(inner, open_refs) for inner in schema[keyword]]
                if keyword == "oneOf" and self.reading:
                    self._check_apart(branches)
                found = both(found, list(itertools.chain.from_iterable(branches)))
        return found

    def _referred(self, reference: str, open_refs: frozenset[str]) -> list[Shape]:
        if reference in open_refs:
            raise CannotTellError(f"{reference} refers to itself")
        return self._of(self.at(reference), open_refs | {reference})

    def _check_apart(self, branches: list[list[Shape]]) -> None:
        """A value of two branches of ``oneOf`` does not fit, so there may be none."""
        for one, other in itertools.combinations(branches, 2):
            for left, right in itertools.product(one, other):
                if not self._apart(left, right):
                    raise CannotTellError("the branches of oneOf may overlap; use anyOf")

    def _apart(self, one: Shape, other: Shape) -> bool:
        if isinstance(one, Value) and isinstance(other, Value):
            return not same(one.value, other.value)
        if isinstance(one, Value) or isinstance(other, Value):
            value, shape = (one, other) if isinstance(one, Value) else (other, one)
            assert isinstance(value, Value)
            return kind_of(value.value) != shape.kind
        if one.kind != other.kind:
            return True
        if isinstance(one, Object) and isinstance(other, Object):
            return any(self._tells(name, one, other) for name in one.required | other.required)
        return False

    def _tells(self, name: str, one: Object, other: Object) -> bool:
        """Whether a property has values in one that it has not in the other."""
        left, right = self.values(one.of(name)), self.values(other.of(name))
        if left is None or right is None:
            return False
        return not any(same(a, b) for a, b in itertools.product(left, right))

    def values(self, node: Node) -> list[Any] | None:
        """The values that fit, if they are listed."""
        listed = [one for one in node if isinstance(one, dict) and {"const", "enum"} & one.keys()]
        if not listed:
            return None
        return [
            shape.value for shape in self._of(listed[0], frozenset()) if isinstance(shape, Value)
        ]

    def _text(self, schema: Any) -> str:
        if not isinstance(schema, dict):
            return encoded(schema)
        known = self._texts.get(id(schema))
        if known is None:
            known = self._texts[id(schema)] = encoded(bare(schema))
        return known
