"""WebSockets, by a client that others wrote."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from microcosmos.rpc import MAX_BODY
from microcosmos.testing import Bench

from .streaming import Streaming

OpenSite = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def demo(platform: Bench, microcosmos_runner: asyncio.Runner) -> Iterator[Streaming]:
    demo = Streaming()
    microcosmos_runner.run(platform.start(demo.service))
    yield demo
    demo.let.set()


def opened(site: Any, path: str, **options: Any) -> connect:
    url = f"ws://127.0.0.1:{site.port}{path}"
    return connect(url, open_timeout=60, close_timeout=60, proxy=None, **options)


async def all_of(socket: ClientConnection) -> list[Any]:
    """What a WebSocket says until it closes."""
    said: list[Any] = []
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(60):
            while True:
                said.append(await socket.recv())
    return said


async def test_the_query_string_is_the_request(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/count?to=2") as socket:
        assert await all_of(socket) == ['{"at":1}', '{"at":2}']
        assert socket.close_code == 1000


async def test_messages_go_both_ways_at_once(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/scale?by=10") as socket:
        for number in range(50):
            await socket.send(str(number))
            assert await socket.recv() == str(10 * number)
        await socket.send("")
        assert await all_of(socket) == []
        assert socket.close_code == 1000
    assert demo.ended == ["end"]


async def test_a_client_streams_and_is_answered_once(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/total?start=1") as socket:
        for message in ("1", b"2", "3", ""):
            await socket.send(message)
        assert await all_of(socket) == ["7"]


async def test_any_endpoint_is_a_stream(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/once?name=Jo") as socket:
        assert await all_of(socket) == ['"Hello Jo"']
        assert socket.close_code == 1000


async def test_an_error_is_a_message_and_a_code(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/fails?after=1") as socket:
        first, last = await all_of(socket)
        assert first == "0"
        assert json.loads(last) == {
            "error": {"Id": "demo.Fails", "Code": 409, "Detail": "enough", "Status": "Conflict"}
        }
        assert (socket.close_code, socket.close_reason) == (4409, "enough")


@pytest.mark.parametrize("item", ['"x"', "{", b"\xff", "[" * 100_000])
async def test_a_message_that_is_wrong_is_a_400(
    site: Any, demo: Streaming, item: str | bytes
) -> None:
    async with opened(site, "/demo/scale") as socket:
        await socket.send("1")
        assert await socket.recv() == "1"
        await socket.send(item)
        assert json.loads((await all_of(socket))[-1])["error"]["Code"] == 400
        assert socket.close_code == 4400


async def test_what_is_not_let_in_is_answered_like_any_request(site: Any, demo: Streaming) -> None:
    for path, status in (("/demo/nope", 404), ("/nosuch", 404), ("/demo/count?to=x", 400)):
        with pytest.raises(InvalidStatus) as refused:
            await opened(site, path)
        answer = refused.value.response
        assert answer.status_code == status
        assert json.loads(bytes(answer.body or b""))["Code"] == status
        assert answer.headers["micro-trace"]


async def test_a_request_that_the_service_refuses_is_told(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/count?nope=1") as socket:
        assert json.loads((await all_of(socket))[-1])["error"]["Code"] == 400
        assert socket.close_code == 4400


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://{host}", 101),
        ("https://{host}", 101),
        ("http://evil.test", 403),
        ("http://127.0.0.1", 403),
        ("http://{host}.evil.test", 403),
        ("null", 403),
        ("file://", 403),
        ("https://App.example.com", 101),
        ("https://app.example.com:444", 403),
    ],
)
async def test_pages_of_other_sites_are_not_let_in(
    platform: Bench, open_site: OpenSite, demo: Streaming, origin: str, status: int
) -> None:
    async with open_site(platform, origins=["https://app.example.com"]) as site:
        headers = {"Origin": origin.format(host=f"127.0.0.1:{site.port}")}
        try:
            async with opened(site, "/demo/count?to=1", additional_headers=headers):
                found = 101
        except InvalidStatus as refused:
            found = refused.response.status_code
    assert found == status


async def test_any_page_is_let_in_by_a_star(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with (
        open_site(platform, origins=["*"]) as site,
        opened(site, "/demo/once", origin="http://any.test") as socket,
    ):
        assert await all_of(socket) == ['"Hello World"']


async def test_metadata_and_time_travel(site: Any, demo: Streaming) -> None:
    headers = {"Foo": "bar", "Micro-Timeout": "20m"}
    async with opened(site, "/demo/told", additional_headers=headers) as socket:
        told = json.loads((await all_of(socket))[0])
    assert told["metadata"]["Foo"] == "bar"
    assert not [name for name in told["metadata"] if name.startswith("Sec-")]
    assert 1100 < told["left"] <= 1200


async def test_a_client_that_closes_cancels_the_stream(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/waits?first=x") as socket:
        assert await socket.recv() == '"x"'
    await site.eventually(lambda: demo.ended)
    assert demo.ended == ["CancelledError"]


async def test_a_client_that_vanishes_cancels_the_stream(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/waits?first=x") as socket:
        assert await socket.recv() == '"x"'
        socket.transport.abort()
        await site.eventually(lambda: demo.ended)


async def test_pings_are_answered(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/waits?first=x") as socket:
        async with asyncio.timeout(60):
            await (await socket.ping(b"there?"))


async def test_a_message_may_be_as_long_as_a_body(site: Any, demo: Streaming) -> None:
    demo.let.set()
    async with opened(site, "/demo/unread") as socket:
        await socket.send('"%s"' % ("x" * (MAX_BODY - 2)))
        await socket.send("")
        await all_of(socket)
    assert demo.heard == [MAX_BODY - 2]


async def test_a_longer_one_closes_the_socket(site: Any, demo: Streaming) -> None:
    socket = await opened(site, "/demo/scale")
    with contextlib.suppress(ConnectionClosed):
        await socket.send("1" * (MAX_BODY + 1))
    await all_of(socket)
    assert socket.close_code == 1009
    await site.eventually(lambda: demo.ended)


async def test_long_answers_arrive(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/endless?size=8000000", max_size=None) as socket:
        for _ in range(3):
            assert len(await socket.recv()) == 8_000_002
    await site.eventually(lambda: demo.ended)


async def test_a_client_that_sends_too_fast_is_held_up(site: Any, demo: Streaming) -> None:
    item = '"%s"' % ("x" * 60_000)
    async with opened(site, "/demo/unread", write_limit=1) as socket:
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < 1000:
                await socket.send(item)
                sent += 1
            await socket.send("")

        sending = asyncio.create_task(send())
        assert await site.settled(lambda: sent) * len(item) < 30_000_000
        demo.let.set()
        await sending
        assert await all_of(socket) == ['"here"']
    assert demo.heard == [60_000] * 1000


async def test_a_message_for_who_takes_none_is_an_error(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/waits?first=x") as socket:
        await socket.send("")
        await socket.send("1")
        *_, last = await all_of(socket)
        assert "takes no messages" in json.loads(last)["error"]["Detail"]
        assert socket.close_code == 4400


async def test_a_message_after_the_end_is_an_error(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/unread") as socket:
        for message in ("1", "", "2"):
            await socket.send(message)
        *_, last = await all_of(socket)
        assert json.loads(last)["error"]["Code"] == 409
        assert socket.close_code == 4409


async def test_sockets_are_limited(platform: Bench, open_site: OpenSite, demo: Streaming) -> None:
    async with open_site(platform, max_streams=1) as site:
        async with opened(site, "/demo/waits?first=x"):
            with pytest.raises(InvalidStatus) as refused:
                await opened(site, "/demo/waits")
            assert refused.value.response.status_code == 503
        await site.eventually(lambda: demo.ended)
        async with opened(site, "/demo/once") as socket:
            assert await all_of(socket) == ['"Hello World"']


async def test_a_gateway_that_stops_says_so(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with (
        open_site(platform) as site,
        opened(site, "/demo/waits?first=x") as socket,
    ):
        assert await socket.recv() == '"x"'
        await site.gateway.end_streams(0)
        assert json.loads((await all_of(socket))[0])["error"]["Code"] == 503
        assert socket.close_code == 1012
    assert demo.ended == ["CancelledError"]


async def test_a_gateway_waits_a_little_for_streams_to_end(
    platform: Bench, open_site: OpenSite, demo: Streaming
) -> None:
    async with (
        open_site(platform) as site,
        opened(site, "/demo/waits?first=x") as socket,
    ):
        assert await socket.recv() == '"x"'
        ending = asyncio.create_task(site.gateway.end_streams(10))
        await asyncio.sleep(0)
        demo.let.set()
        assert await all_of(socket) == ['"last"']
        assert socket.close_code == 1000
        await asyncio.wait_for(ending, 60)
        await site.gateway.end_streams()


async def test_nothing_is_left_of_sockets(site: Any, demo: Streaming) -> None:
    async def open_some() -> None:
        for _ in range(20):
            async with opened(site, "/demo/scale") as socket:
                await socket.send("1")
                assert await socket.recv() == "1"
        await site.eventually(lambda: len(demo.ended) % 20 == 0)

    def left() -> tuple[int, int]:
        return len(asyncio.all_tasks()), len(list(Path("/dev/fd").iterdir()))

    await open_some()
    tasks, files = left()
    await open_some()
    await site.eventually(lambda: left() <= (tasks, files))


async def test_an_http_request_beside_them_is_answered(site: Any, demo: Streaming) -> None:
    async with opened(site, "/demo/waits?first=x"):
        assert (await site.http.get("/demo/once")).status_code == 200
        asked = {"connection": "Upgrade", "upgrade": "websocket"}
        assert (await site.http.get("/demo/once", headers=asked)).status_code == 400
        asked = {"connection": "Upgrade", "upgrade": "h2c"}
        assert (await site.http.get("/demo/once", headers=asked)).status_code == 200
