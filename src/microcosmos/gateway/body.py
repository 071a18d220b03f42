"""A request's parameters as one JSON body: query string, then path, then body."""

from __future__ import annotations

import base64
import codecs
import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from microcosmos.base import codec, errors
from microcosmos.rpc import MAX_BODY

from .routes import Route

_ID = "gateway"
_JSON = frozenset({"application/json", "text/json"})

FORM_LIMIT = 1024 * 1024
"""The most bytes of a form that is no multipart: reading one takes time."""

FIELDS_LIMIT = 1000
"""The most fields of a form."""

# It tells the log of every damaged form; who sent it is told, and that is enough.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def pairs(text: str) -> Iterable[tuple[str, str]]:
    """The names and values of a query string or a form.

    Raises:
        errors.BadRequest: percent escapes that are not UTF-8.
    """
    found = [part.partition("=") for part in text.split("&") if part]
    if "%" in text or "+" in text:
        return [(_unquoted(name), _unquoted(value)) for name, _, value in found]
    return [(name, value) for name, _, value in found]


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
    body = body.removeprefix(codecs.BOM_UTF8)
    kind = content_type.partition(";")[0].strip().lower()
    if not body or (kind not in _JSON and not body.strip()):
        return from_query(route, query)
    # curl -d sends JSON under the type of a form unless told otherwise.
    if not kind or kind in _JSON or kind.endswith("+json") or _braced(body):
        return _json(route, query, body) if query else body
    if kind == "application/x-www-form-urlencoded":
        fields = route.form.read(pairs(_form(body)))
    elif kind == "multipart/form-data":
        fields = _multipart(route, content_type, body)
    else:
        raise errors.BadRequest(
            _ID, f"content type {kind!r} is not understood; send application/json or a form"
        )
    return codec.encode({**route.form.read(pairs(query)), **fields})


def _braced(body: bytes) -> bool:
    return body.lstrip()[:1] == b"{"


def _form(body: bytes) -> str:
    if len(body) > FORM_LIMIT:
        detail = f"the form is over {FORM_LIMIT} bytes; send JSON, or files as multipart/form-data"
        raise errors.TooLarge(_ID, detail)
    if body.count(b"&") >= FIELDS_LIMIT:
        raise errors.BadRequest(_ID, f"the form has more than {FIELDS_LIMIT} fields")
    return _text(body)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise errors.BadRequest(_ID, "the form is not valid UTF-8") from None


def _json(route: Route, query: str, body: bytes) -> bytes:
    # Raw: only the names are read, and the values are passed on to the letter.
    sent: dict[str, msgspec.Raw] = codec.decode(body, dict[str, msgspec.Raw], id=route.service)
    return codec.encode({**route.form.read(pairs(query)), **sent})


def _multipart(route: Route, content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a multipart form; a file is its bytes in base64, as JSON carries them."""
    texts: list[tuple[str, str]] = []
    ended: list[bool] = []

    def add(name: bytes | None, content: str) -> None:
        if len(texts) >= FIELDS_LIMIT:
            raise FormParserError(f"it has more than {FIELDS_LIMIT} fields")
        texts.append((_text(name or b""), content))

    def on_field(field: Any) -> None:
        add(field.field_name, _text(field.value or b""))

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        add(file.field_name, base64.b64encode(file.file_object.read()).decode())

    _, options = parse_options_header(content_type)
    config: Any = {"MAX_MEMORY_FILE_SIZE": MAX_BODY}
    try:
        parser = FormParser(
            "multipart/form-data",
            on_field,
            on_file,
            lambda: ended.append(True),
            boundary=options.get(b"boundary"),
            config=config,
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as exc:
        raise errors.BadRequest(_ID, f"the multipart form is damaged: {exc}") from None
    if not ended:
        raise errors.BadRequest(_ID, "the multipart form is damaged: its end is missing")
    return route.form.read(texts)
