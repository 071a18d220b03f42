"""The access log: a line for each request, whole, harmless, and without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from microcosmos.base import context
from microcosmos.gateway import lines as lines_module
from microcosmos.gateway.access import LONGEST, AccessLog, Line, hide
from microcosmos.gateway.app import Gateway
from microcosmos.gateway.edge import Edge, from_environment
from microcosmos.gateway.entrance import open_entrance
from microcosmos.gateway.front.front import Front
from microcosmos.gateway.front.settings import Proxies, Settings
from microcosmos.gateway.lines import LineFile, Lines, open_lines
from microcosmos.gateway.worker import serve
from microcosmos.testing import Bench


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, letting the loop run."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a thread and the kernel change it
            await asyncio.sleep(0.001)


class Logged:
    """A gateway with an access log."""

    def __init__(self, port: int, front: Front, path: Path) -> None:
        self.front = front
        self.path = path
        self.port = port
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)

    async def texts(self, count: int) -> list[str]:
        """So many lines."""
        await eventually(lambda: self._size() >= count)
        return self.path.read_text().splitlines()

    def _size(self) -> int:
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    async def lines(self, count: int) -> list[Line]:
        return [msgspec.json.decode(text, type=Line) for text in await self.texts(count)]


Open = Callable[..., contextlib.AbstractAsyncContextManager[Logged]]


@pytest.fixture
def logged(platform: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens one, in a form."""
    monkeypatch.setattr(lines_module, "EVERY", 0.01)

    @contextlib.asynccontextmanager
    async def opened(form: Any = "json") -> AsyncIterator[Logged]:
        here = platform.platform
        front = Front(Gateway(here.client, here.table), here.table)
        path = tmp_path / "access.log"
        edge = Edge(access_log=form, access_log_file=str(path))
        listening = socket.create_server(("127.0.0.1", 0))
        site = Logged(listening.getsockname()[1], front, path)
        async with open_entrance(edge, front) as app, serve(app, listening), site.http:
            yield site

    return opened


async def test_a_line_says_what_is_known(logged: Open, platform: Bench, slow: Any) -> None:
    slow.let.set()
    await platform.start(slow.service)
    async with logged() as site:
        sent = {"user-agent": "me/1", "x-request-id": "order-7", "micro-trace": "0" * 31 + "1"}
        answer = await site.http.get("/slow", headers=sent)
        assert answer.headers["x-request-id"] == "order-7"
        (line,) = await site.lines(1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.time)
    assert (line.client, line.method, line.path) == ("127.0.0.1", "GET", "/slow")
    assert (line.protocol, line.status, line.bytes) == ("HTTP/1.1", 200, len('"done"'))
    assert (line.agent, line.request_id, line.trace) == ("me/1", "order-7", "0" * 31 + "1")
    assert 0 < line.duration_ms < 10_000


async def test_the_trace_is_that_of_the_call(logged: Open) -> None:
    async with logged() as site:
        answer = await site.http.get("/nosuch", headers={"micro-trace": "of no use"})
        (line,) = await site.lines(1)
    assert line.status == 404
    assert line.trace == answer.headers[context.TRACE]
    assert re.fullmatch(r"[0-9a-f]{32}", line.trace)
    assert line.bytes == len(answer.content)


async def test_answers_without_a_body_have_no_bytes(logged: Open) -> None:
    async with logged() as site:
        await site.http.head("/")
        await site.http.options("/x")
        head, options = await site.lines(2)
    assert (head.method, head.bytes, head.status) == ("HEAD", 0, 200)
    assert (options.method, options.bytes, options.status) == ("OPTIONS", 0, 204)


async def test_the_client_is_the_one_that_trusted_proxies_tell(logged: Open) -> None:
    async with logged() as site:
        told = {"x-forwarded-for": "203.0.113.9"}
        await site.http.get("/", headers=told)
        site.front.apply(Settings(proxies=Proxies(trusted=["127.0.0.1"])))
        await site.http.get("/", headers=told)
        assert [line.client for line in await site.lines(2)] == ["127.0.0.1", "203.0.113.9"]


async def test_the_common_form_is_what_other_servers_write(logged: Open) -> None:
    async with logged("common") as site:
        await site.http.get("/?a=1&token=t", headers={"user-agent": 'a"b\\', "x-request-id": "7"})
        (text,) = await site.texts(1)
    assert re.fullmatch(
        r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
        r'"GET /\?a=1&token=\[secret\] HTTP/1\.1" 200 \d+ "-" "a\\u0022b\\u005c" '
        r'[\d.]+ "7" [0-9a-f]{32}',
        text,
    )


@pytest.mark.parametrize("form", ["json", "common"])
async def test_nobody_writes_a_line_of_his_own(logged: Open, form: str) -> None:
    async with logged(form) as site:
        for bad in ('\n127.0.0.1 - - "GET /forged', '"x', "\r", "\x1b[2J", "\u2028", "\x85"):
            await site.http.get("/" + quote(bad))
        texts = await site.texts(6)
    assert len(texts) == 6
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028]", "".join(texts))
    assert all(text.count('"') >= 6 for text in texts)


async def test_what_is_long_is_cut(logged: Open) -> None:
    async with logged() as site:
        sent = {"user-agent": "u" * 5000}
        await site.http.get("/" + "p" * 5000, params={"q": "v" * 5000}, headers=sent)
        (line,) = await site.lines(1)
    assert [len(line.path), len(line.query), len(line.agent)] == [LONGEST] * 3


