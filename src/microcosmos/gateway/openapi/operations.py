"""An endpoint as the operations of its path."""

from __future__ import annotations

from typing import Any

from microcosmos.base import names
from microcosmos.registry.interface import Described
from microcosmos.rpc.server import CALLER, STREAM

from .examples import NoExample, example
from .failures import OTHERWISE, codes
from .parameters import parameters
from .schemas import Components, checked

Schema = dict[str, Any]

AS_POST = ("put", "patch", "delete")
"""Methods that the gateway takes as if they were POST."""

SUMMARY = 100
"""The most characters of a summary; a longer first sentence is cut."""

_JSON = "application/json"
_LINES = "application/x-ndjson"
_EVENTS = "text/event-stream"


def path_item(
    service: str, versions: list[tuple[str, Described]], components: Components
) -> Schema:
    """What can be done with the path of an endpoint.

    Args:
        service: whose it is.
        versions: the endpoint in each version that has it, the first one first.
        components: where its types, its body and its answer go.
    """
    told = [_Told(version, described, components) for version, described in versions]
    return _Item(service, told, components).made()


class _Told:
    """What one version says of an endpoint, with references to components."""

    def __init__(self, version: str, described: Described, components: Components) -> None:
        self.name = described.name
        self.metadata = described.metadata
        schema = described.schema
        method = described.name.rpartition(".")[2]
        refs = components.take(schema.get("$defs"), f"{method}-{version}" if version else method)
        self.request = checked(schema.get("request", {}), refs)
        self.response = checked(schema.get("response", {}), refs)
        self.items = checked(schema["items"], refs) if "items" in schema else None
        text = schema.get("description")
        self.text = text if isinstance(text, str) else described.metadata.get("description", "")


class _Item:
    def __init__(self, service: str, told: list[_Told], components: Components) -> None:
        self._service = service
        self._first = told[0]
        self._components = components
        self._request = _either([one.request for one in told])
        self._response = _either([one.response for one in told])
        metadata = self._first.metadata
        streams = metadata.get(STREAM) == "true"
        self._stream = metadata.get(CALLER, "server") if streams else ""
        self._takes_items = self._stream in ("client", "both")
        self._id = f"{service}.{told[0].name}"

    def made(self) -> Schema:
        self._components.bodies[self._id] = self._body()
        self._components.answers[self._id] = self._answer()
        methods = {"get": self._operation("get", body=False), "post": self._operation("")}
        methods |= {method: self._operation(method) for method in AS_POST}
        request = self._components.behind(self._first.request)
        if asked := parameters(request, self._components.behind):
            methods["get"]["parameters"] = asked
            if self._takes_items:
                # Or in a body of JSON, without a stream.
                methods["post"]["parameters"] = [{**one, "required": False} for one in asked]
        return methods

    def _operation(self, method: str, *, body: bool = True) -> Schema:
        """An operation of this path; of POST, the first among them, if no method is given."""
        first = self._first
        found: Schema = {
            "operationId": f"{self._id}-{method}" if method else self._id,
            "tags": [self._service],
            "summary": _summary(first.text) or first.name,
        }
        if first.metadata.get("deprecated", "false") not in ("false", ""):
            found["deprecated"] = True
        if body:
            found["requestBody"] = {"$ref": f"#/components/requestBodies/{self._id}"}
        answers: Schema = {"200": {"$ref": f"#/components/responses/{self._id}"}}
        if method in AS_POST:
            return {**found, "responses": answers | OTHERWISE, "x-micro-same-as": "post"}
        found["responses"] = answers | codes(body=body)
        if text := self._description():
            found["description"] = text
        found["x-micro-service"] = self._service
        found["x-micro-endpoint"] = first.name
        if self._stream:
            found["x-micro-stream"] = self._stream
        return found

    def _description(self) -> str:
        text = self._first.text
        parts = [text] if text and text.removesuffix(".") != _summary(text) else []
        path = names.to_path(self._service, self._first.name)
        if self._takes_items:
            parts.append(
                "The caller streams: one JSON value a line in the body, with the other fields in "
                f"the query string; or a message for each over a WebSocket, `ws://HOST{path}`."
            )
        if self._stream in ("server", "both"):
            parts.append(
                "The answer is a stream of JSON values: one a line, or Server-Sent Events if they "
                f"are accepted; or a message for each over a WebSocket, `ws://HOST{path}`."
            )
        return "\n\n".join(parts)

    def _body(self) -> Schema:
        request = self._components.behind(self._first.request)
        content = {_JSON: {"schema": self._request, **self._shown(self._first.request)}}
        if self._takes_items:
            content = {_LINES: self._many(self._first.items), **content}
        needed = bool(request.get("required")) and not self._takes_items
        return {"required": needed, "content": content}

    def _answer(self) -> Schema:
        if self._stream in ("server", "both"):
            media = self._many(self._response)
            return {"description": "The answers.", "content": {_LINES: media, _EVENTS: media}}
        media = {"schema": self._response, **self._shown(self._first.response)}
        return {"description": "The answer.", "content": {_JSON: media}}

    def _many(self, item: Any) -> Schema:
        """A stream of values; OpenAPI 3.1 has no word for what each of them is."""
        shown = self._shown(item, "x-micro-example")
        return {"schema": {"type": "string"}, "x-micro-item": {} if item is None else item, **shown}

    def _shown(self, schema: Any, key: str = "example") -> Schema:
        try:
            return {key: example(schema, self._components.behind)}
        except NoExample:
            return {}


def _either(schemas: list[Any]) -> Any:
    """One schema of those that versions say."""
    different = [one for at, one in enumerate(schemas) if one not in schemas[:at]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def _summary(text: str) -> str:
    """The first sentence, without its stop."""
    line = text.partition("\n\n")[0].replace("\n", " ").strip()
    sentence = line.partition(". ")[0].removesuffix(".")
    return sentence if len(sentence) <= SUMMARY else sentence[: SUMMARY - 1] + "…"
