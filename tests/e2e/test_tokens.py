"""Every door, knocked at with every kind of token: under the default rule, and under others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jwt
import nats
import nats.micro
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from microcosmos.auth.credentials import file_of
from microcosmos.auth.interface import Account
from microcosmos.auth.keys import TokenKeys
from microcosmos.base import names
from microcosmos.registry.interface import REPLICA

from . import tokens
from .live import Live, once_within, until
from .tokens import DOORS, Knock

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "knocked"
SERVICE = f"""
import asyncio
from microcosmos import Service

service = Service("{NAME}")


@service.endpoint
async def call() -> str:
    return "in"


@service.endpoint(cache=60)
async def kept() -> str:
    return "in"


@service.endpoint
async def count():
    for number in range(1_000_000):
        yield number
        await asyncio.sleep(0.02)


@service.http("/page")
async def page(request) -> str:
    return "in"


if __name__ == "__main__":
    service.run()
"""
CLOSED = {"id": "closed", "priority": 5, "access": "DENIED"}
STAFF = {"id": "staff", "priority": 6, "access": "GRANTED", "scope": "staff"}


class Platform:
    """A server with a service to be called, and accounts to call it as."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.make("auth/namespaces/create", name="other")
        self.make("auth/generate", id="jane", secret="jane's secret", scopes=["staff"])
        self.make("auth/generate", id="joe", secret="joe's secret")
        self.make("auth/generate", "other", id="fred", secret="fred's secret", scopes=["staff"])
        self.keys = TokenKeys(live.home.server / "keys")
        self.jane = self.token("jane")
        self.joe = self.token("joe")
        self.fred = self.token("fred", "other")

    def make(self, path: str, namespace: str = "", **fields: Any) -> None:
        """Make something, unless it is there already: a worker may come back to this module."""
        headers = {"Micro-Namespace": namespace} if namespace else {}
        answer = self.live.admin.post(f"/{path}", json=fields, headers=headers)
        assert answer.status_code in (200, 409), answer.text

    def ask(self, path: str, namespace: str = "", **fields: Any) -> Any:
        headers = {"Micro-Namespace": namespace} if namespace else {}
        answer = self.live.admin.post(f"/{path}", json=fields, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def token(self, id: str, namespace: str = "micro") -> str:
        answer = self.live.web.post(
            "/auth/token",
            json={"id": id, "secret": f"{id}'s secret"},
            headers={"Micro-Namespace": namespace},
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"]["access_token"])

    def revoked(self) -> str:
        """A token that was good until its account logged out everywhere."""
        token = self.token("jane")
        header = {"Authorization": f"Bearer {token}"}
        assert self.live.web.get(f"/{NAME}/call", headers=header).status_code in (200, 401)
        answer = self.live.web.post("/auth/logout", json={}, headers=header)
        assert answer.status_code == 200, answer.text
        return token

    def expired(self) -> str:
        return self.keys.signer.sign(Account(id="jane"), "", time.time() - 60, 30)

    def forged(self) -> str:
        """One whose claims were changed."""
        head, body, signature = self.joe.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=="))
        claims["scopes"] = ["admin", "staff"]
        changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        return f"{head}.{changed}.{signature}"

    def of_another_key(self) -> str:
        signer = TokenKeys().signer
        signer.id = self.keys.signer.id
        return signer.sign(Account(id="jane", scopes=("staff",)), "", time.time(), 60)

    def symmetric(self) -> str:
        """The old trick: the public key as the secret of an HMAC."""
        claims = jwt.decode(self.jane, options={"verify_signature": False})
        kid, public = self.keys.signer.id, self.keys.signer.public
        return jwt.encode(claims, public, algorithm="HS256", headers={"kid": kid})

    def unsigned(self) -> str:
        claims = jwt.decode(self.jane, options={"verify_signature": False})
        return jwt.encode(claims, "", algorithm="none", headers={"kid": self.keys.signer.id})

    def bad(self) -> dict[str, str]:
        """Tokens that are good for nothing, by what is wrong with them."""
        return {
            "nonsense": "x.y.z",
            "expired": self.expired(),
            "forged": self.forged(),
            "key": self.of_another_key(),
            "hmac": self.symmetric(),
            "none": self.unsigned(),
            "revoked": self.revoked(),
        }

    @contextlib.contextmanager
    def rules(self, *rules: Mapping[str, Any], name: str = NAME) -> Iterator[None]:
        """Rules of a service, in force everywhere while the block is."""
        resource = {"type": "service", "name": name, "endpoint": "*"}
        for rule in rules:
            self.ask("auth/rules/create", rule={**rule, "resource": resource})
        try:
            yield
        finally:
            for rule in rules:
                self.ask("auth/rules/delete", id=rule["id"])


def shown(token: str) -> dict[str, str]:
    # Said, so that the door leads to the namespace that is meant and not to the account's own.
    return {"Authorization": f"Bearer {token}", "Micro-Namespace": "micro"}


@pytest.fixture(scope="module")
def platform(live: Live) -> Iterator[Platform]:
    with live.running(NAME, SERVICE):
        yield Platform(live)


@pytest.fixture(scope="module")
def bad(platform: Platform) -> dict[str, str]:
    return platform.bad()


@pytest.mark.parametrize("door", [*DOORS, tokens.grpc_reflection])
def test_the_default_rule_lets_everybody_in_but_bad_tokens(
    platform: Platform, bad: dict[str, str], door: Knock
) -> None:
    live = platform.live
    found = {kind: door(live, NAME, shown(token)) for kind, token in bad.items()}
    assert found == dict.fromkeys(bad, 401)
    good = {"nobody": {}, "jane": shown(platform.jane), "other": shown(platform.fred)}
    found = {kind: door(live, NAME, headers) for kind, headers in good.items()}
    assert found == dict.fromkeys(good, 200)


def test_rules_say_who_comes_in_by_whichever_door(platform: Platform, bad: dict[str, str]) -> None:
    live = platform.live
    who = {
        "nobody": ({}, 401),
        "of the scope": (shown(platform.jane), 200),
        "a lower scope": (shown(platform.joe), 403),
        "the scope, of another namespace": (shown(platform.fred), 403),
        **{kind: (shown(token), 401) for kind, token in bad.items()},
    }
    with platform.rules(CLOSED, STAFF):
        # They reach every process within a second; that is tested by itself below.
        # The last of them was to let the scope in.
        staff = shown(platform.jane)
        until(lambda: all(door(live, NAME, {}) == 401 for door in DOORS for _ in range(4)))
        until(lambda: all(door(live, NAME, staff) == 200 for door in DOORS for _ in range(4)))
        for door in DOORS:
            found = {kind: door(live, NAME, headers) for kind, (headers, _) in who.items()}
            assert found == {kind: code for kind, (_, code) in who.items()}, door.__name__


ASKED = {"account": {"nobody", "other"}, "open": set(), "read": set()}
"""Who must be refused by what an endpoint of the core asks for; the rest refuse joe as well."""


def test_every_endpoint_of_the_core_refuses_who_is_not_meant(
    platform: Platform, bad: dict[str, str]
) -> None:
    live = platform.live
    web = tokens.client(live.url)
    lanes = str(live.home.core_lane)
    refused = {
        "nobody": {},
        "other": shown(platform.fred),
        "joe": shown(platform.joe),
        **{kind: shown(token) for kind, token in bad.items()},
    }
    seen = 0
    for service, endpoint, access in endpoints_of_the_core(live):
        kinds = {*ASKED.get(access, {"nobody", "other", "joe"}), *bad}
        for kind in kinds - {"joe"} if access == "account" else kinds:
            expected = 401 if kind == "nobody" or kind in bad else 403
            by_http = web.post(
                names.to_path(service, endpoint), json={}, headers=refused[kind]
            ).status_code
            by_lane = tokens.lane_of(lanes, service, endpoint, refused[kind])
            what = (endpoint, access, kind)
            # What is open looks at no token, but for the door before it.
            by_lane_expected = {expected, 200, 400, 404} if access == "open" else {expected}
            assert by_http == expected, what
            assert by_lane in by_lane_expected, what
            seen += 1
    assert seen > 200
    web.close()


def endpoints_of_the_core(live: Live) -> Iterator[tuple[str, str, str]]:
    """Service, endpoint and access of all of them."""
    listed = live.admin.get("/registry/listServices").json()["services"]
    for service in listed:
        if any(node["metadata"].get(REPLICA) == "core" for node in service["nodes"]):
            for endpoint in service["endpoints"]:
                yield (
                    service["name"],
                    endpoint["name"],
                    endpoint["metadata"].get("micro.access", "rules"),
                )


def test_a_change_of_rules_acts_within_a_second_at_every_door(platform: Platform) -> None:
    live = platform.live
    assert {door(live, NAME, {}) for door in DOORS} == {200}
    # Each request may meet another of the gateways.
    web = (tokens.http_get, tokens.http_raw, tokens.http_cached) * 8
    doors = (*web, tokens.grpc_call, tokens.grpc_web, tokens.websocket)

    def closed() -> float:
        longest = 0.0
        with platform.rules(CLOSED):
            for door in doors:
                began = time.monotonic()
                until(lambda door=door: door(live, NAME, {}) == 401)  # type: ignore[misc]
                longest = max(longest, time.monotonic() - began)
            for door in web:
                assert door(live, NAME, {}) == 401
        until(lambda: {door(live, NAME, {}) for door in DOORS} == {200})
        return longest

    once_within(1.0, closed)


def test_open_streams_end_within_a_second_of_their_login(platform: Platform) -> None:
    once_within(1.0, lambda: _left_open(platform))


def _left_open(platform: Platform) -> float:
    """Seconds for which streams go on after the login that they were opened by has ended."""
    live = platform.live
    token = platform.token("joe")
    ended: dict[str, float] = {}

    def listen() -> None:
        accept = {**shown(token), "accept": "text/event-stream"}
        with (
            tokens.client(live.url) as web,
            web.stream("GET", f"/{NAME}/count", headers=accept) as answer,
        ):
            begun.release()
            said = "".join(answer.iter_text())
        assert json.loads(said.rstrip().rpartition("data: ")[2])["Code"] == 401
        ended["events"] = time.monotonic()

    def converse() -> None:
        url = live.url.replace("http", "ws", 1)
        with connect(f"{url}/{NAME}/count", additional_headers=shown(token), proxy=None) as socket:
            begun.release()
            with contextlib.suppress(ConnectionClosed):
                while True:
                    socket.recv(60)
            assert socket.protocol.close_code == 4401
        ended["websocket"] = time.monotonic()

    begun = threading.Semaphore(0)
    threads = [threading.Thread(target=one) for one in (listen, converse)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=60)
    answer = live.web.post("/auth/logout", json={}, headers=shown(token))
    assert answer.status_code == 200
    revoked = time.monotonic()
    for thread in threads:
        thread.join(60)
    assert ended.keys() == {"events", "websocket"}
    return max(ended.values()) - revoked


def test_a_namespace_is_a_world_of_its_own(platform: Platform) -> None:
    live = platform.live
    fred = {"Authorization": f"Bearer {platform.fred}"}
    doors: list[Callable[..., int]] = [tokens.http_get, tokens.websocket, tokens.grpc_call]
    for door in doors:
        assert door(live, NAME, fred) == 404, "he is at home, and it does not run there"
        assert door(live, NAME, {"Micro-Namespace": "nowhere"}) == 404
    folder = live.folder("elsewhere", SERVICE.replace(NAME, "elsewhere"))
    live.micro("--namespace", "other", "run", str(folder))
    try:
        for door in doors:
            assert door(live, "elsewhere", fred) == 200
            assert door(live, "elsewhere", {"Micro-Namespace": "other"}) == 200
            assert door(live, "elsewhere", {}) == 404
            assert door(live, "elsewhere", shown(platform.jane)) == 404
    finally:
        live.micro("--namespace", "other", "kill", "elsewhere")


def test_who_may_call_a_foreign_service_is_asked_at_the_doors(platform: Platform) -> None:
    live = platform.live
    who = {
        "nobody": ({}, 401),
        "jane": (shown(platform.jane), 200),
        "joe": (shown(platform.joe), 403),
        "fred": (shown(platform.fred), 403),
    }
    with (
        abroad(live),
        platform.rules(CLOSED, STAFF, name="abroad"),
    ):
        for door in (tokens.http_get, tokens.http_post, tokens.grpc_call, tokens.grpc_web):
            until(lambda door=door: door(live, "abroad", {}) == 401)  # type: ignore[misc]
            until(lambda door=door: door(live, "abroad", who["jane"][0]) == 200)  # type: ignore[misc]
            found = {kind: door(live, "abroad", headers) for kind, (headers, _) in who.items()}
            assert found == {kind: code for kind, (_, code) in who.items()}, door.__name__
        # The proxy refuses whom it need not hear; that came first now and then, and was a 500.
        assert {tokens.grpc_web(live, "abroad", who["joe"][0]) for _ in range(60)} == {403}


@contextlib.contextmanager
def abroad(live: Live) -> Iterator[None]:
    """A service that knows the protocol of NATS and nothing of ours, while the block is."""
    let = threading.Event()
    answers = threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(_answer(live, answers, let),))
    thread.start()
    try:
        assert answers.wait(60)
        yield
    finally:
        let.set()
        thread.join(60)


async def _answer(live: Live, answers: threading.Event, let: threading.Event) -> None:
    credentials = str(file_of(live.home.server / "keys", "admin"))
    url = f"nats://{live.info.addresses['nats']}"
    connection = await nats.connect(url, user_credentials=credentials)
    service = await nats.micro.add_service(connection, name="abroad", version="1.0.0")

    async def answer(request: Any) -> None:
        await request.respond(b'"in"')

    await service.add_endpoint(name="call", handler=answer)
    answers.set()
    await asyncio.to_thread(let.wait)
    await service.stop()
    await connection.close()
