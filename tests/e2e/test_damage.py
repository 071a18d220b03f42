"""A server that cannot run, or not as it should: one line says why, and nothing is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .live import Live, program, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FREE = ("--api_address=127.0.0.1:0", "--proxy_address=127.0.0.1:0")


@pytest.fixture(scope="module")
def kept() -> Iterator[Live]:
    """A home in which a service was deployed, and whose server has been stopped."""
    site = Live("--gateways=1")
    try:
        site.start()
        site.micro("run", "helloworld")
        site.micro("user", "config", "set", "some.key", "value")
        assert site.stop() == 0
        yield site
    finally:
        site.close()


@pytest.fixture
def home(kept: Live) -> Iterator[Live]:
    """The same, with every file as it was after the test."""
    backup = kept.work / "backup"
    subprocess.run(["cp", "-a", str(kept.home.path), str(backup)], check=True)
    yield kept
    kept.end()
    subprocess.run(["rm", "-rf", str(kept.home.path)], check=True)
    subprocess.run(["mv", str(backup), str(kept.home.path)], check=True)


GARBAGE = b"\x00\xff garbage \x80" * 40


@pytest.mark.parametrize(
    "file", ["keys/operator.nk", "keys/account-micro.nk", "keys/account-system.nk"]
)
@pytest.mark.parametrize("damage", [b"", b"SOAK", GARBAGE])
def test_a_damaged_key_is_named_in_a_line(home: Live, file: str, damage: bytes) -> None:
    path = home.home.server / file
    path.write_bytes(damage)
    line = home.refused(127, "server", *FREE)
    assert str(path) in line
    assert "damaged" in line
    assert not (home.home.server / "server.json").exists()


def test_a_damaged_store_is_named_in_a_line(home: Live) -> None:
    for path in home.home.server.glob("store.db*"):
        path.unlink()
    path = home.home.server / "store.db"
    path.write_bytes(GARBAGE * 100)
    line = home.refused(4, "server", *FREE)
    assert str(path) in line
    assert path.read_bytes() == GARBAGE * 100
    assert str(path) in home.refused(4, "server", "--detach", *FREE)


def test_a_lock_that_cannot_be_taken_is_named_in_a_line(home: Live) -> None:
    path = home.home.server / "lock"
    path.unlink()
    path.mkdir()
    for words in (("server", *FREE), ("server", "--detach", *FREE)):
        assert str(path) in home.refused(127, *words)


def test_damage_that_can_be_mended_is_mended(home: Live) -> None:
    server = home.home.server
    (server / "server.json").write_bytes(GARBAGE)
    (server / "nats" / "port").write_bytes(GARBAGE)
    (server / "lock").write_bytes(GARBAGE)
    (server / "nats" / "nats.conf").write_bytes(GARBAGE)
    (server / "keys" / "core.creds").write_bytes(GARBAGE)
    (home.home.lanes / "core.sock").write_bytes(GARBAGE)
    (home.home.lanes / "00000000.sock").write_bytes(GARBAGE)
    home.start()
    until(lambda: home.web.get("/helloworld").status_code == 200)
    assert home.call("helloworld") == {"msg": "Hello World"}
    assert home.stop() == 0


@pytest.mark.parametrize("part", ["JWT", "SEED", ""])
def test_damaged_credentials_of_programs_run_by_hand(home: Live, part: str) -> None:
    home.start()
    path = home.home.server / "keys" / "admin.creds"
    lines = path.read_text().splitlines(keepends=True)
    # Without one of its two parts, or without both.
    path.write_text("".join(line for line in lines if part and part not in line))
    ran = subprocess.run(
        [sys.executable, "-c", program("by-hand")],
        env=home.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1, ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.endswith(f"the credentials file {path} is damaged")
    assert home.stop() == 0
    # They are written anew by the next one.
    home.start()
    assert path.read_text().splitlines()[0] == "".join(lines).splitlines()[0]
    assert home.stop() == 0


def test_a_damaged_config_is_named_in_a_line_and_leaves_the_server_alone(home: Live) -> None:
    config = home.home.path / "config.json"
    config.write_bytes(GARBAGE)
    home.start()
    until(lambda: home.web.get("/helloworld").status_code == 200)
    for words in (("env",), ("services",), ("user", "config", "get", "some.key"), ("status",)):
        line = home.refused(128, *words)
        assert str(config) in line
        assert "mend it or remove it" in line
    # Where both are said, nothing is asked of it.
    words = ("--env=local", "--namespace=micro", "services")
    assert "helloworld" in home.micro(*words).lines
    assert home.stop() == 0


def test_a_missing_source_is_told_and_can_be_mended(home: Live) -> None:
    subprocess.run(["rm", "-rf", str(home.home.server / "sources")], check=True)
    home.start()
    # An example can be had again.
    until(lambda: home.status("helloworld")["status"] == "running")
    assert home.call("helloworld") == {"msg": "Hello World"}
    assert home.stop() == 0


def test_a_second_server_on_the_home_is_refused(live: Live) -> None:
    line = live.refused(127, "server", *FREE)
    assert f"already on {live.home.path} (PID {live.pid('server')})" in line
    line = live.refused(127, "server", "--detach", *FREE)
    assert "already" in line


def test_a_port_in_use_is_told_with_its_holder(another: Callable[..., Live], live: Live) -> None:
    site = another()
    port = live.info.addresses["api"].rpartition(":")[2]
    line = site.refused(
        127, "server", f"--api_address=127.0.0.1:{port}", "--proxy_address=127.0.0.1:0"
    )
    assert line.startswith(f"micro: port {port} is in use by PID ")
    assert line.endswith("; use --api_address")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag in ("--proxy_address", "--nats_address"):
            others = [free for free in FREE if not free.startswith(flag)]
            line = site.refused(127, "server", *others, f"{flag}={address}")
            assert f"in use by PID {os.getpid()} " in line
            assert line.endswith(f"; use {flag}")


@pytest.mark.parametrize(
    ("flags", "about"),
    [
        (("--api_address=nonsense",), "is not of the form host:port"),
        (("--api_address=0.0.0.0:0",), "open to other machines"),
        (("--proxy_address=127.0.0.1:99999",), "is not of the form host:port"),
        (("--gateways=0",), "gateways"),
        (("--gateways=many",), "gateways"),
        (
            ("--profile=nope",),
            "there is no profile 'nope'; there are: cluster, kubernetes, local, test",
        ),
        (("--durability=maybe",), "durability"),
        (("--nonsense",), "nonsense"),
    ],
)
def test_wrong_flags_are_told_in_a_line(
    another: Callable[..., Live], flags: tuple[str, ...], about: str
) -> None:
    assert about in another().refused(64, "server", *flags)


def test_a_home_that_cannot_be_one_is_told(another: Callable[..., Live], tmp_path: Path) -> None:
    site = another()
    file = tmp_path / "file"
    file.write_text("not a folder")
    for home in (file, file / "below", Path("/proc/nowhere")):
        for detach in ((), ("--detach",)):
            code = 128 if detach else 64
            line = site.refused(code, "server", *detach, *FREE, MICRO_HOME=str(home))
            assert f"{home} cannot be the MICRO_HOME: " in line
        said = site.type("services", MICRO_HOME=str(home))
        assert (said.code, said.err.count("\n")) in ((4, 1), (128, 1)), said
