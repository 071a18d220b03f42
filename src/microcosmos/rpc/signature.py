"""Signatures: what a function takes and gives, read from its type hints."""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from microcosmos.base import context

Function = Callable[..., Any]

_STREAMS = frozenset(
    (
        collections.abc.AsyncIterator,
        collections.abc.AsyncIterable,
        collections.abc.AsyncGenerator,
    )
)
_ANSWERS = _STREAMS | {
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
}


class Signature:
    """What a function takes and gives.

    Attributes:
        request: the type of the request: a struct of the function's own, or one made of its
            parameters.
        whole: whether the request is one parameter.
        returns: the type of the answer, or of each one of a stream.
        answers: whether the answer is a stream: the function is a generator.
        items: the name of the parameter that is the caller's stream, or empty.
        item: the type of that stream's messages.
        names: of the parameters, in order.
        fields: those of them that the request has.
        given: those that come from elsewhere: the caller's stream and the context.
        by_name: those that are given by their names.
        wants_context: those that get the circumstances of the call.
    """

    def __init__(self, function: Function, full_name: str) -> None:
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as exc:
            raise TypeError(
                f"{function.__name__}: {exc}; the types of a handler must stand in its module"
            ) from None
        parameters = list(inspect.signature(function).parameters.values())
        self.answers = inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
        self.returns = hints.get("return", Any)
        if not self.answers and typing.get_origin(self.returns) in _STREAMS:
            raise TypeError(f"{function.__name__}: a stream of answers is made by `yield`")
        if self.answers:
            self.returns = _argument(self.returns, _ANSWERS, Any)
        streams = [p.name for p in parameters if _is_stream(hints.get(p.name))]
        if len(streams) > 1:
            raise TypeError(f"{function.__name__}: only one parameter can be the caller's stream")
        if streams and not _is_async(function):
            raise TypeError(f"{function.__name__}: only an async function can read a stream")
        self.items = streams[0] if streams else ""
        self.item = _argument(hints[self.items], _STREAMS, Any) if self.items else None
        self.wants_context = [p.name for p in parameters if hints.get(p.name) is context.Context]
        self.names = [p.name for p in parameters]
        self.by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.given = {*self.wants_context, *streams}
        fields = [p for p in parameters if p.name not in self.given]
        self.fields = [field.name for field in fields]
        _check(function, fields)
        kind = hints.get(fields[0].name, Any) if len(fields) == 1 else None
        self.whole = kind is not None and is_struct(kind)
        self.request = kind if self.whole else _request_type(full_name, fields, hints)


def _check(function: Function, fields: list[inspect.Parameter]) -> None:
    for field in fields:
        if field.kind in (field.VAR_POSITIONAL, field.VAR_KEYWORD, field.POSITIONAL_ONLY):
            raise TypeError(
                f"{function.__name__}: parameter {field} cannot be a field of a request; "
                "give each field a name and a type, or take one struct"
            )


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _is_stream(hint: Any) -> bool:
    return typing.get_origin(hint) in _STREAMS or hint in _STREAMS


def _argument(hint: Any, origins: frozenset[Any], default: Any) -> Any:
    """``T`` of ``AsyncIterator[T]``."""
    arguments = typing.get_args(hint) if typing.get_origin(hint) in origins else ()
    return arguments[0] if arguments else default


def is_struct(kind: Any) -> bool:
    """Whether a type has fields of its own: a struct, dataclass, TypedDict, attrs, pydantic."""
    if not isinstance(kind, type):
        return False
    return (
        issubclass(kind, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or typing.is_typeddict(kind)
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "model_validate")
    )


def _request_type(
    full_name: str, fields: list[inspect.Parameter], hints: dict[str, Any]
) -> type[msgspec.Struct]:
    described = [(field.name, hints.get(field.name, Any), *_default(field)) for field in fields]
    name = f"{full_name.partition('.')[2]}Request"
    return msgspec.defstruct(name, described, kw_only=True, forbid_unknown_fields=True)


def _default(field: inspect.Parameter) -> tuple[Any, ...]:
    if field.default is field.empty:
        return ()
    if isinstance(field.default, list | dict | set | bytearray) or is_struct(type(field.default)):
        return (msgspec.field(default_factory=functools.partial(copy.deepcopy, field.default)),)
    return (field.default,)
