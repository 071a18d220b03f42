"""Which address a client has: trusted proxies are believed, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from microcosmos.gateway.front.addresses import Networks, canonical, counted, network
from microcosmos.gateway.front.proxies import HOPS, Proxies
from microcosmos.gateway.front.settings import Proxies as Given

PROXY = "10.0.0.1:4711"
TRUSTED = ["10.0.0.0/8", "fd00::/8"]


def _client(*values: str, peer: str = PROXY, header: Any = "X-Forwarded-For") -> str:
    proxies = Proxies(Given(trusted=TRUSTED, header=header))
    return proxies.client(peer, "http", [(header.lower(), value) for value in values]).address


def test_the_nearest_hop_that_is_not_trusted_is_the_client() -> None:
    assert _client() == "10.0.0.1"
    assert _client("203.0.113.9") == "203.0.113.9"
    assert _client("6.6.6.6, 203.0.113.9") == "203.0.113.9"
    assert _client("6.6.6.6, 203.0.113.9, 10.2.3.4") == "203.0.113.9"
    assert _client("6.6.6.6", "203.0.113.9", "10.2.3.4, 10.2.3.5") == "203.0.113.9"
    assert _client("10.9.9.9, 10.2.3.4") == "10.9.9.9"


@pytest.mark.parametrize(
    "spoofed", ["6.6.6.6", "10.0.0.5", "127.0.0.1", "::1", "6.6.6.6, 10.0.0.2"]
)
def test_nobody_else_is_believed(spoofed: str) -> None:
    assert _client(spoofed, peer="203.0.113.9:80") == "203.0.113.9"
    assert _client(f"{spoofed}, 203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize(
    "junk", ["unknown", "", "_hidden", "1.2.3", "a" * 50_000, "1.2.3.4.5", "fe80::1%eth0"]
)
def test_what_is_no_address_ends_the_chain(junk: str) -> None:
    assert _client(f"6.6.6.6, {junk}, 10.2.3.4") == "10.2.3.4"


def test_addresses_in_other_forms_are_the_same_client() -> None:
    assert _client("203.0.113.9:1234") == "203.0.113.9"
    assert _client("[2001:db8::1]:1234") == "2001:db8::1"
    assert _client("2001:0DB8:0::0001") == "2001:db8::1"
    assert _client("::ffff:203.0.113.9") == "203.0.113.9"
    assert _client("203.0.113.9", peer="[::ffff:10.0.0.1]:80") == "203.0.113.9"


def test_a_long_chain_is_not_followed_for_ever() -> None:
    chain = ["6.6.6.6", *["10.0.0.2"] * (HOPS - 1)]
    assert _client(", ".join(chain)) == "6.6.6.6"
    assert _client(", ".join([*chain, "10.0.0.2"])) == "10.0.0.2"


def test_forwarded_where_it_was_chosen() -> None:
    told = 'for=6.6.6.6, for="[2001:db8::1]:80";proto=https;by=_x, For=10.2.3.4;proto=http'
    assert _client(told, header="Forwarded") == "2001:db8::1"
    proxies = Proxies(Given(trusted=TRUSTED, header="Forwarded"))
    client = proxies.client(PROXY, "http", [("forwarded", told), ("x-forwarded-for", "6.6.6.6")])
    assert (client.address, client.scheme) == ("2001:db8::1", "https")
    assert ("x-forwarded-for", "6.6.6.6") not in client.pairs


@pytest.mark.parametrize("header", ["forwarded", "x-real-ip", "x-client-ip", "true-client-ip"])
def test_the_other_headers_are_not_asked(header: str) -> None:
    proxies = Proxies(Given(trusted=TRUSTED))
    assert proxies.client(PROXY, "http", [(header, "for=6.6.6.6")]).address == "10.0.0.1"


def test_the_scheme_is_the_proxies_word() -> None:
    proxies = Proxies(Given(trusted=TRUSTED))
    told = [("x-forwarded-proto", "https")]
    assert proxies.client(PROXY, "http", told).scheme == "https"
    assert proxies.client(PROXY, "http", [("x-forwarded-proto", "gopher")]).scheme == "http"
    assert proxies.client("203.0.113.9:80", "http", told).scheme == "http"


async def test_services_see_what_is_true(open_front: Any, platform: Any, echo: Any) -> None:
    await platform.start(echo.service)
    claims = {
        "X_Forwarded_For": "6.6.6.6",
        "X_Real_IP": "6.6.6.6",
        "Remote": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X_Forwarded_Proto": "https",
        "X_Custom": "kept",
    }
    async with open_front("[proxies]") as fronted:
        seen = (await fronted.get("/echo", **claims)).json()
        assert "6.6.6.6" not in seen.values()
        assert seen["Remote"] == seen["X-Forwarded-For"] == "127.0.0.1"
        assert (seen["X-Forwarded-Proto"], seen["X-Custom"]) == ("http", "kept")
        fronted.apply("[proxies]\ntrusted = ['127.0.0.1']")
        seen = (await fronted.get("/echo", **claims)).json()
        assert seen["Remote"] == seen["X-Forwarded-For"] == "6.6.6.6"
        assert seen["X-Forwarded-Proto"] == "https"
        assert "Forwarded" not in seen


def test_networks_know_their_addresses() -> None:
    networks = Networks(network(text) for text in ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32"))
    inside = ("10.1.2.3", "192.0.2.7", "2001:db8::9")
    assert all(address in networks for address in inside)
    outside = ("11.0.0.1", "192.0.2.8", "2001:db9::9", "", "x", "0.0.0.10", "::a00:1")
    assert not any(address in networks for address in outside)
    assert not Networks([])
    assert "0.0.0.0" not in Networks([])


def test_a_customer_of_ipv6_is_one_client() -> None:
    assert counted("2001:db8::1") == counted("2001:db8::ffff:2") != counted("2001:db8:0:1::1")
    assert counted("192.0.2.7") == "192.0.2.7"
    assert canonical("x" * 1_000_000) == ""
