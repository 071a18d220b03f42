"""How to call a service that has just been started: lines to be pasted."""

from __future__ import annotations

import shlex
from urllib.parse import urlencode

from microcosmos.base import context, errors, names, schema
from microcosmos.base.home import ServerInfo
from microcosmos.registry import Endpoint

from .caller import Caller, endpoints

_FIELDS = 3


def of(service: str, caller: Caller, server: ServerInfo | None) -> dict[str, str]:
    """The service's ``url``, a ``curl`` line and a ``command`` line, those that there are.

    Args:
        service: its name.
        caller: describes it.
        server: whose gateway answers for it; None for one whose gateway is not known.
    """
    api = server.api if server else ""
    header, flag = _elsewhere(caller.namespace)
    found = {"url": f"{api}/{service.replace('.', '/')}"} if api else {}
    endpoint = _endpoint(service, caller)
    if endpoint is None:
        return found
    fields = _fields(endpoint.request)
    if api:
        query = f"?{urlencode(fields)}" if fields else ""
        url = f"{api}{names.to_path(service, endpoint.name)}{query}"
        found["curl"] = shlex.join(["curl", *header, url])
    words = ["micro", *flag, service, *_words(service, endpoint.name)]
    found["command"] = shlex.join([*words, *(f"--{name}={value}" for name, value in fields)])
    return found


def _elsewhere(namespace: str) -> tuple[list[str], list[str]]:
    """What curl and this command are told of a namespace that is not the usual one."""
    if namespace == context.DEFAULT_NAMESPACE:
        return [], []
    return ["-H", f"{context.NAMESPACE}: {namespace}"], [f"--namespace={namespace}"]


def _endpoint(service: str, caller: Caller) -> Endpoint | None:
    """The default endpoint, else the first of the service's own handler; streams come last."""
    try:
        known = endpoints(caller.describe(service))
    except errors.Error:
        return None
    own = [name for name in known if name.startswith(f"{names.handler_of(service)}.")]
    own.sort(key=lambda name: "stream" in known[name].metadata)
    default = names.default_endpoint(service)
    return known.get(default) or (known[own[0]] if own else None)


def _words(service: str, endpoint: str) -> list[str]:
    if endpoint == names.default_endpoint(service):
        return []
    return [names.lower_camel(endpoint.partition(".")[2])]


def _fields(shape: schema.Value) -> list[tuple[str, str]]:
    plain = {k: v for k, v in schema.example(shape).items() if isinstance(v, str | int | float)}
    filled = [(name, "John" if name == "name" else str(v).lower()) for name, v in plain.items()]
    return filled[:_FIELDS]
