"""Every endpoint of the platform's own services, asked by everybody who might try."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from microcosmos.auth.interface import Account
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.service import AuthService
from microcosmos.auth.tokens import Signer
from microcosmos.base import names
from microcosmos.config.service import ConfigService
from microcosmos.gateway.front.blocklist import ApiService
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Hosted
from microcosmos.runtime.service import RuntimeService
from microcosmos.store.service import StoreService

from .live import Live, client, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class _Anything:
    """Stands where a service keeps what it works on: here nothing is answered."""

    def __getattr__(self, name: str) -> Any:
        return _Anything()

    def __call__(self, *_: Any, **__: Any) -> Any:
        return _Anything()


ANYTHING = cast(Any, _Anything())

SERVICES: list[Hosted] = [
    ApiService(ANYTHING).hosted(),
    AuthService(ANYTHING).hosted(),
    ConfigService(ANYTHING).hosted(),
    RegistryService(ANYTHING).hosted(),
    RuntimeService(ANYTHING).hosted(),
    StoreService(ANYTHING).hosted(),
]

# What gets in, by what an endpoint asks; the rest is refused.
WELCOME = {
    "open": {"anonymous", "stranger", "plain", "admin"},
    "read": {"anonymous", "stranger", "plain", "admin"},
    "account": {"plain", "admin"},
    "service": {"admin"},
    "admin": {"admin"},
    "platform": {"admin"},
}


@pytest.fixture(scope="module")
def site() -> Iterator[Live]:
    server = Live("--gateways=1")
    try:
        server.start()
        server.micro("auth", "create", "namespace", "foo")
        yield server
    finally:
        server.close()


def tokens(site: Live) -> dict[str, str]:
    """Who asks, by name, and what they show: fresh, for some of the endpoints revoke them."""
    ours = TokenKeys(site.home.server / "keys").signer
    theirs = Signer(ours.id, Ed25519PrivateKey.generate())
    # As late as clocks may differ: what one of the endpoints revoked was issued before that.
    now = time.time() + 4
    root = Account(id="admin", scopes=("admin",))
    good = ours.sign(root, "", now, 600)
    head, claims, signature = good.split(".")
    return {
        "anonymous": "",
        "expired": ours.sign(root, "", now - 1000, 10),
        "forged": theirs.sign(root, "", now, 600),
        "changed": f"{head}.{claims[:-4]}AAAA.{signature}",
        "unsigned": f"{head}.{claims}.",
        "stranger": ours.sign(Account(id="eve", namespace="foo"), "", now, 600),
        "foreign admin": ours.sign(
            Account(id="eve", namespace="foo", scopes=("admin", "service")), "", now, 600
        ),
        "plain": ours.sign(Account(id="ann", scopes=("reader",)), "", now, 600),
        "admin": good,
    }


def status(site: Live, service: str, endpoint: str, token: str, within: str = "60s") -> int:
    headers = {"Micro-Namespace": "micro", "Micro-Timeout": within}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    path = names.to_path(service, endpoint)
    # Each by a client of its own, as they keep cookies.
    with client(site.url) as web, web.stream("GET", path, headers=headers) as answer:
        return answer.status_code


@pytest.mark.parametrize("hosted", SERVICES, ids=lambda hosted: hosted.name)
def test_who_gets_in(site: Live, hosted: Hosted) -> None:
    for endpoint in hosted.endpoints.values():
        assert endpoint.access != "rules", endpoint.name
        welcome = WELCOME[endpoint.access]
        asking = tokens(site)
        # One of the endpoints makes another key, which a gateway hears of a moment later.
        admin = asking["admin"]
        until(lambda: status(site, "registry", "Registry.ListServices", admin) != 401)  # noqa: B023
        for who, token in asking.items():
            let_in = who in welcome or (who == "foreign admin" and "stranger" in welcome)
            # Who is let in may wait for news; who is not is told so, however long that takes.
            within = "100ms" if let_in else "60s"
            got = status(site, hosted.name, endpoint.name, token, within)
            place = f"{endpoint.name} ({endpoint.access}) asked by {who}: {got}"
            if who in ("expired", "forged", "changed", "unsigned"):
                assert got == 401, place
            elif let_in:
                assert got not in (401, 403), place
            else:
                assert got == (401 if who == "anonymous" else 403), place
