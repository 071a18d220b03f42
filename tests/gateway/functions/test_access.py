"""Who may call a function: its rules, tokens, and passwords of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from microcosmos.auth.interface import DEFAULT_RULE, Account, Resource, Rule
from microcosmos.gateway.doorman import Doorman
from microcosmos.testing import Bench

JANE = Account(id="jane", scopes=("staff",))
JOE = Account(id="joe")
STAFF = [Rule(id="staff", scope="staff", resource=Resource("service", "hello", "Hello.Call"))]


@pytest.fixture
def open_ruled(
    open_functions: Any, platform: Bench
) -> Callable[..., contextlib.AbstractAsyncContextManager[Any]]:
    """For gateways behind a doorman: ``async with open_ruled(rules, live("hello")) as running``."""

    @contextlib.asynccontextmanager
    async def opened(rules: list[Rule], *functions: Any) -> AsyncIterator[Any]:
        accounts = platform.accounts
        assert accounts is not None
        accounts.token(JANE)
        accounts.allow(rules)

        def wrap(gateway: Any) -> Doorman:
            async def none(namespace: str) -> Any:
                raise AssertionError(namespace)

            return Doorman(gateway, accounts.access, gateway.refuse, none)

        async with open_functions(*functions, access=accounts.access, wrap=wrap) as running:
            running.tokens = {
                account.id: {"authorization": f"Bearer {accounts.token(account)}"}
                for account in (JANE, JOE)
            }
            yield running

    return opened


async def test_the_rules_of_a_function_are_those_of_a_service(open_ruled, live):
    async with open_ruled(STAFF, live("hello"), live("hello.sub")) as running:
        http, tokens = running.http, running.tokens
        for path in ("/hello", "/hello/x", "/app/hello/x"):
            nobody = await http.get(path)
            assert nobody.status_code == 401
            assert nobody.json()["Detail"] == "Unauthorized call made to hello:Hello.Call"
            assert nobody.headers["www-authenticate"] == "Bearer"
            assert (await http.get(path, headers=tokens["joe"])).status_code == 403
            assert (await http.get(path, headers=tokens["jane"])).status_code == 200
        # Every method is asked, OPTIONS too, and a body is not waited for.
        assert (await http.options("/hello")).status_code == 401
        assert (await http.post("/hello", content=bytes(1_000_000))).status_code == 401
        assert (await http.get("/hello/sub", headers=tokens["jane"])).status_code == 403
        assert len(running.worker.seen) == 3


async def test_a_bad_token_is_never_anonymous(open_ruled, live):
    async with open_ruled([DEFAULT_RULE], live("hello")) as running:
        assert (await running.http.get("/hello")).status_code == 200
        bad = await running.http.get("/hello", headers={"authorization": "Bearer x.y.z"})
        assert bad.status_code == 401
        own = await running.http.get("/hello", headers={"authorization": "Basic eDp5"})
        assert own.status_code == 200
        assert running.worker.seen[-1].names["authorization"] == "Basic eDp5"
        good = await running.http.get("/hello", headers=running.tokens["joe"])
        assert good.status_code == 200
        assert "authorization" not in running.worker.seen[-1].names


async def test_a_change_of_rules_acts_at_once(open_ruled, live, platform):
    async with open_ruled([DEFAULT_RULE], live("hello")) as running:
        assert (await running.http.get("/hello")).status_code == 200
        platform.accounts.allow(STAFF)
        assert (await running.http.get("/hello")).status_code == 401
