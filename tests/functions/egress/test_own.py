"""The platform's own doors, which no function is let through."""

from __future__ import annotations

import socket

import pytest

from microcosmos.base import errors
from microcosmos.functions.egress.fetch import Fetcher, Leave
from microcosmos.functions.egress.hosts import Hosts
from microcosmos.functions.egress.outgoing import Outgoing
from microcosmos.functions.egress.own import Own, is_here

from ..web import said, web


async def resolve(host: str, port: int) -> list[str]:
    if host != "engine.test":
        raise OSError(-2, "Name or service not known")
    return ["10.1.2.3"]


def outside() -> str:
    """An address of this machine that is not loopback, or one of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    ("doors", "address", "port", "held"),
    [
        (["127.0.0.1:4222"], "127.0.0.1", 4222, True),
        (["127.0.0.1:4222"], "127.0.0.2", 4222, True),
        (["127.0.0.1:4222"], "::1", 4222, True),
        (["127.0.0.1:4222"], "0.0.0.0", 4222, True),
        (["127.0.0.1:4222"], "127.0.0.1", 4223, False),
        (["127.0.0.1:4222"], "8.8.8.8", 4222, False),
        (["0.0.0.0:8081"], "127.0.0.1", 8081, True),
        ([":8081"], "127.0.0.1", 8081, True),
        (["[::]:8081"], "127.0.0.1", 8081, True),
        (["10.0.0.9:5432"], "10.0.0.9", 5432, True),
        (["10.0.0.9:5432"], "10.0.0.8", 5432, False),
        (["engine.test:4222"], "10.1.2.3", 4222, True),
        (["away.test:4222", "10.0.0.9:4222"], "10.0.0.9", 4222, True),
        (["nonsense", ""], "127.0.0.1", 4222, False),
    ],
)
async def test_a_door_of_the_platform(
    doors: list[str], address: str, port: int, held: bool
) -> None:
    assert await Own(doors, resolve).holds(address, port) is held


async def test_a_door_on_all_addresses_is_on_each_of_this_machine() -> None:
    assert is_here(outside())
    assert await Own(["0.0.0.0:8081"], resolve).holds(outside(), 8081)
    assert not is_here("192.0.2.1")


async def test_nobody_reaches_a_door_of_the_platform_though_he_was_allowed_it() -> None:
    async with web(said(b"engine")) as own, web(said(b"mine")) as mine:
        async with Fetcher(own=[own.host]) as fetcher:
            for host in (own.host, f"localhost:{own.port}", f"127.1:{own.port}"):
                leave = Leave(Hosts([own.host, f"localhost:{own.port}"]))
                with pytest.raises(errors.Forbidden, match="is the platform's own"):
                    async with fetcher.fetch(Outgoing(f"http://{host}/"), leave):
                        pass
            async with fetcher.fetch(Outgoing(mine.url), Leave(Hosts([mine.host]))) as answer:
                assert answer.status == 200
        assert not own.connections
