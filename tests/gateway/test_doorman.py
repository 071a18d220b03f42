"""Who a request is from: every way in, with good tokens, bad ones, and none."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from starlette.requests import Request
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from microcosmos import Context, Service
from microcosmos.auth.access import Access
from microcosmos.auth.interface import DEFAULT_RULE, Account, Policy, Resource, Rule
from microcosmos.auth.keys import TokenKeys, jwks
from microcosmos.auth.tokens import verify
from microcosmos.gateway.app import Gateway
from microcosmos.gateway.doorman import App, Doorman
from microcosmos.gateway.front.blocks import Blocked
from microcosmos.gateway.front.front import Front
from microcosmos.gateway.front.settings import parse
from microcosmos.testing import Bench

JANE = Account(id="jane", scopes=("staff",))
JOE = Account(id="joe")
STRANGER = Account(id="jane", namespace="foo")
STAFF = [Rule(id="staff", scope="staff")]


class House:
    """A gateway with a doorman, and some services behind it.

    Attributes:
        site: the gateway that listens.
        accounts: who calls, and who may.
    """

    def __init__(self, bench: Bench) -> None:
        assert bench.accounts is not None
        self.accounts = bench.accounts
        self.site: Any = None
        self.front: Front
        self.opened: list[str] = []
        self.called = 0
        self.service = Service("house")
        self._endpoints()

    def _endpoints(self) -> None:
        service = self.service

        @service.endpoint
        async def call(context: Context) -> dict[str, Any]:
            self.called += 1
            account: Any = context.account
            return {
                "id": account.id if account else "",
                "namespace": context.namespace,
                "address": context.metadata.get("Micro-Client-Address"),
            }

        @service.endpoint
        async def count() -> AsyncIterator[int]:
            for number in range(1_000_000):
                yield number
                await asyncio.sleep(0.02)

        @service.endpoint(cache=60)
        async def kept() -> int:
            self.called += 1
            return self.called

        @service.http("/raw")
        async def raw(request: Request) -> dict[str, Any]:
            return {"authorization": request.headers.get("authorization", "")}

        auth = self.auth = Service("auth")

        @auth.endpoint(name="Auth.Where")
        async def where(context: Context) -> str | None:
            return context.metadata.get("Micro-Client-Address")

    def token(self, account: Account, lifetime: float = 60.0) -> str:
        return self.accounts.token(account, lifetime)

    async def get(self, path: str, token: str = "", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            named["authorization"] = f"Bearer {token}"
        return await self.site.http.get(path, headers=named)

    async def raw(self, path: str, *lines: bytes) -> Any:
        """An answer to headers that no client would send."""
        head = b"\r\n".join((b"GET %b HTTP/1.1" % path.encode(), b"Host: localhost", *lines))
        return await self.site.send(head + b"\r\n\r\n")


@contextlib.asynccontextmanager
async def _opened(
    platform: Bench, open_site: Callable[..., AbstractAsyncContextManager[Any]], folder: Path
) -> AsyncIterator[House]:
    house = House(platform)
    await platform.start(house.service, house.auth)
    house.accounts.allow([DEFAULT_RULE])
    access = house.accounts.access

    async def world(namespace: str) -> App:
        house.opened.append(namespace)
        return house.front

    def wrap(gateway: Gateway) -> Doorman:
        gateway.ready = True
        table = platform.platform.table
        house.front = Front(gateway, table, folder / "limits", access=access)
        return Doorman(house.front, access, gateway.refuse, world)

    async with open_site(platform, wrap=wrap, access=access) as site:
        house.site = site
        yield house
        house.front.close()


@pytest.fixture
def house(
    platform: Bench,
    microcosmos_runner: asyncio.Runner,
    open_site: Callable[..., AbstractAsyncContextManager[Any]],
    tmp_path: Path,
) -> Iterator[House]:
    opened = _opened(platform, open_site, tmp_path)
    yield microcosmos_runner.run(opened.__aenter__())
    microcosmos_runner.run(opened.__aexit__(None, None, None))


def forged(token: str) -> str:
    head, body, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["scopes"] = ["admin"]
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return ".".join((head, changed, token.split(".")[2]))


def of_another_key(house: House) -> str:
    """A token that names our key, and was signed by another."""
    ours = jwt.get_unverified_header(house.token(JANE))["kid"]
    stranger = TokenKeys().signer
    stranger.id = ours
    return stranger.sign(JANE, "", 0, 4e9)


def of_another_algorithm(house: House, algorithm: str) -> str:
    good = house.token(JANE)
    claims = jwt.decode(good, options={"verify_signature": False})
    kid = jwt.get_unverified_header(good)["kid"]
    # The old trick: the public key, which everybody has, as the secret of an HMAC.
    secret = house.accounts.access.policy.keys[kid] if algorithm == "HS256" else None  # type: ignore[union-attr]
    return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": kid})


BAD: dict[str, Callable[[House], str]] = {
    "nonsense": lambda _: "x",
    "empty": lambda _: "",
    "expired": lambda house: house.token(JANE, -1),
    "forged": lambda house: forged(house.token(JANE)),
    "key": of_another_key,
    "hmac": lambda house: of_another_algorithm(house, "HS256"),
    "none": lambda house: of_another_algorithm(house, "none"),
}

PATHS = (
    "/",
    "/house/call",
    "/house/count",
    "/house/kept",
    "/house/raw",
    "/nobody/knows",
    "/openapi",
    "/openapi.json",
    "/.well-known/jwks.json",
    "/favicon.ico",
    "/no/such/path/at/all",
)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_bad_token_is_good_for_nothing(house: House, bad: Callable[[House], str]) -> None:
    token = bad(house)
    for path in PATHS:
        shown = f"Bearer {token}".strip()
        answer = await house.site.http.get(path, headers={"authorization": shown})
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        body = answer.json()
        assert (body["Code"], body["Status"]) == (401, "Unauthorized")
        assert len(token) < 3 or token not in body["Detail"]
    posted = await house.site.http.post(
        "/house/call", json={}, headers={"authorization": f"Bearer {token}".strip()}
    )
    assert posted.status_code == 401
    assert not house.called


async def test_health_is_told_to_everybody(house: House) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await house.get(path, "bad")).status_code == 200


async def test_a_revoked_token_is_refused_at_once(house: House) -> None:
    token = house.token(JANE)
    assert (await house.get("/house/call", token)).json()["id"] == "jane"
    policy = house.accounts.access.policy
    assert policy is not None
    revoked = {"account/micro/jane": verify(token, policy.keys, time.time()).issued}
    house.accounts.access.follow(msgspec.structs.replace(policy, revoked=revoked))
    answer = await house.get("/house/call", token)
    assert answer.status_code == 401
    assert "revoked" in answer.json()["Detail"]
    assert (await house.get("/", token)).status_code == 401


async def test_rules_decide(house: House) -> None:
    house.accounts.allow(STAFF)
    jane, joe = house.token(JANE), house.token(JOE)
    for path in ("/house/call", "/house/raw", "/house/kept"):
        nobody, known, staff = [await house.get(path, token) for token in ("", joe, jane)]
        assert [nobody.status_code, known.status_code, staff.status_code] == [401, 403, 200], path
        assert nobody.headers["www-authenticate"] == "Bearer"
    call = (await house.get("/house/call", joe)).json()
    assert call["Detail"] == "Forbidden call made to house:House.Call by joe"
    anonymous = (await house.get("/house/call")).json()
    assert anonymous["Detail"] == "Unauthorized call made to house:House.Call"


@pytest.mark.parametrize("kind", ["Basic am9lOnNlY3JldA==", "Digest x", "Bearers x"])
async def test_what_is_no_token_is_for_applications_alone(house: House, kind: str) -> None:
    raw = await house.get("/house/raw", authorization=kind)
    assert (raw.status_code, raw.json()["authorization"]) == (200, kind)
    for path in ("/house/call", "/house/count", "/house/kept", "/", "/openapi.json"):
        answer = await house.get(path, authorization=kind)
        assert answer.status_code == 401, path


async def test_an_application_needs_a_token_of_ours_where_rules_say_so(house: House) -> None:
    house.accounts.allow(STAFF)
    assert (await house.get("/house/raw", authorization="Basic eDp5")).status_code == 401


@pytest.mark.parametrize("line", [b"\xff", b"Bearer \xc3\xa4", b"Bearer \x80abc"])
async def test_a_header_that_cannot_be_read_is_not_one_that_was_not_sent(
    house: House, line: bytes
) -> None:
    for path in ("/house/call", "/house/raw", "/"):
        answer = await house.raw(path, b"Authorization: " + line)
        assert answer.status == 401, path
    assert not house.called


async def test_one_authorization_is_enough(house: House) -> None:
    good = f"Authorization: Bearer {house.token(JANE)}".encode()
    assert (await house.raw("/house/call", good)).status == 200
    assert (await house.raw("/house/call", good, good)).status == 401
    assert (await house.raw("/house/call", b"Authorization: \xff", good)).status == 401
    assert (await house.raw("/house/raw", b"Authorization: Basic eDp5", good)).status == 401


async def test_the_namespace_is_that_of_the_header_else_of_the_account(house: House) -> None:
    house.accounts.allow([DEFAULT_RULE], "foo")
    token = house.token(STRANGER)
    own = (await house.get("/house/call", token)).json()
    assert (own["id"], own["namespace"]) == ("jane", "foo")
    other = (await house.get("/house/call", token, micro_namespace="micro")).json()
    # Somebody of another namespace is nobody there.
    assert (other["id"], other["namespace"]) == ("", "micro")
    admin = house.token(Account(id="root", scopes=("admin",)))
    entered = (await house.get("/house/call", admin, micro_namespace="foo")).json()
    assert (entered["id"], entered["namespace"]) == ("root", "foo")
    assert house.opened == ["foo", "foo"]
    assert (await house.get("/house/call", micro_namespace="bar")).status_code == 404
    assert (await house.get("/house/call", micro_namespace="No_pe")).status_code == 400
    twice = await house.raw("/house/call", b"Micro-Namespace: foo", b"Micro-Namespace: micro")
    assert twice.status == 400


async def test_nobody_comes_in_before_it_is_known_who_may(
    platform: Bench, open_site: Callable[..., AbstractAsyncContextManager[Any]]
) -> None:
    access = Access()

    async def world(namespace: str) -> App:
        raise AssertionError(namespace)

    def wrap(gateway: Gateway) -> Doorman:
        return Doorman(gateway, access, gateway.refuse, world)

    async with open_site(platform, wrap=wrap, access=access) as site:
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}):
            for path in ("/", "/house/call", "/openapi.json"):
                answer = await site.http.get(path, headers=headers)
                assert answer.status_code == 503, path
            assert (await site.http.get("/healthz", headers=headers)).status_code == 200
        access.follow(Policy(rules={"micro": []}))
        assert (await site.http.get("/")).status_code == 200
        assert (await site.http.get("/", headers={"authorization": "Bearer x"})).status_code == 401


COOKIES = [
    ({"sec-fetch-site": "same-origin"}, "jane"),
    ({"sec-fetch-site": "same-origin", "origin": "http://HOST"}, "jane"),
    ({"origin": "http://HOST"}, "jane"),
    ({}, ""),
    ({"sec-fetch-site": "none"}, ""),
    ({"sec-fetch-site": "same-site"}, ""),
    ({"sec-fetch-site": "cross-site"}, ""),
    ({"origin": "http://evil.example"}, ""),
    ({"origin": "null"}, ""),
    ({"sec-fetch-site": "cross-site", "origin": "http://HOST"}, ""),
    ({"sec-fetch-site": "same-origin", "origin": "http://evil.example"}, ""),
]


@pytest.mark.parametrize(("headers", "id"), COOKIES)
async def test_a_cookie_is_a_token_for_our_own_pages_alone(
    house: House, headers: dict[str, str], id: str
) -> None:
    cookie = f"theme=dark; micro-token={house.token(JANE)}"
    host = f"127.0.0.1:{house.site.port}"
    sent = {name: value.replace("HOST", host) for name, value in headers.items()}
    answer = await house.site.http.get("/house/call", headers={**sent, "cookie": cookie})
    assert answer.json()["id"] == id


async def test_a_bad_cookie_of_our_own_pages_is_refused(house: House) -> None:
    own = {"sec_fetch_site": "same-origin"}
    answer = await house.get("/house/call", cookie="micro-token=bad", **own)
    assert answer.status_code == 401
    # A header says more than a cookie.
    shown = await house.get("/house/call", house.token(JANE), cookie="micro-token=bad", **own)
    assert shown.json()["id"] == "jane"


async def test_a_cached_answer_is_for_who_may_call(house: House) -> None:
    assert (await house.get("/house/kept")).json() == 1
    assert (await house.get("/house/kept")).json() == 1
    denied = Rule(id="no", resource=Resource(name="house"), access="DENIED", priority=1)
    house.accounts.allow([DEFAULT_RULE, denied])
    assert (await house.get("/house/kept")).status_code == 401
    house.accounts.allow([DEFAULT_RULE])
    assert (await house.get("/house/kept")).json() == 1
    # Who shows who he is has an answer of his own.
    assert (await house.get("/house/kept", house.token(JANE))).json() == 2


async def test_the_document_shows_what_its_reader_may_call(house: House) -> None:
    def paths(answer: Any) -> set[str]:
        return {path for path in answer.json()["paths"] if path.startswith("/house")}

    everything = {"/house/call", "/house/count", "/house/kept", "/house/raw"}
    assert paths(await house.get("/openapi.json")) == everything
    one = Rule(id="one", resource=Resource(endpoint="House.Call"))
    house.accounts.allow([one, *STAFF])
    jane, joe = house.token(JANE), house.token(JOE)
    assert paths(await house.get("/openapi.json")) == {"/house/call"}
    assert paths(await house.get("/openapi.json", joe)) == {"/house/call"}
    assert paths(await house.get("/openapi.json", jane)) == everything
    assert paths(await house.get("/openapi/house.json")) == {"/house/call"}
    house.accounts.allow(STAFF)
    assert paths(await house.get("/openapi.json")) == set()
    assert (await house.get("/openapi/house.json")).status_code == 404
    assert paths(await house.get("/openapi/house.json", jane)) == everything
    assert "private" in (await house.get("/openapi.json")).headers["cache-control"]


async def test_keys_are_published(house: House) -> None:
    token = house.token(JANE)
    published = (await house.get("/.well-known/jwks.json")).json()
    policy = house.accounts.access.policy
    assert policy is not None
    assert published == jwks(policy.keys)
    # By a library that knows nothing of us.
    key = jwt.PyJWKSet.from_dict(published)[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, algorithms=["EdDSA"])["sub"] == "jane"


async def test_only_auth_is_told_where_its_client_is_and_no_client_says_so(house: House) -> None:
    lie = {"micro_client_address": "192.0.2.9"}
    assert (await house.get("/auth/auth/where", **lie)).json() == "127.0.0.1"
    assert (await house.get("/house/call", **lie)).json()["address"] is None


async def test_the_address_is_what_trusted_proxies_say(house: House) -> None:
    claim = {"x_forwarded_for": "192.0.2.7"}
    assert (await house.get("/auth/auth/where", **claim)).json() == "127.0.0.1"
    house.front.apply(parse(b"[proxies]\ntrusted = ['127.0.0.1']", Path("gateway.toml")))
    assert (await house.get("/auth/auth/where", **claim)).json() == "192.0.2.7"


async def test_requests_are_counted_by_account_and_not_by_what_is_shown(house: House) -> None:
    house.front.apply(parse(b"[[limits]]\nrate = '2/m'\nkey = 'token'", Path("gateway.toml")))
    jane = Account(id="jane", scopes=("staff",), name="other")
    tokens = [house.token(JANE), house.token(jane, 50), house.token(JANE, 40)]
    codes = [(await house.get("/house/call", token)).status_code for token in tokens]
    assert codes == [200, 200, 429]
    assert (await house.get("/house/call", house.token(JOE))).status_code == 200
    # What is no token is counted for its address, however often it changes.
    shown = [f"Basic {number}" for number in range(3)]
    codes = [(await house.get("/house/raw", authorization=one)).status_code for one in shown]
    assert codes == [200, 200, 429]


async def test_a_blocked_account_is_refused_in_its_namespace(house: House) -> None:
    house.accounts.allow([DEFAULT_RULE], "foo")
    house.front.block([Blocked("jane", "micro")])
    blocked = await house.get("/house/call", house.token(JANE))
    assert blocked.status_code == 401
    assert blocked.json()["Detail"] == "the account jane is blocked"
    assert (await house.get("/house/call", house.token(JOE))).status_code == 200
    assert (await house.get("/house/call", house.token(STRANGER))).status_code == 200
    house.front.block([Blocked("jane")])
    assert (await house.get("/house/call", house.token(STRANGER))).status_code == 401


def socket_of(house: House, path: str, **headers: str) -> connect:
    url = f"ws://127.0.0.1:{house.site.port}{path}"
    return connect(url, open_timeout=60, close_timeout=60, proxy=None, additional_headers=headers)


async def ending(socket: ClientConnection) -> int:
    """The code that a WebSocket is closed with, soon."""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code or 0


async def test_a_websocket_needs_a_good_token_too(house: House) -> None:
    house.accounts.allow(STAFF)
    good, joe = house.token(JANE), house.token(JOE)
    async with socket_of(house, "/house/count", Authorization=f"Bearer {good}") as socket:
        assert await socket.recv() == "0"
    cookie = {"Cookie": f"micro-token={good}", "Origin": f"http://127.0.0.1:{house.site.port}"}
    async with socket_of(house, "/house/count", **cookie) as socket:
        assert await socket.recv() == "0"
    with pytest.raises(InvalidStatus) as caught:
        async with socket_of(house, "/house/count", Authorization="Bearer bad"):
            pass
    response = caught.value.response
    assert response.status_code == 401
    assert json.loads(response.body or b"{}")["Code"] == 401
    for headers in ({}, {"Authorization": f"Bearer {joe}"}):
        async with socket_of(house, "/house/count", **headers) as socket:
            assert await ending(socket) in (4401, 4403)


async def test_streams_end_soon_after_their_token(house: House) -> None:
    house.accounts.allow(STAFF)
    short = house.token(JANE, 2.0)
    headers = {"authorization": f"Bearer {short}", "accept": "text/event-stream"}
    async with house.site.http.stream("GET", "/house/count", headers=headers) as answer:
        assert answer.status_code == 200
        said = "".join([text async for text in answer.aiter_text()])
    assert "event: error" in said
    assert json.loads(said.rstrip().rpartition("data: ")[2])["Code"] == 401
    good = house.token(JANE)
    async with socket_of(house, "/house/count", Authorization=f"Bearer {good}") as socket:
        assert await socket.recv() == "0"
        house.accounts.allow([])
        assert await ending(socket) == 4403
