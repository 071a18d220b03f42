"""Functions as endpoints: type hints become the shape, the validation and the codec."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from microcosmos.base import json_schema, names, schema

from . import contract
from .invocation import Invocation
from .schemas import Schemas
from .server import CALLER, ITEMS, STREAM, Access, Endpoint
from .signature import Function, Signature, is_struct

_ANYBODY = object()
"""Stands for the instance of a method, where it does not matter which."""


def endpoint(
    function: Function,
    service: str,
    *,
    name: str = "",
    metadata: Mapping[str, str] | None = None,
    lenient: bool = False,
    response: type | None = None,
    access: Access = "rules",
) -> Endpoint:
    """Make an endpoint of a function.

    Its parameters are the request's fields, or one parameter with a struct type is the whole
    request; a parameter annotated with `Context` gets the circumstances of the call. A generator
    streams its answers, and a parameter annotated with `AsyncIterator[T]` is what the caller
    streams. A function that is not async runs in a thread.

    Args:
        function: what answers.
        service: the service's name: endpoints are called after it.
        name: ``Handler.Method`` or ``Method``; the function's own name unless said.
        metadata: what the registry shows beside the endpoint.
        lenient: texts are accepted where numbers and booleans are due.
        response: the type that the answer is described by, unless the annotation says it.
        access: who may call it; core services ask for more than rules.

    Raises:
        TypeError: the signature cannot be a request; the text says why.
    """
    if not hasattr(function, "__name__"):
        raise TypeError(f"{function!r} is no function; give a function or a method")
    full_name = names.endpoint_name(service, name or function.__name__)
    text = inspect.getdoc(function)
    read, tell = _ONCE if isinstance(function, types.MethodType) else (Signature, _tell)
    signature = read(_of_anybody(function), full_name)
    invocation = Invocation(function, signature, service, lenient=lenient)
    told = tell(signature, full_name.partition(".")[2], response, text)
    about = dict(metadata or {})
    if text:
        about.setdefault("description", text.partition("\n\n")[0].replace("\n", " "))
    streams = signature.answers or bool(signature.items)
    return Endpoint(
        full_name,
        None if streams else invocation.answer,
        told.request,
        told.response,
        {**about, **_directions(signature)},
        told.schema,
        stream=invocation.stream if streams else None,
        access=access,
    )


class _Told(NamedTuple):
    """What callers are told of a function; nobody changes it."""

    request: schema.Value
    response: schema.Value
    schema: bytes


def _tell(signature: Signature, method: str, response: type | None, doc: str | None) -> _Told:
    answer = response or signature.returns
    return _Told(
        _request_shape(signature, f"{method}Request"),
        _shape(answer, f"{method}Response"),
        contract.schema(signature.request, answer, signature.item, doc=doc),
    )


# Tests run one platform in memory after the other, and to read the hundred methods of its services
# takes longer than all else that it begins with. A method says the same of every object.
_ONCE = functools.lru_cache(maxsize=1024)(Signature), functools.lru_cache(maxsize=1024)(_tell)


def _of_anybody(function: Function) -> Function:
    """A method without its object, so that it is equal to that of another one."""
    if isinstance(function, types.MethodType):
        return types.MethodType(function.__func__, _ANYBODY)
    return function


def _directions(signature: Signature) -> dict[str, str]:
    """The metadata of a stream: who streams, and in which field of the request the items are."""
    if not signature.items:
        return {STREAM: "true"} if signature.answers else {}
    about = {STREAM: "true", CALLER: "both" if signature.answers else "client"}
    if signature.fields:
        about[ITEMS] = signature.items
    return about


def _request_shape(signature: Signature, name: str) -> schema.Value:
    if not signature.items:
        return _shape(signature.request, name)
    item = _shape(signature.item, name)
    if not signature.fields:
        return item
    head = _shape(signature.request, name).values
    field = schema.Value(name=signature.items, type=item.type, values=item.values)
    return schema.Value(name=name, type=name, values=[*head, field])


def _shape(kind: Any, name: str) -> schema.Value:
    if kind is None or kind is type(None):
        return schema.Value(name=name, type=name)
    if hasattr(kind, "model_json_schema"):
        schemas = Schemas()
        return json_schema.tree(schemas.of(kind), schemas.defs, kind.__name__)
    try:
        shape = schema.tree(kind)
    except TypeError as exc:
        raise TypeError(f"{name}: {exc}") from None
    return (
        shape if is_struct(kind) else schema.Value(name=name, type=shape.type, values=shape.values)
    )
