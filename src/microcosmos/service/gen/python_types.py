"""Types of a model as Python annotations."""

from __future__ import annotations

from typing import Any

import msgspec

from . import layout
from .layout import Code, subscript, union
from .model import (
    ANY,
    NULL,
    Alias,
    Choice,
    Either,
    Field,
    Many,
    Map,
    Model,
    Named,
    Plain,
    Row,
    Type,
)

NAMES = frozenset(
    {
        *("Any", "AsyncIterable", "Callable", "Decimal", "False", "Iterable", "Literal", "Mapping"),
        *("None", "NotRequired", "Sequence", "True", "TypeAlias", "TypedDict", "UNSET", "Union"),
        *("UnsetType", "UUID"),
    }
)
"""Names that annotations and their modules use."""

_PLAIN = {
    "any": "Any", "null": "None", "bool": "bool", "int": "int", "float": "float",
    "str": "str", "bytes": "bytes", "datetime": "dt.datetime", "date": "dt.date",
    "time": "dt.time", "duration": "dt.timedelta", "uuid": "UUID", "decimal": "Decimal",
}  # fmt: skip
_HOMES = {
    "Any": "typing", "Literal": "typing", "UUID": "uuid", "Decimal": "decimal",
}  # fmt: skip
_TEXTS = frozenset({"str", "bytes", "datetime", "date", "time", "duration", "uuid", "decimal"})
_LONGEST_DEFAULT = 40


class Imports:
    """The imports of a module, in the order of formatters."""

    def __init__(self) -> None:
        self._modules: set[str] = set()
        self._names: dict[str, set[str]] = {}

    def module(self, name: str) -> None:
        """``import name``, where name may be ``datetime as dt``."""
        self._modules.add(name)

    def name(self, module: str, *names: str) -> None:
        """``from module import names``."""
        self._names.setdefault(module, set()).update(names)

    def lines(self, standard: frozenset[str]) -> list[str]:
        """The lines; a blank one after the modules of the standard library."""
        found: list[str] = []
        for own in (True, False):
            part = [
                f"import {name}"
                for name in sorted(self._modules)
                if (name.split()[0].partition(".")[0] in standard) is own
            ]
            for module in sorted(self._names):
                if (module.partition(".")[0] in standard) is own:
                    part += _from(module, self._names[module])
            if found and part:
                found.append("")
            found += part
        return found


def _from(module: str, names: set[str]) -> list[str]:
    # Constants, then classes, then the rest, as isort has it.
    def order(name: str) -> tuple[int, str]:
        constant = name.isupper() and len(name) > 1
        return (0 if constant else 1 if name[:1].isupper() else 2, name)

    listed = sorted(names, key=order)
    return (
        layout.lines(f"from {module} import ", layout.Group("(", tuple(listed), ")"))
        if (len(f"from {module} import {', '.join(listed)}") > layout.WIDTH)
        else [f"from {module} import {', '.join(listed)}"]
    )


class Types:
    """Writes types as annotations.

    Args:
        model: whose records are named.
        imports: collects what the annotations need.
        wire: as JSON decodes them without a type (texts for dates, any union), not as msgspec
            decodes them into one.
    """

    def __init__(self, model: Model, imports: Imports, *, wire: bool = False) -> None:
        self._model = model
        self._imports = imports
        self._wire = wire

    def code(self, kind: Type, hidden: frozenset[str] = frozenset()) -> Code:
        """The annotation of a type.

        Args:
            kind: the type.
            hidden: names of builtins that mean something else in the scope.
        """
        match kind:
            case Plain(name):
                return self._plain("str" if self._wire and name in _TEXTS else name, hidden)
            case Named(name):
                return name
            case Choice():
                return self._choice(kind, hidden)
            case Many(item):
                return subscript(self.builtin("list", hidden), self.code(item, hidden))
            case Row(items):
                inner = [self.code(item, hidden) for item in items]
                return subscript(self.builtin("tuple", hidden), *inner)
            case Map(value):
                text = self.builtin("str", hidden)
                return subscript(self.builtin("dict", hidden), text, self.code(value, hidden))
            case Either(options):
                return self._either(options, hidden)

    def joined(self, *codes: Code) -> Code:
        """Annotations as one union."""
        flat: list[Code] = []
        for code in codes:
            is_union = isinstance(code, layout.Group) and code.joint == " | "
            flat += code.items if isinstance(code, layout.Group) and is_union else (code,)
        return self._union(list(dict.fromkeys(flat)))

    def _plain(self, name: str, hidden: frozenset[str]) -> str:
        shown = _PLAIN[name]
        if shown in _HOMES:
            self._imports.name(_HOMES[shown], shown)
        elif shown.startswith("dt."):
            self._imports.module("datetime as dt")
        elif shown != "None":
            return self.builtin(shown, hidden)
        return shown

    def builtin(self, name: str, hidden: frozenset[str]) -> str:
        """A builtin, by its module where its name means something else."""
        if name not in hidden:
            return name
        self._imports.module("builtins")
        return f"builtins.{name}"

    def _choice(self, kind: Choice, hidden: frozenset[str]) -> Code:
        if not self._wire and any(isinstance(value, bool) for value in kind.values):
            # msgspec has no literals of truth.
            if all(isinstance(value, bool | None) for value in kind.values):
                truth = self._plain("bool", hidden)
                return union(truth, "None") if None in kind.values else truth
            return self._plain("any", hidden)
        if set(kind.values) == {None}:
            return "None"
        self._imports.name("typing", "Literal")
        return subscript("Literal", *map(layout.literal, kind.values))

    def _either(self, options: tuple[Type, ...], hidden: frozenset[str]) -> Code:
        if not self._wire:
            options = _decodable(self._model, options)
        return self._union([self.code(option, hidden) for option in options])

    def _union(self, codes: list[Code]) -> Code:
        if "Any" in codes:
            return "Any"
        flat = union(*codes)
        if len(str(flat)) > layout.WIDTH // 2:
            self._imports.name("typing", "Union")
        return flat


