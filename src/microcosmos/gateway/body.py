"""A request's parameters as one JSON body: query string, then path, then body."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import python_multipart
from python_multipart.exceptions import FormParserError

from microcosmos.base import codec, errors

from .routes import Route

_ID = "gateway"


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """The names and values of a query string or a form.

    Raises:
        errors.BadRequest: percent escapes that are not UTF-8.
    """
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            yield _unquoted(name), _unquoted(value)


def _unquoted(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise errors.BadRequest(_ID, f"{text[:40]!r} is not valid UTF-8") from None


def from_query(route: Route, query: str) -> bytes:
    """The JSON request that a query string makes."""
    return codec.encode(route.form.read(pairs(query))) if query else b"{}"


def from_body(route: Route, query: str, content_type: str, body: bytes) -> bytes:
    """The JSON request that a query string and a body make; the body's fields win.

    Raises:
        errors.BadRequest: the body is not what its content type says, or the type is unknown.
    """
    if not body.strip():
        return from_query(route, query)
    kind = content_type.partition(";")[0].strip().lower()
    # curl -d sends JSON under the type of a form unless told otherwise.
    if kind in ("", "application/json", "text/json") or kind.endswith("+json") or _braced(body):
        return _json(route, query, body) if query else body
    if kind == "application/x-www-form-urlencoded":
        fields = route.form.read(pairs(_text(body)))
    elif kind == "multipart/form-data":
        fields = _multipart(route, content_type, body)
    else:
        raise errors.BadRequest(
            _ID, f"content type {kind!r} is not understood; send application/json or a form"
        )
    return codec.encode({**route.form.read(pairs(query)), **fields})


def _braced(body: bytes) -> bool:
    return body.lstrip()[:1] == b"{"


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise errors.BadRequest(_ID, "the form is not valid UTF-8") from None


def _json(route: Route, query: str, body: bytes) -> bytes:
    sent: Any = codec.decode(body, dict[str, Any], id=route.service)
    return codec.encode({**route.form.read(pairs(query)), **sent})


def _multipart(route: Route, content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a multipart form; a file is its bytes in base64, as JSON carries them."""
    texts: list[tuple[str, str]] = []
    files: dict[str, Any] = {}

    def on_field(field: Any) -> None:
        texts.append((_text(field.field_name or b""), _text(field.value or b"")))

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        content = base64.b64encode(file.file_object.read()).decode()
        files[_text(file.field_name or b"")] = content

    headers = {"Content-Type": content_type.encode(), "Content-Length": str(len(body)).encode()}
    try:
        parser = python_multipart.create_form_parser(headers, on_field, on_file)
        parser.write(body)
        parser.finalize()
        parser.close()
    except (FormParserError, ValueError) as exc:
        raise errors.BadRequest(_ID, f"the multipart form is damaged: {exc}") from None
    return {**route.form.read(texts), **files}
