"""Types for `Client("users")` where it is written, as stub files for editors and type checkers.

A folder with ``microcosmos/__init__.pyi`` that stands before the package itself on the checker's
path: pyright takes ``typings`` by itself, mypy with ``mypy_path = "typings"``. Nothing of it is
imported when a program runs; there `Client("users")` is a `Remote`, whose answers are as JSON
decodes them. So the types here are TypedDicts.
"""

from __future__ import annotations

import keyword
import sys
from collections.abc import Mapping, Sequence

from microcosmos.base import names as endpoint_names

from . import layout, python, python_types, words
from .layout import Code, Group, Part
from .model import Field, Method, Model, Named, Record
from .python_types import NAMES, Imports, Types

RESERVED = NAMES | python.RESERVED | {"Connection", "Context", "Metadata", "Service"}
"""Names that no type of a stub may have."""

_BUILTINS = frozenset({"bool", "bytes", "dict", "float", "int", "list", "str", "tuple"})
_OWN = frozenset({"invoke", "stream"})
_INVOKE = "async def invoke"
_STREAM = "def stream"
_STANDARD = frozenset(sys.stdlib_module_names)


def files(models: Sequence[Model], *, again: str) -> Mapping[str, str]:
    """The texts of all files, by their paths below the folder.

    Args:
        models: the services, read with `RESERVED`.
        again: the command that writes them again.
    """
    head = f"# Made by `{again}`; make it again when the services change.\n"
    modules = _modules(models)
    found = {
        "microcosmos/__init__.pyi": head + _root(models, modules),
        "microcosmos/clients/__init__.pyi": head + _CLIENTS,
    }
    for model in models:
        found[f"microcosmos/clients/{modules[model.name]}.pyi"] = head + _Module(model).write()
    return found


def _modules(models: Sequence[Model]) -> dict[str, str]:
    modules: dict[str, str] = {}
    for model in models:
        name = words.identifier(model.name)
        if keyword.iskeyword(name):
            name += "_"
        modules[model.name] = words.unique(name, set(modules.values()))
    return modules


