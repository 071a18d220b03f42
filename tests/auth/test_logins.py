"""The file of logins, and the steps by which its tokens are kept fresh."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from microcosmos.auth import logins as module
from microcosmos.auth.logins import (
    LOCAL,
    RENEW,
    Ask,
    Login,
    Logins,
    Steps,
    current,
    drive,
    drive_async,
    log_in,
    received,
)
from microcosmos.base import errors

FAR = 10.0**10


def login(account: str = "jane", namespace: str = "micro", **changes: object) -> Login:
    made = Login(
        account=account,
        namespace=namespace,
        access_token=f"access-{account}",
        refresh_token=f"refresh-{account}",
        expiry=FAR,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    return Logins(tmp_path / "home" / "tokens")


class Server:
    """What a server says to those who want a token.

    Args:
        lifetime: of its tokens, in seconds.
        now: by its own clock, which may be another than ours.
    """

    def __init__(self, *, lifetime: float = 900.0, now: float = 5_000.0) -> None:
        self.lifetime = lifetime
        self.now = now
        self.asked: list[dict[str, object]] = []
        self.error: errors.Error | None = None
        self.good = {"jane": "pw", "admin": "micro"}

    def __call__(self, ask: Ask) -> bytes:
        assert ask.endpoint == "Auth.Token"
        request = json.loads(ask.body)
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        if "id" in request and self.good.get(request["id"]) != request["secret"]:
            raise errors.Unauthorized("auth", "wrong")
        count = len(self.asked)
        token = {
            "access_token": f"access-{count}",
            "refresh_token": f"refresh-{count}",
            "created": self.now,
            "expiry": self.now + self.lifetime,
        }
        return json.dumps({"token": token}).encode()

    async def answer(self, ask: Ask) -> bytes:
        await asyncio.sleep(0)
        return self(ask)


# The file.


def test_a_file_that_is_not_there_has_no_login(logins: Logins) -> None:
    assert logins.find(LOCAL, "micro") is None
    assert logins.remove(LOCAL, "micro") is None
    logins.forget(LOCAL)
    assert logins.all(LOCAL) == []


def test_a_login_is_kept_for_its_environment_and_namespace_alone(logins: Logins) -> None:
    logins.put(LOCAL, login())
    logins.put("example.com", login("ann", "foo"))
    assert logins.get(LOCAL, "micro") == login()
    assert logins.get(LOCAL, "foo") is None
    assert logins.get("example.com", "foo") == login("ann", "foo")
    assert logins.get("example.com", "micro") is None


def test_where_a_namespace_has_no_login_the_last_one_acts(logins: Logins) -> None:
    logins.put(LOCAL, login("admin"))
    logins.put(LOCAL, login("ann", "foo"))
    assert logins.find(LOCAL, "micro") == login("admin")
    assert logins.find(LOCAL, "bar") == login("ann", "foo")
    logins.put(LOCAL, login("admin"))
    assert logins.find(LOCAL, "bar") == login("admin")
    assert logins.find(LOCAL, "foo") == login("ann", "foo")


def test_a_login_that_was_removed_leaves_the_others(logins: Logins) -> None:
    logins.put(LOCAL, login("admin"))
    logins.put(LOCAL, login("ann", "foo"))
    assert logins.remove(LOCAL, "foo") == login("ann", "foo")
    assert logins.last(LOCAL) == login("admin")
    logins.forget(LOCAL)
    assert logins.all(LOCAL) == []
    assert not logins.path.exists()


def test_only_its_user_may_read_it(logins: Logins) -> None:
    logins.put(LOCAL, login())
    logins.path.chmod(0o644)
    logins.put(LOCAL, login("ann"))
    assert stat.S_IMODE(logins.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(logins.path.parent.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"local": 1}', '{"local": {"logins": {"micro": {}}}}', "\udcff", "[" * 5000],
)
def test_a_damaged_file_is_named_and_left_alone(logins: Logins, text: str) -> None:
    logins.path.parent.mkdir()
    logins.path.write_text(text, errors="surrogateescape")
    for touch in (lambda: logins.find(LOCAL, "micro"), lambda: logins.put(LOCAL, login())):
        with pytest.raises(errors.InternalServerError) as caught:
            touch()
        assert caught.value.detail == (
            f"{logins.path} is damaged; remove it and log in with `micro login`"
        )
    assert logins.path.read_text(errors="surrogateescape") == text


def test_what_the_error_says_of_a_damaged_file_has_no_token(logins: Logins) -> None:
    logins.put(LOCAL, login(access_token="very-secret"))
    text = logins.path.read_text().replace('"very-secret"', '"very-secret')
    logins.path.write_text(text)
    with pytest.raises(errors.InternalServerError) as caught:
        logins.find(LOCAL, "micro")
    assert "very-secret" not in caught.value.detail


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.InternalServerError, match="cannot be"):
        Logins(tmp_path / "file" / "tokens").put(LOCAL, login())


def test_logins_made_at_once_are_all_kept(logins: Logins) -> None:
    def put(number: int) -> None:
        logins.put(LOCAL, login("ann", f"space-{number}"))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(logins.all(LOCAL)) == 12


# Steps.


def test_logging_in_proves_who_somebody_is() -> None:
    server = Server()
    made = drive(log_in("jane", "pw", "foo", clock=lambda: 1_000.0), server)
    assert server.asked == [{"id": "jane", "secret": "pw", "options": {"namespace": "foo"}}]
    assert made == Login(
        account="jane",
        namespace="foo",
        access_token="access-1",
        refresh_token="refresh-1",
        expiry=1_900.0,
    )
    with pytest.raises(errors.Unauthorized):
        drive(log_in("jane", "wrong", "foo"), server)


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"token": {}}', b'{"token": 1}', b"\xff"])
def test_an_answer_without_a_token_is_told(answer: bytes) -> None:
    with pytest.raises(errors.InternalServerError, match="holds no token"):
        drive(log_in("jane", "pw", "micro"), lambda _: answer)
    with pytest.raises(errors.InternalServerError, match="holds no token"):
        received(answer, "jane", "micro")


def test_times_may_come_as_texts_as_64_bit_integers_do() -> None:
    token = b'{"access_token": "a", "created": "100", "expiry": "160"}'
    made = drive(
        log_in("jane", "pw", "micro", clock=lambda: 7.0), lambda _: b'{"token": %b}' % token
    )
    assert made.expiry == 67.0


def test_nobody_is_logged_in_and_nothing_is_asked(logins: Logins) -> None:
    server = Server()
    assert drive(current(logins, "example.com", "micro"), server) is None
    assert server.asked == []
    assert not logins.path.parent.exists()


def test_a_token_that_is_good_costs_no_call(logins: Logins) -> None:
    server = Server()
    logins.put(LOCAL, login(expiry=1_000.0 + RENEW + 1))
    found = drive(current(logins, LOCAL, "micro", clock=lambda: 1_000.0), server)
    assert found is not None
    assert found.header == "Bearer access-jane"
    assert server.asked == []


def test_a_token_that_is_about_to_end_is_renewed_and_kept(logins: Logins) -> None:
    server = Server()
    logins.put(LOCAL, login("ann", "foo"))
    logins.put(LOCAL, login(expiry=1_000.0 + RENEW - 1))
    logins.put("elsewhere", login("bob"))
    found = drive(current(logins, LOCAL, "micro", clock=lambda: 1_000.0), server)
    assert server.asked == [
        {"refresh_token": "refresh-jane", "options": {"namespace": "micro"}},
    ]
    assert found == login(
        access_token="access-1", refresh_token="refresh-1", expiry=1_000.0 + server.lifetime
    )
    assert logins.get(LOCAL, "micro") == found
    assert logins.last(LOCAL) == found
    assert logins.get("elsewhere", "micro") == login("bob")


def test_a_token_that_the_server_refused_is_renewed_before_its_time(logins: Logins) -> None:
    server = Server()
    logins.put(LOCAL, login())
    found = drive(current(logins, LOCAL, "micro", refused="access-jane"), server)
    assert found is not None
    assert found.access_token == "access-1"
    # Another program was told the same of the old one, and takes what there is by now.
    again = drive(current(logins, LOCAL, "micro", refused="access-jane"), server)
    assert again == found
    assert len(server.asked) == 1


def test_a_login_that_has_ended_is_told_and_no_other_taken(logins: Logins) -> None:
    server = Server()
    server.error = errors.Unauthorized("auth", "the login has ended")
    logins.put(LOCAL, login(expiry=0.0))
    with pytest.raises(errors.Unauthorized) as caught:
        drive(current(logins, LOCAL, "micro", start=7.0), server)
    assert caught.value.detail == (
        "the login of jane has ended; log in with `micro login`, or forget it with `micro logout`"
    )
    assert [one.get("id") for one in server.asked] == [None]


def test_while_the_server_is_away_a_token_is_used_to_its_end(logins: Logins) -> None:
    server = Server()
    server.error = errors.Unavailable("auth", "away")
    logins.put(LOCAL, login(expiry=1_010.0))
    found = drive(current(logins, LOCAL, "micro", clock=lambda: 1_000.0), server)
    assert found == login(expiry=1_010.0)
    with pytest.raises(errors.Unavailable):
        drive(current(logins, LOCAL, "micro", clock=lambda: 1_011.0), server)


def test_a_fresh_server_lets_its_user_in_once_and_for_all(logins: Logins) -> None:
    server = Server()
    found = drive(current(logins, LOCAL, "foo", start=7.0), server)
    assert found is not None
    assert (found.account, found.namespace, found.implicit) == ("admin", "micro", True)
    assert drive(current(logins, LOCAL, "foo", start=7.0), server) == found
    assert len(server.asked) == 1


def test_a_password_that_was_changed_is_tried_once_a_start(logins: Logins) -> None:
    server = Server()
    server.good["admin"] = "changed"
    for _ in range(3):
        assert drive(current(logins, LOCAL, "micro", start=7.0), server) is None
    assert len(server.asked) == 1
    assert drive(current(logins, LOCAL, "micro", start=8.0), server) is None
    assert len(server.asked) == 2


def test_where_others_guess_passwords_one_goes_on_as_nobody(logins: Logins) -> None:
    server = Server()
    server.error = errors.TooManyRequests("auth", "too many")
    assert drive(current(logins, LOCAL, "micro", start=7.0), server) is None
    server.error = None
    assert drive(current(logins, LOCAL, "micro", start=7.0), server) is not None


def test_a_login_that_nobody_typed_ends_with_the_password(logins: Logins) -> None:
    server = Server()
    assert drive(current(logins, LOCAL, "micro", start=7.0), server) is not None
    server.error = errors.Unauthorized("auth", "revoked")
    found = current(logins, LOCAL, "micro", start=7.0, refused="access-1")
    assert drive(found, server) is None
    assert [one.get("id") for one in server.asked] == ["admin", None, "admin"]
    assert logins.all(LOCAL) == []


def test_of_many_at_once_one_renews_and_all_have_it(logins: Logins) -> None:
    server = Server()
    logins.put(LOCAL, login(expiry=0.0))
    entered, leave = threading.Event(), threading.Event()

    def slowly(ask: Ask) -> bytes:
        entered.set()
        assert leave.wait(60)
        return server(ask)

    found: list[Login | None] = []

    def renew(call: Callable[[Ask], bytes]) -> None:
        found.append(drive(current(logins, LOCAL, "micro"), call))

    threads = [threading.Thread(target=renew, args=(slowly,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert entered.wait(60)
    leave.set()
    for thread in threads:
        thread.join(60)
    assert len(server.asked) == 1
    assert found == [logins.get(LOCAL, "micro")] * 5


def test_a_program_that_holds_the_lock_for_ever_is_told(
    logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    logins.put(LOCAL, login(expiry=0.0))
    steps = current(logins, LOCAL, "micro")
    assert isinstance(next(steps), Ask)
    with pytest.raises(errors.Unavailable, match="another program has held"):
        drive(current(logins, LOCAL, "micro"), Server())
    steps.close()
    assert drive(current(logins, LOCAL, "micro"), Server()) is not None


async def test_async_programs_take_the_same_steps(logins: Logins) -> None:
    server = Server()
    logins.put(LOCAL, login(expiry=0.0))

    def steps() -> Steps[Login | None]:
        return current(logins, LOCAL, "micro")

    found = await asyncio.gather(*(drive_async(steps(), server.answer) for _ in range(5)))
    assert len(server.asked) == 1
    assert found == [logins.get(LOCAL, "micro")] * 5
    server.error = errors.Unauthorized("auth", "ended")
    logins.put(LOCAL, login(expiry=0.0))
    with pytest.raises(errors.Unauthorized, match="has ended"):
        await drive_async(steps(), server.answer)


def test_it_is_read_without_what_takes_long_to_import() -> None:
    program = (
        "import sys, microcosmos.auth.logins\n"
        "print([m for m in ('asyncio', 'cryptography', 'jwt', 'grpc', 'nats') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout == "[]\n"
