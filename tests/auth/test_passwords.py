"""What a good password is, and how one is proven."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import argon2
import pytest

from microcosmos.auth import passwords
from microcosmos.auth.passwords import AT_ONCE, MAX_WAITING, Passwords, digest
from microcosmos.base import errors

from .world import quick


@pytest.fixture
def hasher() -> Iterator[Passwords]:
    made = quick()
    yield made
    made.close()


async def test_only_the_right_password_proves(hasher: Passwords) -> None:
    kept = await hasher.hash("correct horse")
    assert kept.text.startswith("$argon2id$")
    assert await hasher.proves("correct horse", kept)
    assert not await hasher.proves("correct horsf", kept)
    assert not await hasher.proves("", kept)
    assert not await hasher.proves("correct horse")


async def test_two_spellings_of_one_character_are_one_password(hasher: Passwords) -> None:
    assert await hasher.proves("pa\u00e9sword", await hasher.hash("pae\u0301sword"))


async def test_a_secret_of_ours_is_compared_at_once(hasher: Passwords) -> None:
    secret = passwords.generated()
    hasher.close()  # nothing can be hashed any more
    assert await hasher.proves(secret, digest(secret))


async def test_a_damaged_hash_proves_nothing(hasher: Passwords) -> None:
    for text in ("", "$argon2id$", "secret"):
        assert not await hasher.proves("secret", passwords.Hash("argon2id", text))


class Counting(argon2.PasswordHasher):
    """Counts the comparisons, each of which costs the same."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.compared = 0

    def verify(self, hash: Any, password: Any) -> Any:
        self.compared += 1
        return super().verify(hash, password)


async def test_why_a_secret_is_wrong_does_not_show_in_the_time() -> None:
    counting = Counting()
    hasher = Passwords(counting)
    try:
        slow = await hasher.hash("correct horse")
        await hasher.prepare()
        for known in ((), (slow,), (digest("a"),), (digest("a"), digest("b")), (slow, digest("a"))):
            before = counting.compared
            assert not await hasher.proves("wrong", *known)
            assert counting.compared == before + 1, known
    finally:
        hasher.close()


async def test_a_password_that_is_too_long_costs_nothing() -> None:
    counting = Counting()
    hasher = Passwords(counting)
    kept = await hasher.hash("correct horse")
    assert not await hasher.proves("x" * 1025, kept)
    assert counting.compared == 0
    hasher.close()


class Held(argon2.PasswordHasher):
    """Hashes once it is let go, and counts how many are at it."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.most = self._now = 0
        self._lock = threading.Lock()

    def hash(self, password: Any, *, salt: bytes | None = None) -> str:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.begun.release()
        self.go.wait(60)
        with self._lock:
            self._now -= 1
        return super().hash(password)


async def test_a_few_are_hashed_at_a_time_and_too_many_are_refused() -> None:
    held = Held()
    hasher = Passwords(held)
    tasks = [
        asyncio.create_task(hasher.hash(f"password {n}")) for n in range(AT_ONCE + MAX_WAITING)
    ]
    for _ in range(AT_ONCE):
        await asyncio.to_thread(held.begun.acquire)
    with pytest.raises(errors.TooManyRequests, match="try again in"):
        await hasher.hash("one more")
    tasks[-1].cancel()
    held.go.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(one, passwords.Hash) for one in done) == len(tasks) - 1
    assert held.most == AT_ONCE
    assert (await hasher.hash("one more")).kind == "argon2id"
    hasher.close()


@pytest.mark.parametrize(
    ("password", "id", "says"),
    [
        ("", "jane", "at least 8"),
        ("1234567", "jane", "at least 8"),
        ("micro", "jane", "at least 8"),
        ("jane.doe@example.com", "jane.doe@example.com", "the id of its account"),
        ("JANE.DOE@example.com", "jane.doe@example.com", "the id of its account"),
        ("x" * 1025, "jane", "1025 bytes"),
        ("ü" * 513, "jane", "1026 bytes"),
        ("\ud800" * 8, "jane", "not valid Unicode"),
    ],
)
def test_what_is_no_good_password(password: str, id: str, says: str) -> None:
    with pytest.raises(errors.BadRequest, match=says):
        passwords.check(password, id)


@pytest.mark.parametrize("password", ["12345678", "ü" * 512, "x" * 1024, " " * 8])
def test_what_is_one(password: str) -> None:
    assert passwords.check(password, "jane") == password


# The first account's, from the environment.


def test_the_environment_may_say_nothing() -> None:
    assert passwords.from_environment({"MICRO_ADMIN_PASSWORD": ""}) == ""


def test_it_may_be_in_a_variable_or_in_a_file(tmp_path: Path) -> None:
    assert passwords.from_environment({"MICRO_ADMIN_PASSWORD": "long enough"}) == "long enough"
    (tmp_path / "secret").write_text("from a file \n")
    environ = {"MICRO_ADMIN_PASSWORD_FILE": str(tmp_path / "secret")}
    assert passwords.from_environment(environ) == "from a file "


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read: No such file"), (b"", "is empty"), (b"\n", "is empty"),
     (b"\xff\xfe", "not UTF-8"), (b"short", "at least 8")],
)  # fmt: skip
def test_a_file_without_a_good_password_is_named(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.BadRequest, match=says) as caught:
        passwords.from_environment({"MICRO_ADMIN_PASSWORD_FILE": str(path)})
    assert str(path) in caught.value.detail


def test_one_of_them_and_not_both() -> None:
    environ = {"MICRO_ADMIN_PASSWORD": "long enough", "MICRO_ADMIN_PASSWORD_FILE": "/secret"}
    with pytest.raises(errors.BadRequest, match="give one"):
        passwords.from_environment(environ)


def test_a_bad_one_is_not_in_the_error() -> None:
    with pytest.raises(errors.BadRequest, match="MICRO_ADMIN_PASSWORD needs") as caught:
        passwords.from_environment({"MICRO_ADMIN_PASSWORD": "hunter2"})
    assert "hunter2" not in caught.value.detail
