"""The client without an event loop, against a server of the lane."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.rpc import MAX_BODY, Call, Endpoint, Hosted, Server, Unreachable, blocking
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.lane import listen

from .conformance import MB, Failing, Gate, call, echo
from .wires import until

Ask = Callable[..., bytes]


@contextlib.asynccontextmanager
async def serving(path: Path, *endpoints: Endpoint) -> AsyncIterator[Server]:
    server = Server()
    server.add(Hosted("demo", endpoints))
    async with listen(path, server):
        yield server


def request(name: str, body: bytes = b"{}", timeout: float | None = 20) -> Call:
    return Call("demo", f"Demo.{name}", body, {"X-User": "jo"}, timeout)


async def ask(path: Path, call: Call) -> bytes:
    """Call from a thread, as a command line calls from its own process."""
    return await asyncio.to_thread(blocking.call, path, call)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


async def test_a_call_is_answered(path: Path) -> None:
    async with serving(path, endpoint(call, "demo")):
        assert await ask(path, request("Call", b'{"name":"Jo"}')) == b'{"msg":"Hello Jo"}'
        assert await ask(path, request("Call", timeout=None)) == b'{"msg":"Hello World"}'


async def test_an_error_comes_back_as_its_class(path: Path) -> None:
    async with serving(path, Failing(errors.Conflict("users", "taken")).endpoint):
        with pytest.raises(errors.Conflict) as caught:
            await ask(path, request("Fail"))
        assert (caught.value.id, caught.value.detail) == ("users", "taken")


@pytest.mark.parametrize("size", [MB, 7 * MB, MAX_BODY])
async def test_large_bodies_go_both_ways(path: Path, size: int) -> None:
    body = bytes(range(256)) * (size // 256)
    async with serving(path, echo()):
        assert await ask(path, request("Echo", body)) == body


async def test_a_request_over_the_limit_is_a_413(path: Path) -> None:
    async with serving(path, echo()):
        with pytest.raises(errors.TooLarge):
            await ask(path, request("Echo", bytes(MAX_BODY + 1)))


async def test_a_late_answer_is_a_504_and_the_handler_is_cancelled(path: Path) -> None:
    gate = Gate()
    async with serving(path, gate.endpoint):
        with pytest.raises(errors.DeadlineExceeded, match=r"within 0\.5 s"):
            await ask(path, request("Wait", timeout=0.5))
        await until(lambda: gate.cancelled)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_no_time_left_is_a_504(path: Path, timeout: float) -> None:
    async with serving(path, endpoint(call, "demo")):
        with pytest.raises(errors.DeadlineExceeded):
            await ask(path, request("Call", timeout=timeout))


@pytest.mark.parametrize("what", ["nothing", "file", "left over", "too long"])
def test_nobody_at_the_socket_is_unreachable(tmp_path: Path, what: str) -> None:
    path = tmp_path / ("x" * 120 if what == "too long" else "s.sock")
    if what == "file":
        path.touch()
    elif what == "left over":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(Unreachable) as caught:
        blocking.call(path, request("Call"))
    assert "None" not in str(caught.value)


async def test_a_server_that_leaves_ends_the_call_with_its_answer(path: Path) -> None:
    gate = Gate()
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(path, gate.endpoint))
        waiting = asyncio.create_task(ask(path, request("Wait")))
        await until(lambda: gate.entered)
        departure = asyncio.create_task(stack.aclose())
        await until(lambda: server.draining)
        gate.opened.set()
        assert await waiting == b'"through"'
        await departure


@pytest.fixture
def answering(path: Path) -> Iterator[Callable[[Callable[[socket.socket], None]], None]]:
    """Lets a function of the test be the other side of one line."""
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def start(behave: Callable[[socket.socket], None]) -> None:
        def run() -> None:
            line, _ = listener.accept()
            with line, contextlib.suppress(OSError):
                line.recv(1 << 16)
                behave(line)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    listener.close()
    for thread in threads:
        thread.join(60)


def test_a_line_that_breaks_is_a_lost_connection(
    path: Path, answering: Callable[[Callable[[socket.socket], None]], None]
) -> None:
    answering(lambda line: None)
    with pytest.raises(errors.ConnectionLost) as caught:
        blocking.call(path, request("Call"))
    assert caught.value.id == "demo"


def test_garbage_for_an_answer_is_a_lost_connection(
    path: Path, answering: Callable[[Callable[[socket.socket], None]], None]
) -> None:
    answering(lambda line: line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with pytest.raises(errors.ConnectionLost, match="not a lane"):
        blocking.call(path, request("Call"))


def test_an_answer_that_trickles_is_late_all_the_same(
    path: Path, answering: Callable[[Callable[[socket.socket], None]], None]
) -> None:
    def trickle(line: socket.socket) -> None:
        line.sendall(struct.pack("<IBI", 60_000, 2, 1))
        while True:  # until the other side closes
            line.sendall(b"x")
            time.sleep(0.01)

    answering(trickle)
    started = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        blocking.call(path, request("Call", timeout=0.3))
    assert time.monotonic() - started < 60
