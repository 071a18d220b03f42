"""Raw HTTP endpoints and mounted applications as endpoints of rpc."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from microcosmos.base import names
from microcosmos.rpc import Endpoint
from microcosmos.rpc.http import HANDLER, METHODS, PATH
from microcosmos.rpc.server import STREAM

from .bridge import App, Bridge

_SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]+|\{[A-Za-z_][A-Za-z0-9_]*(?::(?:int|path))?\})"
_PATH = re.compile(rf"/|(?:/{_SEGMENT})+/?")
_METHOD = re.compile(r"[A-Z]{3,16}")


def root_of(service: str) -> str:
    """The path that a service owns: ``/v1/foo`` of ``v1.foo``."""
    return "/" + service.replace(".", "/")


def http_endpoint(
    function: Callable[[Any], Any],
    service: str,
    path: str,
    *,
    methods: Sequence[str],
    name: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Endpoint:
    """A function that takes a request and gives a response, as an endpoint.

    Raises:
        TypeError: a path or a method that cannot be one, or a function that takes no request.
    """
    from .endpoint import application

    if not _PATH.fullmatch(path):
        raise TypeError(
            f"{path!r} is no path; write /avatars/{{id}}, {{id:int}} a number, {{id:path}} the rest"
        )
    for method in methods:
        if not _METHOD.fullmatch(method):
            raise TypeError(f"{method!r} is no method of HTTP; they are like GET")
    if not methods or len(inspect.signature(function).parameters) != 1:
        raise TypeError(f"{function.__name__}: it takes the request, and answers some method")
    told = dict.fromkeys([*methods, *(["HEAD"] if "GET" in methods else [])])
    root = root_of(service)
    about = {HANDLER: "http", PATH: root + path.removesuffix("/"), METHODS: ",".join(told)}
    if text := inspect.getdoc(function):
        about["description"] = text.partition("\n\n")[0].replace("\n", " ")
    return Endpoint(
        names.endpoint_name(service, name or function.__name__),
        stream=Bridge(application(function, path, methods), root, service),
        metadata={**about, STREAM: "true", **(metadata or {})},
    )


def mounted(
    app: App, service: str, path: str, *, name: str, state: dict[str, Any] | None = None
) -> Endpoint:
    """An ASGI application as an endpoint: it has every path below its own, and every method.

    Raises:
        TypeError: a path that cannot be one.
    """
    if not _PATH.fullmatch(path) or "{" in path:
        raise TypeError(f"{path!r} is no path to mount at: /app, or / for all that is left")
    root = root_of(service) + path.rstrip("/")
    return Endpoint(
        names.endpoint_name(service, name),
        stream=Bridge(app, root, service, state),
        metadata={HANDLER: "mount", PATH: root, STREAM: "true"},
    )
