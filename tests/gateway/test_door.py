"""``python main.py`` without a server: the service answers behind a small gateway of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from microcosmos import Service, errors
from microcosmos.gateway.door import open_door
from microcosmos.testing import Bench

MAIN = """
from microcosmos import Service

greeter = Service("v1.greeter")

@greeter.endpoint
async def hello(name: str = "World") -> str:
    return f"Hello {name}"

greeter.run()
"""

Run = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts the service as a program, in a home where no server runs."""
    (tmp_path / "main.py").write_text(MAIN)
    started: list[subprocess.Popen[str]] = []

    def start(address: str) -> subprocess.Popen[str]:
        environ = {name: text for name, text in os.environ.items() if not name.startswith("MICRO_")}
        environ |= {"MICRO_HOME": str(tmp_path / "home"), "MICRO_API_ADDRESS": address}
        command = [sys.executable, str(tmp_path / "main.py")]
        process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Read what a program says until a line matches; a program that says nothing is killed."""
    assert process.stderr is not None
    guard = threading.Timer(20, process.kill)
    guard.start()
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(pattern, line):
                return found
    finally:
        guard.cancel()
    raise AssertionError(f"it never said {pattern}: {said}")


@pytest.mark.e2e
def test_a_service_alone_answers_http_and_ends_on_a_signal(run: Run) -> None:
    process = run("")
    url = lines_until(process, r"alone, at (http://127\.0\.0\.1:\d+)$")[1]
    curl = lines_until(process, r"^  curl (\S+)$")[1]
    assert curl == f"{url}/v1/greeter/hello"
    assert httpx.get(curl, params={"name": "Joe"}, timeout=60).json() == "Hello Joe"
    assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    listed = httpx.get(f"{url}/registry/listServices", timeout=60).json()
    assert "v1.greeter" in [service["name"] for service in listed["services"]]
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


@pytest.mark.e2e
@pytest.mark.parametrize("address", ["127.0.0.1:{taken}", "nonsense"])
def test_a_service_that_cannot_listen_ends_with_one_line(run: Run, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        process = run(address.format(taken=taken))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    failed = [line for line in said.splitlines() if " answers" not in line]
    assert len(failed) == 1, said
    cause = f"port {taken} is in use" if "taken" in address else "is not of the form host:port"
    assert cause in failed[0]
    assert "MICRO_API_ADDRESS" in failed[0]


@pytest.mark.parametrize(
    ("address", "detail"),
    [
        ("8080", "'8080' is not of the form host:port"),
        ("localhost:", "is not of the form host:port"),
        ("localhost:http", "is not of the form host:port"),
        ("localhost:٨", "is not of the form host:port"),
        ("localhost:70000", "is not of the form host:port"),
        ("192.0.2.1:0", "cannot listen at 192.0.2.1:0: "),
        ("no such host:0", "cannot listen at no such host:0: "),
    ],
)
async def test_a_bad_address_is_told_as_such(platform: Bench, address: str, detail: str) -> None:
    here = platform.platform
    with pytest.raises(errors.BadRequest) as caught:
        async with open_door(here.client, here.table, address):
            pass
    assert caught.value.detail.startswith("MICRO_API_ADDRESS: ")
    assert detail in caught.value.detail
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("", r"http://127\.0\.0\.1:\d+"),
        ("localhost:0", r"http://127\.0\.0\.1:\d+"),
        (":0", r"http://0\.0\.0\.0:\d+"),
        ("[::1]:0", r"http://\[::1\]:\d+"),
    ],
)
async def test_the_address_may_be_chosen(
    platform: Bench, address: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = platform.platform
    hello = Service("hello")
    hello.endpoint(name="Call")(lambda: "hi")
    await platform.start(hello, Service("empty"))
    async with (
        open_door(here.client, here.table, address) as opened,
        httpx.AsyncClient(timeout=60) as http,
    ):
        assert re.fullmatch(url, opened)
        assert (await http.get(f"{opened}/hello")).json() == "hi"
    said = capsys.readouterr().err
    assert f"alone, at {opened}\n  curl {opened}/hello/call\n" in said
    assert "empty" not in said
    assert "registry" not in said


async def test_a_door_does_not_share_its_port(platform: Bench) -> None:
    here = platform.platform
    async with open_door(here.client, here.table) as url:
        port = url.rpartition(":")[2]
        with pytest.raises(errors.Conflict, match=f"port {port} is in use; set MICRO_API_ADDRESS"):
            async with open_door(here.client, here.table, f"127.0.0.1:{port}"):
                pass
    await asyncio.sleep(0)
