"""The reference's section on metadata: headers reach a handler, and travel on to whom it calls."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from .live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# The handlers of the reference, in Python: `metadata.Get` and `metadata.Set`.
USERS = """
import os
from typing import Any

from microcosmos import Context, Service, carrying, current

users = Service("users")
foosrv = users.client("foosrv")


@users.endpoint
async def list(context: Context) -> dict[str, str]:
    if "Foobar" not in context.metadata:
        raise RuntimeError("Missing Foobar header")
    return {"foobar": context.metadata["Foobar"]}


@users.endpoint
async def forward() -> dict[str, Any]:
    return await foosrv.call()


@users.endpoint
async def set(how: str) -> dict[str, Any]:
    if how == "call":
        return await foosrv.invoke("Call", metadata={"foobar": "mycustomval"})
    if how == "block":
        with carrying({"FOOBAR": "mycustomval"}):
            return await foosrv.call()
    current().metadata["fooBar"] = "mycustomval"
    return await foosrv.call()


@users.endpoint
def blocking(context: Context) -> dict[str, str]:
    return {"foobar": context.metadata.get("foobar", "")}


if __name__ == "__main__":
    users.run()
"""

FOOSRV = """
from microcosmos import Context, Service

foosrv = Service("foosrv")


@foosrv.endpoint
async def call(context: Context) -> dict[str, dict[str, str]]:
    return {"seen": dict(context.metadata)}


if __name__ == "__main__":
    foosrv.run()
"""


@pytest.fixture(scope="module")
def users(live: Live) -> Iterator[Live]:
    with contextlib.ExitStack() as stack:
        for name, program in (("foosrv", FOOSRV), ("users", USERS)):
            stack.enter_context(live.running(name, program))
        yield live


Ask = Callable[[Live, str, dict[str, str], dict[str, Any]], Any]
"""Calls a method of `users` with metadata and a request."""


def by_http(live: Live, method: str, headers: dict[str, str], request: dict[str, Any]) -> Any:
    answer = live.web.post(f"/users/{method.lower()}", headers=headers, json=request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def by_grpc(live: Live, method: str, headers: dict[str, str], request: dict[str, Any]) -> Any:
    with grpc.insecure_channel(live.info.addresses["proxy"]) as channel:
        call = channel.unary_unary(f"/users.Users/{method}")
        pairs = [(name.lower(), value) for name, value in headers.items()]
        return json.loads(call(json.dumps(request).encode(), metadata=pairs, timeout=60))


def by_command_line(
    live: Live, method: str, headers: dict[str, str], request: dict[str, Any]
) -> Any:
    flags = [f"--metadata={name}={value}" for name, value in headers.items()]
    return live.micro("call", "users", f"Users.{method}", json.dumps(request), *flags).json


doors = pytest.mark.parametrize("ask", [by_http, by_grpc, by_command_line])


@doors
@pytest.mark.parametrize("name", ["Foobar", "foobar", "FOOBAR"])
def test_a_header_is_metadata_in_any_case(users: Live, ask: Ask, name: str) -> None:
    assert ask(users, "List", {name: "x"}, {}) == {"foobar": "x"}


@doors
def test_a_handler_that_is_not_async_sees_it_too(users: Live, ask: Ask) -> None:
    assert ask(users, "Blocking", {"Foobar": "x"}, {}) == {"foobar": "x"}


def test_a_missing_header_is_the_handlers_own_error(users: Live) -> None:
    answer = users.web.post("/users/list")
    assert answer.status_code == 500
    # As an unexpected exception of the reference's example; its text is for the log.
    assert "Foobar" not in answer.text


@doors
def test_what_came_in_travels_on(users: Live, ask: Ask) -> None:
    seen = ask(users, "Forward", {"Foobar": "x", "X-Other-Thing": "y z"}, {})["seen"]
    assert (seen["Foobar"], seen["X-Other-Thing"]) == ("x", "y z")


def test_what_describes_one_request_does_not_travel_on(users: Live) -> None:
    headers = {"Accept": "text/x", "Cookie": "a=b", "X-Kept": "1"}
    seen = by_http(users, "Forward", headers, {})["seen"]
    assert seen["X-Kept"] == "1"
    assert not {"Accept", "Cookie", "Content-Length", "Content-Type", "Host"} & set(seen)


@doors
@pytest.mark.parametrize("how", ["call", "block", "context"])
def test_a_handler_sets_metadata_of_its_calls(users: Live, ask: Ask, how: str) -> None:
    seen = ask(users, "Set", {"Foobar": "before", "Kept": "1"}, {"how": how})["seen"]
    assert (seen["Foobar"], seen["Kept"]) == ("mycustomval", "1")


def test_a_program_that_is_no_service_sets_metadata_too(users: Live) -> None:
    code = """
import asyncio
from microcosmos import carrying, connect

async def main():
    async with connect() as platform:
        with carrying({"foobar": "mine"}):
            print((await platform.client("users").list())["foobar"])

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=users.env, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("mine\n", "")
