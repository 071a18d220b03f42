"""The reference's section on errors: one error, at every door, and who tries again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from .doors import DOORS, Door, Fault
from .live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# The handler of the reference, in Python; and others that fail as they are told.
ACCOUNTS = """
import msgspec

from microcosmos import Service, errors


class User(msgspec.Struct):
    id: str


accounts = Service("accounts")
tries: dict[str, int] = {}


@accounts.endpoint
async def read(id: str = "") -> User:
    if not id:
        raise errors.BadRequest("users.Read.MissingID", "Missing ID")
    return User(id)


@accounts.endpoint
async def fail(name: str, code: int, times: int) -> dict[str, int]:
    tries[name] = tries.get(name, 0) + 1
    if tries[name] <= times:
        raise errors.Error("accounts.Fail", "told to", code=code)
    return {"tries": tries[name]}


@accounts.endpoint
async def count(name: str) -> dict[str, int]:
    return {"tries": tries.get(name, 0)}


@accounts.endpoint
async def crash() -> None:
    raise ValueError("password is hunter2")


if __name__ == "__main__":
    accounts.run()
"""

ASKING = """
from microcosmos import Service

asking = Service("asking")
accounts = asking.client("accounts")


@asking.endpoint
async def fail(name: str, code: int, times: int) -> dict[str, int]:
    return await accounts.fail(name=name, code=code, times=times)


if __name__ == "__main__":
    asking.run()
"""


@pytest.fixture(scope="module")
def accounts(live: Live) -> Iterator[Live]:
    with contextlib.ExitStack() as stack:
        for name, program in (("accounts", ACCOUNTS), ("asking", ASKING)):
            stack.enter_context(live.running(name, program))
        yield live


@pytest.mark.parametrize("door", DOORS)
def test_a_missing_id_is_a_bad_request_at_every_door(accounts: Live, door: Door) -> None:
    said = door(accounts, "accounts", "Read", {})
    assert said == Fault("users.Read.MissingID", 400, "Missing ID")
    assert door(accounts, "accounts", "Read", {"id": "1"}) == {"id": "1"}


def test_the_body_has_the_keys_of_the_reference(accounts: Live) -> None:
    answer = accounts.web.get("/accounts/read")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json() == {
        "Id": "users.Read.MissingID",
        "Code": 400,
        "Detail": "Missing ID",
        "Status": "Bad Request",
    }


@pytest.mark.parametrize("door", DOORS)
def test_any_other_exception_is_a_500_without_its_text(accounts: Live, door: Door) -> None:
    said = door(accounts, "accounts", "Crash", {})
    assert (said.code, said.detail) == (500, "the handler failed; its log has the cause")
    assert "hunter2" not in repr(said)
    # Not by `micro logs`: a traceback in what a command prints fails these tests.
    logs = [path.read_text() for path in accounts.home.logs.glob("*accounts*.log*")]
    assert any("ValueError: password is hunter2" in log for log in logs)


@pytest.mark.parametrize(
    ("code", "tries"),
    [*((code, 2) for code in (408, 500, 504)), *((code, 1) for code in (400, 401, 404, 409, 503))],
)  # fmt: skip
def test_a_client_tries_again_once_and_only_what_may_pass(
    accounts: Live, code: int, tries: int
) -> None:
    fields = {"code": code, "times": 9, "name": f"always-{code}"}
    answer = accounts.web.post("/asking/fail", json=fields)
    assert (answer.status_code, answer.json()["Id"]) == (code, "accounts.Fail")
    # The gateway is a client as well: it tries the service again, which does so too.
    asked = tries * tries
    assert accounts.call("accounts", "count", f"--name=always-{code}") == {"tries": asked}
    fields = {"code": code, "times": 1, "name": f"once-{code}"}
    answer = accounts.web.post("/asking/fail", json=fields)
    assert answer.status_code == (200 if tries == 2 else code)
