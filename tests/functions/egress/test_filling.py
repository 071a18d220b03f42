"""Secrets on their way: real requests to a server that notes what it got."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.functions.egress.fetch import Fetcher, Leave
from microcosmos.functions.egress.filling import Filling, is_bound
from microcosmos.functions.egress.hosts import Hosts, Origin
from microcosmos.functions.egress.outgoing import Outgoing
from microcosmos.functions.egress.policy import Policy
from microcosmos.functions.interface import SecretUse
from microcosmos.functions.placeholders import PATTERN, placeholder_of

from ..web import Seen, Web, said, web

KEY = placeholder_of("micro/shop/1/", "KEY")
OTHER = placeholder_of("micro/other/2/", "KEY")
VALUE = "s3cret-of-the-shop"


class Values:
    """The values of secrets by name."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.asked: list[str] = []

    async def value(self, policy: Policy, secret: str) -> str:
        self.asked.append(secret)
        return self.values[secret]


def policy(*uses: SecretUse) -> Policy:
    return Policy(
        namespace="micro",
        name="shop",
        number=1,
        key="k",
        owner="ann",
        placeholders={KEY: "KEY"},
        secret_uses={"KEY": [*uses]},
    )


async def fetch(
    server: Web,
    *uses: SecretUse,
    value: str = VALUE,
    hosts: list[str] | None = None,
    path: str = "/",
    **about: Any,
) -> dict[str, str]:
    """The headers of the answer."""
    async with Fetcher() as fetcher:
        filling = Filling(policy(*uses), Values(KEY=value))
        leave = Leave(Hosts(hosts or [server.host]), "ann", filling)
        async with fetcher.fetch(Outgoing(f"{server.url}{path}", **about), leave) as answer:
            async for _ in answer.body:
                pass
            return dict(answer.headers)


def headers(value: str, name: str = "Authorization") -> list[tuple[str, str]]:
    return [(name, value)]


def test_a_placeholder_is_the_same_for_ever_and_another_for_others() -> None:
    assert PATTERN.fullmatch(KEY)
    assert placeholder_of("micro/shop/1/", "KEY") == KEY
    assert len({KEY, OTHER, placeholder_of("micro/shop/1/", "K")}) == 3


async def test_a_placeholder_is_filled_in_anywhere_in_the_value_of_its_header() -> None:
    async with web(said(b"ok")) as server:
        use = SecretUse(server.host)
        for sent, came in (
            (KEY, VALUE),
            (f"Bearer {KEY}", f"Bearer {VALUE}"),
            (f'a="{KEY}", b="{KEY}"', f'a="{VALUE}", b="{VALUE}"'),
        ):
            await fetch(server, use, headers=headers(sent))
            assert server.seen[-1].headers["authorization"] == came
        await fetch(server, SecretUse(server.host, "x-key"), headers=headers(KEY, "X-Key"))
        assert server.seen[-1].headers["x-key"] == VALUE


async def test_a_placeholder_is_filled_in_as_a_user_and_as_a_password() -> None:
    async with web(said(b"ok")) as server:
        for sent, came in ((f"{KEY}:", f"{VALUE}:"), (f"ann:{KEY}", f"ann:{VALUE}")):
            basic = f"Basic {base64.b64encode(sent.encode()).decode()}"
            await fetch(server, SecretUse(server.host), headers=headers(basic))
            came_as = server.seen[-1].headers["authorization"].removeprefix("Basic ")
            assert base64.b64decode(came_as).decode() == came


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (KEY, "x-other"),
        (f"a={KEY}", "cookie"),
        (f"Basic {base64.b64encode(KEY.encode()).decode()}", "authorization"),
        (KEY, "authorization"),
    ],
)
async def test_a_placeholder_elsewhere_is_refused_and_nothing_is_sent(sent: str, name: str) -> None:
    async with web(said(b"ok")) as server:
        with pytest.raises(errors.Forbidden) as caught:
            await fetch(server, SecretUse("api.test", "x-key"), headers=headers(sent, name))
        assert "the secret KEY is filled in for x-key to api.test, not for" in caught.value.detail
        assert f"--secret-use KEY={server.host}/{name}" in caught.value.detail
        assert VALUE not in caught.value.detail
        assert not server.connections


