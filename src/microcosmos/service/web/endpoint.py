"""Functions that take a whole request and give a whole response."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, Router

from microcosmos.base import errors

from .bridge import App
from .fresh import fresh

Function = Callable[[Request], Any]


def application(function: Function, path: str, methods: Sequence[str]) -> App:
    """A function as the ASGI application of one path."""
    return Router([Route(path, _answering(function), methods=list(methods))])


def _answering(function: Function) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            if inspect.iscoroutinefunction(function):
                found = await function(request)
            else:
                found = await run_in_threadpool(function, request)
            response = _response(found)
            if isinstance(response, FileResponse):
                await _stat(response)
        except HTTPException as exc:
            raise errors.of_code(exc.status_code, "http", str(exc.detail)) from None
        return fresh(request, response)

    return answer


def _response(found: Any) -> Response:
    """What a function has returned as a response: a text, bytes, or anything that JSON carries."""
    if isinstance(found, Response):
        return found
    if found is None:
        return Response(status_code=204)
    if isinstance(found, str):
        return Response(found, media_type="text/plain; charset=utf-8")
    if isinstance(found, bytes):
        return Response(found, media_type="application/octet-stream")
    return Response(msgspec.json.encode(found), media_type="application/json")


async def _stat(response: FileResponse) -> None:
    """Look at the file now: its version is a header, and that it is missing is a 404."""
    import os

    try:
        found = await run_in_threadpool(os.stat, response.path)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise errors.NotFound("http", f"the file cannot be read: {reason.lower()}") from None
    response.stat_result = found
    response.set_stat_headers(found)
