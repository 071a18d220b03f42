"""Requests on their way from Granian's threads to whoever answers them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from microcosmos.gateway.handing import Note
from microcosmos.gateway.worker import serve


class Later:
    """An application that begins requests, and answers when it is let."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.tasks: set[str] = set()

    def begin(self, scope: Any, proto: Any, note: Note | None) -> Any:
        assert note is None
        if scope.path == "/now":
            proto.response_bytes(200, [], b"now")
            return None
        if scope.path == "/fails":
            raise ValueError("oops")
        if scope.path == "/waits":
            return self._waited(proto)
        self.begun.append(proto)
        return None

    async def _waited(self, proto: Any) -> None:
        await asyncio.sleep(0)
        proto.response_bytes(200, [], b"waited")


@pytest.fixture
def opened() -> Callable[..., Any]:
    @contextlib.asynccontextmanager
    async def made(app: Any) -> AsyncIterator[httpx.AsyncClient]:
        listening = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with serve(app, listening), httpx.AsyncClient(base_url=url, timeout=60) as http:
            yield http

    return made


async def test_what_is_begun_is_answered_at_once_later_or_by_a_coroutine(opened: Any) -> None:
    app = Later()
    async with opened(app) as http:
        assert (await http.get("/now")).text == "now"
        assert (await http.get("/waits")).text == "waited"
        coming = [asyncio.create_task(http.get("/later")) for _ in range(50)]
        async with asyncio.timeout(60):
            while len(app.begun) < 50:  # noqa: ASYNC110 - threads of Granian's change it
                await asyncio.sleep(0.005)
        for number, proto in enumerate(app.begun):
            proto.response_bytes(200, [], b"%d" % number)
        answers = {answer.text for answer in await asyncio.gather(*coming)}
        assert answers == {str(number) for number in range(50)}


async def test_who_fails_to_begin_one_request_answers_the_next(opened: Any) -> None:
    async with opened(Later()) as http:
        for _ in range(2):
            assert (await http.get("/fails")).status_code == 500
            assert (await http.get("/now")).status_code == 200


async def test_what_is_not_answered_in_time_is_given_up() -> None:
    app = Later()

    def give_up() -> None:
        for proto in app.begun:
            proto.response_bytes(503, [], b"given up")

    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        async with serve(app, listening, drain=0.05, give_up=give_up):
            coming = asyncio.create_task(http.get("/later"))
            async with asyncio.timeout(60):
                while not app.begun:  # noqa: ASYNC110 - threads of Granian's change it
                    await asyncio.sleep(0.005)
        assert (await coming).text == "given up"