async def test_no_header_with_a_secret_is_written(logged: Open) -> None:
    async with logged() as site:
        sent = {"authorization": "Bearer hunter2", "cookie": "session=hunter2"}
        url = "/?password=hunter2&x=1&user[token]=hunter2"
        await site.http.get(url, headers={**sent, "referer": f"http://x{url}"})
        (text,) = await site.texts(1)
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("query", "hidden"),
    [
        ("", ""),
        ("name=Joe&limit=2", "name=Joe&limit=2"),
        ("token=a", "token=[secret]"),
        ("Access_Token=a&b=c", "Access_Token=[secret]&b=c"),
        ("x=1;api-key=a", "x=1;api-key=[secret]"),
        ("%70assword=a", "%70assword=[secret]"),
        ("user%5Bsecret%5D=a=b", "user%5Bsecret%5D=[secret]"),
        ("author=Joe&keyboard=us", "author=Joe&keyboard=us"),
        ("code=a&zipcode=1", "code=[secret]&zipcode=1"),
        ("token", "token"),
        ("token=", "token="),
        ("X-Amz-Signature=a", "X-Amz-Signature=[secret]"),
    ],
)
def test_values_of_names_like_secrets_are_hidden(query: str, hidden: str) -> None:
    assert hide(query) == hidden


class Answers:
    """An application that answers in every way there is."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "file"
        self.file.write_bytes(bytes(1000))

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        if scope.path == "/str":
            proto.response_str(201, [], "grüße")
        elif scope.path == "/file":
            proto.response_file(200, [], str(self.file))
        elif scope.path == "/range":
            proto.response_file_range(206, [], str(self.file), 10, 19)
        elif scope.path == "/stream":
            stream = proto.response_stream(200, [])
            await stream.send_bytes(b"12345")
            await stream.send_str("ü")
        elif scope.path == "/body":
            parts = [part async for part in proto]
            proto.response_bytes(200, [], b"".join(parts))
        elif scope.path == "/whole":
            proto.response_bytes(200, [], await proto())
        else:
            raise ValueError


async def test_every_kind_of_answer_is_seen(tmp_path: Path) -> None:
    lines: list[Line] = []
    app = AccessLog(
        Answers(tmp_path),
        lambda data: lines.append(msgspec.json.decode(data, type=Line)),
        "json",
        lambda scope: str(scope.client),
    )
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with serve(app, listening), httpx.AsyncClient(base_url=url, timeout=60) as http:
        for path in ("/str", "/file", "/range", "/stream", "/none"):
            answer = await http.get(path)
            assert lines[-1].status == answer.status_code
            if path != "/none":
                assert lines[-1].bytes == len(answer.content), path
        assert (await http.post("/body", content=b"body")).content == b"body"
        assert (await http.post("/whole", content=b"whole")).content == b"whole"
        assert [line.bytes for line in lines[-2:]] == [4, 5]


def test_a_file_that_was_moved_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = LineFile(path)
    file.write(b"one\n")
    path.rename(tmp_path / "moved")
    file.write(b"two\n")
    path.unlink()
    file.write(b"three\n")
    file.close()
    assert (tmp_path / "moved").read_bytes() == b"one\n"
    assert path.read_bytes() == b"three\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_long_file_starts_anew_once_for_all_who_write(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    files = [LineFile(path, rotate=100) for _ in range(3)]
    written = 0
    for turn in range(30):
        files[turn % 3].write(b"x" * 9 + b"\n")
        written += 10
        # Never two renames for one long file: the old part is long too.
        if (old := tmp_path / "access.log.1").exists():
            assert old.stat().st_size > 100
    for file in files:
        file.close()
    assert path.stat().st_size <= 110
    assert len(list(tmp_path.iterdir())) == 2


async def test_lines_are_not_lost_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with open_lines(path) as lines:
        for number in range(1000):
            lines.add(b"%d\n" % number)
    assert path.read_bytes().split() == [b"%d" % number for number in range(1000)]


async def test_a_disk_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "EVERY", 0.001)
    folder = tmp_path / "gone"
    path = folder / "access.log"
    async with open_lines(path) as lines:
        for _ in range(3):
            lines.add(b"lost\n")
            await eventually(lambda: not lines._size)
        folder.mkdir()
        lines.add(b"kept\n")
    assert path.read_bytes() == b"kept\n"
    (record,) = caplog.records
    assert record.getMessage().startswith("the access log cannot be written: ")


async def test_a_slow_disk_loses_lines_and_no_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "WAITING", 1000)
    monkeypatch.setattr(lines_module, "EVERY", 0.001)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    # Opening waits for a reader, as a disk that hangs would.
    lines = Lines(LineFile(path))
    writing = asyncio.create_task(lines.keep_writing())
    with caplog.at_level(logging.WARNING):
        lines.add(b"x" * 1000 + b"\n")
        await eventually(lambda: not lines._waiting)
        lines.add(b"lost\n")
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        await eventually(lambda: caplog.records)
        lines.add(b"kept\n")
        await eventually(lambda: not lines._size)
    writing.cancel()
    assert os.read(reader, 10_000) == b"x" * 1000 + b"\nkept\n"
    os.close(reader)
    assert "1 lines of the access log were lost" in caplog.text


def test_an_edge_is_told_by_variables_alone() -> None:
    edge = Edge(tls_cert_file="c", tls_key_file="k", access_log="json", access_log_file="/l")
    assert from_environment(edge.environment()) == edge
    assert from_environment({}) == Edge()
    assert edge.speaks_http2
    assert not Edge().speaks_http2
    assert Edge(http2="always").speaks_http2
    assert not Edge(tls_cert_file="c", tls_key_file="k", http2="never").speaks_http2
