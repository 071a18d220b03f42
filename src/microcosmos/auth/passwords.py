"""Passwords: what is a good one, and hashes that are slow to guess at (Argon2id)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import unicodedata
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import argon2
import msgspec

from microcosmos.base import errors

T = TypeVar("T")

SHORTEST = 8
"""The fewest characters of a password."""

LONGEST = 1024
"""The most bytes of a password or a secret."""

AT_ONCE = 2
"""Passwords that are hashed at the same time; each needs 64 MiB."""

MAX_WAITING = 64
"""Logins that wait for their password to be hashed; more are refused."""

DEFAULT_ID = "admin"
DEFAULT_PASSWORD = "micro"
"""The first account; a server that only this machine reaches begins with it."""

PASSWORD = "MICRO_ADMIN_PASSWORD"
PASSWORD_FILE = "MICRO_ADMIN_PASSWORD_FILE"
"""The password of the first account, or the file that has it, in place of the default one."""


class Hash(msgspec.Struct, frozen=True):
    """What is kept of a secret.

    Attributes:
        kind: ``argon2id`` of what somebody thought of, ``sha256`` of what we made of 122 random
            bits or more, which no guessing finds.
        text: the hash.
    """

    kind: Literal["argon2id", "sha256"]
    text: str


class Passwords:
    """Hashes and compares, a few at a time, in threads.

    Args:
        hasher: how slow it is to be.
    """

    def __init__(self, hasher: argon2.PasswordHasher | None = None) -> None:
        self._hasher = hasher or argon2.PasswordHasher()
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._under_way = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> Hash:
        """What to keep of a password.

        Raises:
            errors.TooManyRequests: too many are waiting.
        """
        text = await self._run(lambda: self._hasher.hash(_normal(password)))
        return Hash("argon2id", text)

    async def proves(self, password: str, *known: Hash) -> bool:
        """Whether a secret is one of those known; why it is not, the time that it takes hides.

        Raises:
            errors.TooManyRequests: too many are waiting.
        """
        if len(password.encode("utf-8", "replace")) > LONGEST:
            return False
        said = digest(password).text
        # All of them, so that the time does not tell which.
        made = [hmac.compare_digest(said, one.text) for one in known if one.kind == "sha256"]
        if any(made):
            return True
        slow = next((one.text for one in known if one.kind == "argon2id"), "")
        return await self._run(lambda: self._verify(slow, _normal(password)))

    def quick(self, secret: str, known: Hash) -> bool:
        """Whether a secret is one that we made."""
        return known.kind == "sha256" and hmac.compare_digest(digest(secret).text, known.text)

    def _verify(self, text: str, password: bytes) -> bool:
        known = text or self._nobody()
        try:
            return self._hasher.verify(known, password) and bool(text)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    def _nobody(self) -> str:
        """The hash of a password that nobody has."""
        if self._nobodys is None:
            self._nobodys = self._hasher.hash(secrets.token_hex(16))
        return self._nobodys

    async def _run(self, work: Callable[[], T]) -> T:
        if self._under_way >= AT_ONCE + MAX_WAITING:
            raise errors.TooManyRequests("auth", "too many log in at once; try again in 5 s")
        self._under_way += 1
        future = self._threads.submit(work)
        # When the work ends, and not when its caller has given up.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _soon(loop, self._ended))
        return await asyncio.wrap_future(future)

    def _ended(self) -> None:
        self._under_way -= 1

    async def prepare(self) -> None:
        """Make what the first comparison would have to wait for."""
        await self._run(self._nobody)

    def close(self) -> None:
        """Start no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)


def generated() -> str:
    """A secret that nobody guesses, for a user to paste."""
    return str(uuid.uuid4())


def digest(secret: str) -> Hash:
    """What to keep of a secret that we made."""
    return Hash("sha256", hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest())


def check(password: str, id: str, what: str = "the password") -> str:
    """Return a password when it is good enough for an account.

    Raises:
        errors.BadRequest: it is short, long, or the first one that anybody would try.
    """
    if len(password) < SHORTEST:
        raise errors.BadRequest("auth", f"{what} needs at least {SHORTEST} characters")
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise errors.BadRequest("auth", f"{what} is not valid Unicode") from None
    if size > LONGEST:
        raise errors.BadRequest("auth", f"{what} has {size} bytes; at most {LONGEST} are taken")
    if password.casefold() in (id.casefold(), DEFAULT_PASSWORD):
        raise errors.BadRequest("auth", f"{what} must not be the id of its account")
    return password


def from_environment(environ: Mapping[str, str]) -> str:
    """The first account's password as the environment gives it; empty is the default one.

    Raises:
        errors.BadRequest: the file cannot be read, or it is no good password.
    """
    password, what = environ.get(PASSWORD, ""), PASSWORD
    if path := environ.get(PASSWORD_FILE, ""):
        if password:
            raise errors.BadRequest("auth", f"{PASSWORD} and {PASSWORD_FILE} are set; give one")
        what = f"the password in {path}"
        try:
            password = Path(path).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not UTF-8"
            detail = f"{PASSWORD_FILE}: {path} cannot be read: {reason}"
            raise errors.BadRequest("auth", detail) from None
        if not password:
            raise errors.BadRequest("auth", f"{PASSWORD_FILE}: {path} is empty")
    return check(password, DEFAULT_ID, what) if password else ""


def _normal(password: str) -> bytes:
    """One spelling of characters that keyboards write in several ways."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "replace")
