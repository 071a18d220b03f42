"""Functions as endpoints: type hints become the shape, the validation and the codec."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import astuple

from microcosmos.base import codec, context, names, schema

from .server import Endpoint

Function = Callable[..., Any]


def endpoint(
    function: Function,
    service: str,
    *,
    name: str = "",
    metadata: Mapping[str, str] | None = None,
    lenient: bool = False,
    response: type | None = None,
) -> Endpoint:
    """Make an endpoint of a function.

    Its parameters are the request's fields, or one parameter with a struct type is the whole
    request; a parameter annotated with `Context` gets the circumstances of the call. A function
    that is not async runs in a thread.

    Args:
        function: what answers.
        service: the service's name: endpoints are called after it.
        name: ``Handler.Method`` or ``Method``; the function's own name unless said.
        metadata: what the registry shows beside the endpoint.
        lenient: texts are accepted where numbers and booleans are due.
        response: the type that the answer is described by, unless the annotation says it.

    Raises:
        TypeError: the signature cannot be a request; the text says why.
    """
    if not hasattr(function, "__name__"):
        raise TypeError(f"{function!r} is no function; give a function or a method")
    full_name = names.endpoint_name(service, name or function.__name__)
    signature = _Signature(function, full_name)
    about = dict(metadata or {})
    if text := inspect.getdoc(function):
        about.setdefault("description", text.partition("\n\n")[0].replace("\n", " "))
    answer = response or signature.returns
    return Endpoint(
        full_name,
        _compile(function, signature, service, lenient=lenient),
        _shape(signature.request, f"{names.camel(full_name.partition('.')[2])}Request"),
        _shape(answer, f"{names.camel(full_name.partition('.')[2])}Response"),
        about,
    )


class _Signature:
    """What a function takes and gives."""

    def __init__(self, function: Function, full_name: str) -> None:
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as exc:
            raise TypeError(
                f"{function.__name__}: {exc}; the types of a handler must stand in its module"
            ) from None
        parameters = list(inspect.signature(function).parameters.values())
        self.returns = hints.get("return", Any)
        self.wants_context = [p.name for p in parameters if hints.get(p.name) is context.Context]
        self.names = [p.name for p in parameters]
        self.by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        fields = [p for p in parameters if p.name not in self.wants_context]
        _check(function, fields)
        kind = hints.get(fields[0].name, Any) if len(fields) == 1 else None
        self.whole = kind is not None and is_struct(kind)
        self.request = kind if self.whole else _request_type(full_name, fields, hints)


def _check(function: Function, fields: list[inspect.Parameter]) -> None:
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{function.__name__}: streaming handlers are not built yet")
    for field in fields:
        if field.kind in (field.VAR_POSITIONAL, field.VAR_KEYWORD, field.POSITIONAL_ONLY):
            raise TypeError(
                f"{function.__name__}: parameter {field} cannot be a field of a request; "
                "give each field a name and a type, or take one struct"
            )


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


def _shape(kind: Any, name: str) -> schema.Value:
    if kind is None or kind is type(None):
        return schema.Value(name=name, type=name)
    if hasattr(kind, "model_json_schema"):
        return schema.Value(name=kind.__name__, type=kind.__name__)
    try:
        shape = schema.tree(kind)
    except TypeError as exc:
        raise TypeError(f"{name}: {exc}") from None
    return (
        shape if is_struct(kind) else schema.Value(name=name, type=shape.type, values=shape.values)
    )


def _from_foreign(kind: Any, value: Any) -> Any:
    """Let pydantic models be read by their own rules."""
    if kind is object:
        return value
    if validate := getattr(kind, "model_validate", None):
        return validate(value)
    raise NotImplementedError(f"no way to read a {kind}")


def _to_foreign(value: Any) -> Any:
    """Let pydantic models be written by their own rules."""
    if dump := getattr(value, "model_dump", None):
        return dump(mode="json")
    raise NotImplementedError(f"a {type(value).__name__} cannot be written as JSON")


def _compile(
    function: Function, signature: _Signature, service: str, *, lenient: bool
) -> Callable[[bytes], Awaitable[bytes]]:
    try:
        decoder = msgspec.json.Decoder(
            signature.request, strict=not lenient, dec_hook=_from_foreign
        )
    except TypeError as exc:
        raise TypeError(f"{function.__name__}: {exc}") from None
    encode = msgspec.json.Encoder(enc_hook=_to_foreign).encode
    arguments = _arguments(signature)
    invoke = function if inspect.iscoroutinefunction(function) else _in_thread(function)
    if signature.by_name:
        invoke = _with_names(invoke, signature.by_name)

    async def answer(body: bytes) -> bytes:
        try:
            request = decoder.decode(body or b"{}")
        except (*codec.DECODE_ERRORS, ValueError) as exc:
            raise codec.bad_input(service, exc) from None
        result = await invoke(*arguments(request))
        return b"{}" if result is None else encode(result)

    return answer


def _arguments(signature: _Signature) -> Callable[[Any], tuple[Any, ...]]:
    """How a request becomes the arguments of the function, in order."""
    if not signature.wants_context:
        return (lambda request: (request,)) if signature.whole else astuple
    fields = [name for name in signature.names if name not in signature.wants_context]

    def with_context(request: Any) -> tuple[Any, ...]:
        values = (request,) if signature.whole else astuple(request)
        given = dict(zip(fields, values, strict=True))
        return tuple(
            given[name] if name in given else context.current() for name in signature.names
        )

    return with_context


def _with_names(
    invoke: Callable[..., Awaitable[Any]], by_name: list[str]
) -> Callable[..., Awaitable[Any]]:
    """Give the last arguments by their names."""

    def named(*arguments: Any) -> Awaitable[Any]:
        at = len(arguments) - len(by_name)
        return invoke(*arguments[:at], **dict(zip(by_name, arguments[at:], strict=True)))

    return named


def _in_thread(function: Function) -> Callable[..., Awaitable[Any]]:
    """Run a function that blocks in a thread, with the context of its call."""

    def run(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except StopIteration as exc:
            # No future can hold one: the call would wait for ever.
            raise RuntimeError("the handler raised StopIteration") from exc

    @functools.wraps(function)
    async def invoke(*arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(run, *arguments, **named)

    return invoke