async def test_a_placeholder_in_a_body_stays_and_one_in_a_url_is_refused() -> None:
    async with web(said(b"ok")) as server:
        use = SecretUse(server.host)
        await fetch(server, use, method="POST", body=KEY.encode())
        assert server.seen[-1].body == KEY.encode()
        with pytest.raises(errors.Forbidden, match="the secret KEY is in the URL"):
            await fetch(server, use, path=f"/?key={KEY}")
        assert len(server.seen) == 1


async def test_the_placeholder_of_another_function_is_only_text() -> None:
    async with web(said(b"ok")) as server:
        await fetch(server, SecretUse(server.host), headers=headers(OTHER))
        assert server.seen[-1].headers["authorization"] == OTHER


async def test_an_answer_that_repeats_a_secret_in_its_headers_is_scrubbed() -> None:
    async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
        got = seen.headers["authorization"]
        await said(b"ok", x_got=got, location=f"/?{got}")(seen, writer)

    async with web(echo) as server:
        answered = await fetch(server, SecretUse(server.host), headers=headers(f"Bearer {KEY}"))
        assert answered["x-got"] == f"Bearer {KEY}"
        assert VALUE not in str(answered)


@pytest.mark.parametrize("value", ["two\nlines", "a\r\nX-More: b", "snow ☃"])
async def test_a_value_that_cannot_be_in_a_header(value: str) -> None:
    async with web(said(b"ok")) as server:
        with pytest.raises(errors.Forbidden, match="the secret KEY cannot be in a header") as got:
            await fetch(server, SecretUse(server.host), value=value, headers=headers(KEY))
        assert value not in got.value.detail
        assert not server.connections


def leading(server: list[Web]) -> Any:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await said(b"", "307 Temporary Redirect", location=f"{server[0].url}/")(seen, writer)

    return answer


async def test_a_secret_is_left_behind_by_a_redirect_to_where_it_is_not_bound() -> None:
    async with web(said(b"ok")) as other, web(leading([other])) as server:
        hosts = [server.host, other.host]
        sent = [("X-Key", KEY), ("X-Kept", "1")]
        await fetch(server, SecretUse(server.host, "x-key"), hosts=hosts, headers=sent)
        assert server.seen[0].headers["x-key"] == VALUE
        assert "x-key" not in other.seen[0].headers
        assert other.seen[0].headers["x-kept"] == "1"


async def test_a_secret_goes_along_to_where_it_is_bound_too() -> None:
    async with web(said(b"ok")) as other, web(leading([other])) as server:
        hosts = [server.host, other.host]
        uses = [SecretUse(host, "x-key") for host in hosts]
        await fetch(server, *uses, hosts=hosts, headers=headers(KEY, "X-Key"))
        assert other.seen[0].headers["x-key"] == VALUE


@pytest.mark.parametrize(
    ("host", "url", "bound"),
    [
        ("api.test", ("https", "api.test", 443), True),
        ("api.test", ("https", "api.test.", 443), True),
        ("api.test", ("http", "api.test", 80), False),
        ("api.test", ("http", "api.test", 443), False),
        ("api.test", ("https", "api.test", 8443), False),
        ("api.test:8443", ("https", "api.test", 8443), True),
        ("127.0.0.1:80", ("http", "127.0.0.1", 80), True),
        ("api.test:80", ("https", "api.test", 443), False),
        ("*.api.test", ("https", "eu.api.test", 443), True),
        ("*.api.test", ("https", "api.test", 443), False),
        ("*.api.test", ("https", "evilapi.test", 443), False),
        ("api.test", ("https", "api.test.evil.test", 443), False),
        ("[::1]:80", ("http", "::1", 80), True),
    ],
)
def test_where_a_secret_is_bound_to(host: str, url: tuple[str, str, int], bound: bool) -> None:
    assert is_bound([SecretUse(host)], Origin(*url), "authorization") is bound
    assert not is_bound([SecretUse(host)], Origin(*url), "x-other")


async def test_a_value_is_asked_for_only_if_it_is_needed() -> None:
    values = Values(KEY=VALUE)
    filling = Filling(policy(SecretUse("api.test")), values)
    plain = [("accept", "x"), ("authorization", "Bearer mine")]
    assert await filling.fill(Origin("https", "api.test", 443), plain) == plain
    assert not values.asked