class _Module:
    """The stub of one service."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._imports = Imports()
        self._types = Types(model, self._imports, wire=True)

    def write(self) -> str:
        model = self._model
        body: list[str] = []
        for alias in model.aliases.values():
            self._imports.name("typing", "TypeAlias")
            body += [*python_types.alias(self._types, alias), ""]
        for record in model.records.values():
            body += [*self._record(record), ""]
        body += self._client()
        lines = [*self._imports.lines(_STANDARD), "", *body]
        return "\n".join(lines).rstrip() + "\n"

    def _record(self, record: Record) -> list[str]:
        self._imports.name("typing", "TypedDict")
        fields = record.fields
        hidden = frozenset(field.name for field in fields)
        plain = all(layout.legal(one.name) and not one.name.startswith("_") for one in fields)
        if (
            not fields
            or not plain
            or hidden & (_BUILTINS | {*NAMES, *self._model.records, *self._model.aliases})
        ):
            return self._functional(record)
        about = layout.docstring(words.prose(record.about, 80), 4)
        lines = [f"class {record.name}(TypedDict):", *about, *([""] if about and fields else [])]
        for field in fields:
            lines += layout.lines(f"{field.name}: ", self._held(field), "", 4)
        return lines

    def _functional(self, record: Record) -> list[str]:
        """For names that cannot stand in a class."""
        fields: list[Code] = [
            Part(f"{layout.text(field.name)}: ", self._held(field)) for field in record.fields
        ]
        fields_ = Group("{", tuple(fields), "}")
        arguments: tuple[Code, ...] = (layout.text(record.name), fields_)
        return layout.lines(f"{record.name} = ", Group("TypedDict(", arguments, ")"))

    def _held(self, field: Field) -> Code:
        kind = self._types.code(field.type)
        if field.required:
            return kind
        self._imports.name("typing", "NotRequired")
        return layout.subscript("NotRequired", kind)

    def _client(self) -> list[str]:
        model = self._model
        names = self._names()
        hidden = frozenset(names.values()) & _BUILTINS
        lines = [
            f"class {model.client}:",
            *layout.docstring([f"The service {model.name}, as `Client` gives it."], 4),
            "",
        ]
        for method in model.methods:
            if method.endpoint in names:
                lines += self._method(method, names[method.endpoint], hidden)
        unary = [method for method in model.methods if not _streams(method)]
        streams = [method for method in model.methods if _streams(method)]
        lines += self._by_text(_INVOKE, unary, hidden)
        return lines + self._by_text(_STREAM, streams, hidden)

    def _names(self) -> dict[str, str]:
        """The methods by which a `Remote` reaches its endpoints; not every endpoint has one."""
        names: dict[str, str] = {}
        service = self._model.name
        for method in self._model.methods:
            word = method.endpoint.rpartition(".")[2]
            for name in (words.snake(word), word[:1].lower() + word[1:]):
                reached = endpoint_names.endpoint_name(service, name) == method.endpoint
                if reached and layout.legal(name) and name not in _OWN and not _streams(method):
                    names[method.endpoint] = name
                    break
        return names

    def _method(self, method: Method, name: str, hidden: frozenset[str]) -> list[str]:
        answer = self._types.code(method.response, hidden)
        record = self._record_of(method)
        whole = self._whole(method, hidden)
        fields = record.fields if record is not None else []
        legal = all(layout.legal(field.name) and field.name != "self" for field in fields)
        if record is None or not fields or not legal:
            head = f"async def {name}"
            return self._signature(head, ["self", *whole], answer, about=method.about)
        self._imports.name("typing", "overload")
        named = self._fields(record, hidden)
        overload = ["    @overload"]
        request = Part("request: ", self._types.code(method.request, hidden))
        return [
            *overload,
            *self._signature(
                f"async def {name}", ["self", "*", *named], answer, about=method.about
            ),
            *overload,
            *self._signature(
                f"async def {name}", ["self", request, "/"], answer, about=method.about
            ),
        ]

    def _record_of(self, method: Method) -> Record | None:
        if isinstance(method.request, Named):
            return self._model.records.get(method.request.name)
        return None

    def _whole(self, method: Method, hidden: frozenset[str]) -> list[Code]:
        request = self._types.code(method.request, hidden)
        default = " = ..." if self._model.optional(method.request) else ""
        return [Part("request: ", request, default), "/"]

    def _fields(self, record: Record, hidden: frozenset[str]) -> list[Code]:
        def code(field: Field) -> Code:
            kind = self._types.code(field.type, hidden)
            return Part(f"{field.name}: ", kind, "" if field.required else " = ...")

        return [code(field) for field in record.fields]

    def _signature(
        self, name: str, parameters: list[Code], answer: Code, about: str = ""
    ) -> list[str]:
        told = layout.docstring(words.prose(about, 80), 8)
        end = ":" if told else ": ..."
        flat = f"    {name}{Group('(', tuple(parameters), ')')} -> {answer}{end}"
        if len(flat) <= layout.WIDTH:
            return [flat, *told]
        *lines, last = layout.exploded(name, parameters, "", 4)
        return [*lines, *layout.lines(f"{last.strip()} -> ", answer, end, 4), *told]

    # By text.

    def _by_text(self, name: str, methods: list[Method], hidden: frozenset[str]) -> list[str]:
        """`invoke` or `stream` with the name of an endpoint; with a type, of any endpoint."""
        self._imports.name("collections.abc", "Mapping")
        self._imports.name("typing", "Any")
        lines: list[str] = []
        for method in methods:
            parameters: list[Code] = ["self", self._endpoint(method, hidden)]
            request = self._types.code(method.request, hidden)
            default = " = ..." if self._model.optional(method.request) else ""
            parameters += [Part("request: ", request, default), "*", *self._options(name, hidden)]
            answer = self._types.code(method.response, hidden)
            if name == _STREAM:
                answer = layout.subscript("Stream", self._item(method, hidden), answer)
            lines += ["    @overload", *self._signature(name, parameters, answer)]
        if methods:
            self._imports.name("typing", "overload")
            lines.append("    @overload")
        text = self._types.builtin("str", hidden)
        general: list[Code] = ["self", f"endpoint: {text}", "request: Any = ...", "*"]
        general += ["type: Any", *self._options(name, hidden)]
        answers: Code = "Any"
        if name == _STREAM:
            self._imports.name("microcosmos.clients", "Stream")
            answers = layout.subscript("Stream", "Any", "Any")
        return [*lines, *self._signature(name, general, answers)]

    def _endpoint(self, method: Method, hidden: frozenset[str]) -> Code:
        del hidden
        self._imports.name("typing", "Literal")
        handler, _, word = method.endpoint.rpartition(".")
        own = handler == endpoint_names.handler_of(self._model.name)
        shown = [method.endpoint, *([word] if own else [])]
        return Part("endpoint: ", layout.subscript("Literal", *map(layout.text, shown)))

    def _item(self, method: Method, hidden: frozenset[str]) -> Code:
        # Who streams nothing can send nothing.
        if method.items is None:
            self._imports.name("typing", "Never")
            return "Never"
        return self._types.code(method.items, hidden)

    def _options(self, name: str, hidden: frozenset[str]) -> list[Code]:
        text, number = (self._types.builtin(one, hidden) for one in ("str", "float"))
        retry = self._types.builtin("bool", hidden)
        return [
            f"metadata: Mapping[{text}, {text}] | None = ...",
            f"timeout: {number} | None = ...",
            *([] if name == _STREAM else [f"retry: {retry} = ..."]),
        ]


def _streams(method: Method) -> bool:
    return method.streams or method.items is not None


_CLIENTS = """\
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item", contravariant=True)
Answer = TypeVar("Answer", covariant=True)

