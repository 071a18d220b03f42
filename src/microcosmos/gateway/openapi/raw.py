"""Raw HTTP endpoints, of which only paths and methods are known."""

from __future__ import annotations

import re
from typing import Any

from microcosmos.registry.interface import Described
from microcosmos.rpc.http import HANDLER, METHODS, PATH

Schema = dict[str, Any]

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_ANY = ("get", "post", "put", "patch", "delete")
_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\*?\}")


def path_items(service: str, endpoint: Described) -> dict[str, Schema]:
    """What can be done with the paths of a raw endpoint; nothing is known of a mounted one's.

    Args:
        service: whose it is.
        endpoint: what it says of itself.
    """
    about = endpoint.metadata
    path = about.get(PATH, "")
    if about.get(HANDLER) != "http" or not path.startswith("/"):
        return {}
    told = [method.strip().lower() for method in about.get(METHODS, "").split(",")]
    methods = [method for method in told if method in _METHODS] or _ANY
    places: dict[str, str] = dict(_PLACE.findall(path))
    plain = _PLACE.sub(r"{\1}", path)
    if set(re.findall(r"[{}]", _PLACE.sub("", path))):
        return {}
    operations = {method: _operation(service, endpoint, method) for method in methods}
    parameters = [_parameter(name, kind) for name, kind in places.items()]
    return {plain: {**operations, **({"parameters": parameters} if parameters else {})}}


def _operation(service: str, endpoint: Described, method: str) -> Schema:
    text = endpoint.metadata.get("description", "")
    return {
        "operationId": f"{service}.{endpoint.name}-{method}",
        "tags": [service],
        "summary": text or endpoint.name,
        "responses": {"default": {"description": "Whatever it answers."}},
        "x-micro-service": service,
        "x-micro-endpoint": endpoint.name,
    }


def _parameter(name: str, kind: str) -> Schema:
    schema = {"type": "integer"} if kind == "int" else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}
