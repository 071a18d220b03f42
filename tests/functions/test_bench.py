"""`micro functions bench`: the block of the story, and honest numbers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from microcosmos.base import errors
from microcosmos.cli.session import Session
from microcosmos.functions import bench
from microcosmos.functions.bench_cli import bench as command


class Site(BaseHTTPRequestHandler):
    """Answers in all the ways that an answer may end."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    url: ClassVar[str]
    seen: ClassVar[list[tuple[str, str, int]]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("x-a", ""), self.client_address[1]))
        match self.path.rpartition("/")[2]:
            case "length":
                self._send(200, b"hello", {"Content-Length": "5"})
            case "chunked":
                body = b"5\r\nhello\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n"
                self._send(200, body, {"Transfer-Encoding": "chunked"})
            case "close":
                self.close_connection = True
                self._send(200, b"hello", {"Connection": "close"})
            case "none":
                self._send(204, b"", {})
            case "every-second" if len(self.seen) % 2 == 0:
                self._send(503, b"{}", {"Content-Length": "2"})
            case "every-second":
                self._send(200, b"", {"Content-Length": "0"})
            case "gone" if len(self.seen) > 1:
                self.close_connection = True
            case "gone":
                self._send(200, b"", {"Content-Length": "0"})
            case _:
                self._send(404, b"no such thing", {"Content-Length": "13"})

    do_POST = do_GET  # noqa: N815

    def do_HEAD(self) -> None:
        self._send(200, b"", {"Content-Length": "5000"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[type[Site]]:
    class Own(Site):
        seen: ClassVar[list[tuple[str, str, int]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Own.url = f"http://127.0.0.1:{server.server_port}"
    yield Own
    server.shutdown()
    server.server_close()
    thread.join()


def run(site: type[Site], tmp_path: Path, *words: str) -> Result:
    session = Session()
    session.choose(str(tmp_path), "", "", "")
    session.output = "json" if "json" in words else "table"
    arguments = [f"--url={site.url}", *(word for word in words if word != "json")]
    return CliRunner().invoke(command, arguments, obj=session)


BLOCK = r"""={36}
Thread Count: %d Requests Per Thread: 20
Total: %d Errors: 0 Subjective Time: \d+\.\d{3} Real Time: \d+\.\d{3}
Subjective Average: [\d,]+\.\d\d
Mean Latency: \d+\.\d{3}
Real Average: [\d,]+\.\d\d
p50: \d+\.\d{3} p99: \d+\.\d{3}
Memory: not known
Client: \d+ %% of a core
"""


def test_it_prints_the_block_of_the_story_for_each_count(site: type[Site], tmp_path: Path) -> None:
    done = run(site, tmp_path, "shop.cart", "--threads=1..3", "--requests=20", "--path=length")
    assert done.exit_code == 0, done.output
    expected = "".join(BLOCK % (count, count * 20) for count in (1, 2, 3))
    assert re.fullmatch(expected, done.output), done.output
    paths = {path for path, _, _ in site.seen}
    assert paths == {"/shop/cart/length"}
    # One request to see that it answers, and a connection that stays open for each thread.
    assert len(site.seen) == 1 + 6 * 20
    assert len({port for _, _, port in site.seen}) == 1 + 6


def test_the_figures_fit_together(site: type[Site], tmp_path: Path) -> None:
    done = run(site, tmp_path, "f", "--threads=4", "--requests=25", "--path=length", "json")
    (block,) = json.loads(done.output)
    assert (block["threads"], block["total"], block["errors"]) == (4, 100, 0)
    subjective, real = block["subjective_time"], block["real_time"]
    assert real <= subjective <= 4 * real + 0.01
    assert block["subjective_average"] == pytest.approx(100 / subjective)
    assert block["real_average"] == pytest.approx(100 / real)
    assert block["mean_latency_ms"] == pytest.approx(subjective / 100 * 1000)
    assert 0 < block["p50_ms"] <= block["p99_ms"] <= real * 1000
    assert block["client_cpu"] > 0


@pytest.mark.parametrize("way", ["length", "chunked", "close", "none"])
async def test_answers_end_in_every_way(site: type[Site], way: str) -> None:
    target = bench.Target(f"{site.url}/{way}")
    block = await bench.block(target, 2, 3)
    assert (block.total, block.errors) == (6, 0), block.failures
    assert len(site.seen) == 6


async def test_a_head_has_no_body(site: type[Site]) -> None:
    target = bench.Target(f"{site.url}/x", method="HEAD")
    assert (await bench.block(target, 1, 3)).errors == 0


async def test_what_is_no_good_answer_is_counted(site: type[Site]) -> None:
    target = bench.Target(f"{site.url}/every-second")
    block = await bench.block(target, 1, 10)
    assert (block.errors, block.failures) == (5, {"503": 5})
    assert block.text().endswith("Failed: 5 x 503")


async def test_a_connection_that_breaks_is_an_error_and_is_opened_again(site: type[Site]) -> None:
    target = bench.Target(f"{site.url}/gone")
    block = await bench.block(target, 1, 4)
    assert (block.errors, block.failures) == (3, {"no answer": 3})


def test_percentiles_are_of_all_that_was_seen() -> None:
    times = [float(at) for at in range(1, 201)]
    assert bench._percentile(times, 50) == 100
    assert bench._percentile(times, 99) == 198
    assert bench._percentile([3.0], 99) == 3
    assert bench._percentile([], 50) == 0


def test_memory_is_of_processes_and_their_children() -> None:
    import os

    own = bench.memory([os.getpid()])
    assert own > 1_000_000
    assert bench.memory([os.getpid(), os.getpid()]) < 2 * own
    assert bench.memory([]) == 0


def test_headers_and_a_method_are_sent(site: type[Site], tmp_path: Path) -> None:
    words = ("f", "--threads=1", "--requests=1", "--path=length", "--header=x-a=b", "--method=post")
    assert run(site, tmp_path, *words).exit_code == 0
    assert {header for _, header, _ in site.seen} == {"b"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("f", "--threads=0"), "not between 1 and"),
        (("f", "--threads=8..1"), "not between 1 and"),
        (("f", "--threads=1.."), "no number like 4"),
        (("f", "--threads=x"), "no number like 4"),
        (("f", "--requests=0"), "0 is not in the range"),
        (("f", "--header=x"), "not NAME=VALUE"),
        (("f/g",), "no service name"),
        (("f", "--path=nothing"), "answers 404: no such thing"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    site: type[Site], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = run(site, tmp_path, *words)
    assert done.exit_code != 0
    assert said in (
        done.output if not isinstance(done.exception, errors.Error) else done.exception.detail
    )


def test_where_nobody_is_it_says_so(tmp_path: Path, site: type[Site]) -> None:
    session = Session()
    session.choose(str(tmp_path), "", "", "")
    done = CliRunner().invoke(command, ["f", "--url=http://127.0.0.1:1"], obj=session)
    assert done.exit_code == 1
    assert done.output == "Error: http://127.0.0.1:1/f: connection refused\n"
    done = CliRunner().invoke(command, ["f"], obj=session)
    assert "no server runs here" in done.output