def _decodable(model: Model, options: tuple[Type, ...]) -> tuple[Type, ...]:
    """The union widened to one that msgspec can tell apart by the form of the JSON."""
    parts: dict[str, list[Type]] = {}
    for option in options:
        for part in _parts(model, option):
            parts.setdefault(_form(model, part), []).append(part)
    if any(Plain("decimal") in part for part in parts.values()) and set(parts) & {"int", "float"}:
        return (ANY,)
    widened: list[Type] = []
    for form, found in parts.items():
        widened += _widened(model, form, list(dict.fromkeys(found)))
    return tuple(dict.fromkeys(widened))


def _parts(model: Model, option: Type) -> list[Type]:
    """A choice apart by the forms of its values; whatever else as it is."""
    choice = option
    if isinstance(option, Named) and option.name in model.aliases:
        choice = model.aliases[option.name].type
    if not isinstance(choice, Choice):
        return [option]
    forms = {_value_form(value): _value_form(value) for value in choice.values}
    if set(forms) <= {"text"} or set(forms) <= {"int"}:
        return [option]
    return [
        NULL
        if form == "null"
        else Plain("bool")
        if form == "bool"
        else Choice(tuple(value for value in choice.values if _value_form(value) == form))
        for form in forms
    ]


def _value_form(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "text"


def _form(model: Model, option: Type) -> str:
    match option:
        case Plain(kind):
            return "text" if kind in _TEXTS else kind
        case Choice(values):
            return _value_form(values[0])
        case Named(name) if name in model.aliases:
            return _value_form(model.aliases[name].type.values[0])
        case Named() | Map():
            return "object"
        case _:
            return "array"


def _widened(model: Model, form: str, found: list[Type]) -> list[Type]:
    if len(found) == 1:
        return found
    match form:
        case "text" | "int":
            choices = [_values(model, one) for one in found]
            if all(choices):
                return [Choice(tuple(dict.fromkeys(v for one in choices for v in one)))]
            return [Plain("str" if form == "text" else "int")]
        case "object":
            tags = {model.records[one.name].tag if isinstance(one, Named) else "" for one in found}
            return found if len(tags) == 1 and "" not in tags else [Map(ANY)]
        case "array":
            return [Many(ANY)]
        case _:
            return found[:1]


def _values(model: Model, option: Type) -> tuple[Any, ...]:
    if isinstance(option, Named) and option.name in model.aliases:
        return model.aliases[option.name].type.values
    return option.values if isinstance(option, Choice) else ()


def default(model: Model, field: Field, *, mutable: bool) -> Any:
    """What a field is unless given: a value that can stand in the code, else UNSET.

    Args:
        model: of the field.
        field: one that may be left out.
        mutable: whether an empty list or object may stand there.
    """
    value = field.default
    if value is msgspec.UNSET or not _fits(model, field.type, value):
        return msgspec.UNSET
    if isinstance(value, list | dict):
        return value if mutable else msgspec.UNSET
    return value if len(layout.literal(value)) <= _LONGEST_DEFAULT else msgspec.UNSET


def _fits(model: Model, kind: Type, value: Any) -> bool:
    match kind:
        case Plain("any"):
            return not isinstance(value, list | dict)
        case Plain("null"):
            return value is None
        case Plain("bool"):
            return isinstance(value, bool)
        case Plain("int"):
            return isinstance(value, int) and not isinstance(value, bool)
        case Plain("float"):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Plain("str"):
            return isinstance(value, str)
        case Choice(values):
            return any(type(one) is type(value) and one == value for one in values)
        case Named(name) if name in model.aliases:
            return _fits(model, model.aliases[name].type, value)
        case Many():
            return bool(value == [])
        case Map():
            return bool(value == {})
        case Either(options):
            return any(_fits(model, option, value) for option in options)
    return False


def alias(types: Types, one: Alias) -> list[str]:
    """A choice by its name."""
    return layout.lines(f"{one.name}: TypeAlias = ", types.code(one.type))