class Stream(Generic[Item, Answer]):
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    async def send(self, message: Item) -> None: ...
    async def end(self) -> None: ...
    def __aiter__(self) -> AsyncIterator[Answer]: ...
"""

_ROOT = """\
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, TypeVar, overload

from microcosmos.base import errors as errors
from microcosmos.base.context import Context as Context
from microcosmos.base.context import Metadata as Metadata
from microcosmos.base.context import current as current
from microcosmos.base.home import Home as _Home
{imports}
from microcosmos.service import Connection as _Connection
from microcosmos.service import Remote as _Remote
from microcosmos.service import Service as _Service
from microcosmos.service import run as run

_T = TypeVar("_T")

__version__: str

class Service(_Service):
{methods}

class Connection(_Connection):
{methods}

def connect(
    home: _Home | None = None, *, name: str = "program"
) -> AbstractAsyncContextManager[Connection]: ...
{functions}
"""


def _root(models: Sequence[Model], modules: Mapping[str, str]) -> str:
    """The package itself, with clients that know the services."""
    imports = [
        f"from microcosmos.clients.{module} import {model.client} as _{module}"
        for model in models
        for module in [modules[model.name]]
    ]
    known = [(layout.text(model.name), f"_{modules[model.name]}") for model in models]
    return _ROOT.format(
        imports="\n".join(sorted(imports)),
        methods=_overloads("    ", "client", "self, ", known),
        functions=_overloads("", "Client", "", known),
    )


def _overloads(space: str, name: str, first: str, known: Sequence[tuple[str, str]]) -> str:
    lines = []
    for at, (service, kind) in enumerate(known):
        # What is known is no `Remote`, though a name alone gives one.
        mark = "  # type: ignore[override]" if first and not at else ""
        told = f"{space}def {name}({first}name: Literal[{service}]) -> {kind}: ..."
        lines += [f"{space}@overload{mark}", f"{told}  # type: ignore[overload-overlap]"]
    lines += [
        f"{space}@overload",
        f"{space}def {name}({first}name: str) -> _Remote: ...",
        f"{space}@overload",
        f"{space}def {name}({first}name: str, interface: Callable[..., _T]) -> _T: ...",
    ]
    return "\n".join(lines)
