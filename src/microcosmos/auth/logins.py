"""Logins: the file ``tokens`` of a user, and how its access tokens are kept fresh.

What has to be asked of the server is yielded as an `Ask`, so that a blocking command line and an
async program share the steps: see `drive` and `drive_async`. Nothing here knows how tokens look;
a program that is done in milliseconds must not import cryptography for them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.alone import alone, take
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import indented, write_atomically

T = TypeVar("T")
Clock = Callable[[], float]

LOCAL = "local"
"""The environment that is the server of this MICRO_HOME; others go by their address."""

RENEW = 60.0
"""Seconds before its end at which an access token is renewed."""

PATIENCE = 15.0
"""Seconds to wait while another program renews the login."""

DEFAULT_ID = "admin"
DEFAULT_SECRET = "micro"
"""The account of a fresh server, good on loopback until its password is changed."""

LOG_IN = "log in with `micro login`"

_PAUSE = 0.02
_NO_TOKEN = "the answer of the server holds no token; is it of another version?"


class Login(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who somebody is at one platform.

    Attributes:
        account: its id.
        namespace: where the account lives.
        access_token: shown with every call.
        refresh_token: what the next access token is asked for with; each is good once.
        expiry: when the access token ends, in seconds since the epoch by this machine's clock.
        implicit: whether nobody typed it: the account of a fresh server.
    """

    account: str
    namespace: str = DEFAULT_NAMESPACE
    access_token: str
    refresh_token: str = ""
    expiry: float = 0.0
    implicit: bool = False

    @property
    def header(self) -> str:
        """The value of ``Authorization``."""
        return f"Bearer {self.access_token}"


class _Environment(msgspec.Struct, omit_defaults=True):
    """What is kept of one platform.

    Attributes:
        namespace: that of the last login.
        logins: by namespace.
        refused: which start of the server refused the default password.
    """

    namespace: str = ""
    logins: dict[str, Login] = {}
    refused: float = 0.0


_File = dict[str, _Environment]


class Logins:
    """The logins of a user, in a file that only they may read.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.with_name(f".{path.name}.lock")

    def get(self, environment: str, namespace: str) -> Login | None:
        """The login of one namespace."""
        return self._of(environment).logins.get(namespace)

    def find(self, environment: str, namespace: str) -> Login | None:
        """The login to act by in a namespace: its own, else the last one of the environment."""
        kept = self._of(environment)
        return kept.logins.get(namespace) or kept.logins.get(kept.namespace)

    def last(self, environment: str) -> Login | None:
        """The last login of an environment."""
        kept = self._of(environment)
        return kept.logins.get(kept.namespace)

    def all(self, environment: str) -> list[Login]:
        """Every login of an environment."""
        return list(self._of(environment).logins.values())

    def put(self, environment: str, login: Login) -> None:
        """Keep a login; it is the environment's last one from now on."""
        with self._alone():
            self._put(environment, login)

    def remove(self, environment: str, namespace: str) -> Login | None:
        """Forget a login, and return it."""
        with self._alone():
            document = self.read()
            kept = document.get(environment, _Environment())
            login = kept.logins.pop(namespace, None)
            if login is not None:
                if kept.namespace == namespace:
                    kept.namespace = next(reversed(kept.logins), "")
                self._write(document)
            return login

    def forget(self, environment: str) -> None:
        """Forget all of an environment."""
        if not self.path.exists():
            return
        with self._alone():
            document = self.read()
            if document.pop(environment, None) is not None:
                self._write(document)

    def read(self) -> _File:
        """The whole file.

        Raises:
            errors.InternalServerError: it is damaged or cannot be read; the text names it.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise _trouble(f"{self.path} cannot be read: {exc.strerror or exc}") from None
        except codec.DECODE_ERRORS:
            # Not what the decoder says: it may quote a token.
            detail = f"{self.path} is damaged; remove it and {LOG_IN}"
            raise _trouble(detail) from None

    def _of(self, environment: str) -> _Environment:
        return self.read().get(environment) or _Environment()

    def _put(self, environment: str, login: Login) -> None:
        document = self.read()
        kept = document.setdefault(environment, _Environment())
        kept.logins.pop(login.namespace, None)
        kept.logins[login.namespace] = login
        kept.namespace = login.namespace
        self._write(document)

    def _renewed(self, environment: str, login: Login) -> None:
        """Replace a login by its renewed self; which one was the last does not change."""
        document = self.read()
        kept = document.setdefault(environment, _Environment())
        kept.logins[login.namespace] = login
        self._write(document)

    def _refuse(self, environment: str, start: float) -> None:
        document = self.read()
        kept = document.setdefault(environment, _Environment())
        kept.refused = start
        kept.logins = {name: one for name, one in kept.logins.items() if not one.implicit}
        if kept.namespace not in kept.logins:
            kept.namespace = next(reversed(kept.logins), "")
        self._write(document)

    def _write(self, document: _File) -> None:
        kept = {name: one for name, one in document.items() if one.logins or one.refused}
        try:
            if kept:
                write_atomically(self.path, indented(kept))
            else:
                self.path.unlink(missing_ok=True)
        except OSError as exc:
            raise _trouble(f"{self.path} cannot be written: {exc.strerror or exc}") from None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._made(), alone(self._lock):
            yield

    def _held(self) -> Generator[Pause, None, int]:
        """Take the lock, however long somebody else needs for a renewal; its descriptor."""
        until = time.monotonic() + PATIENCE
        while True:
            with self._made():
                descriptor = take(self._lock)
            if descriptor is not None:
                return descriptor
            if time.monotonic() > until:
                detail = f"another program has held {self._lock} for {PATIENCE:g} s; try again"
                raise errors.Unavailable("auth.logins", detail)
            yield Pause(_PAUSE)

    @contextlib.contextmanager
    def _made(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            yield
        except OSError as exc:
            raise _trouble(f"{self.path} cannot be locked: {exc.strerror or exc}") from None


def _trouble(detail: str) -> errors.InternalServerError:
    return errors.InternalServerError("auth.logins", detail)


# Steps.


class Ask(NamedTuple):
    """A call of the service ``auth`` that has to be made, without any token."""

    endpoint: str
    body: bytes


class Pause(NamedTuple):
    """Seconds to wait."""

    seconds: float


Steps = Generator[Ask | Pause, Any, T]
"""What has to be done on the way to an answer; an `Ask` is sent the body that came back."""


class _Token(msgspec.Struct):
    access_token: str
    refresh_token: str = ""
    created: float = 0.0
    expiry: float = 0.0


class _Answer(msgspec.Struct):
    token: _Token


_answers = msgspec.json.Decoder(_Answer, strict=False)


def log_in(
    account: str, secret: str, namespace: str, *, implicit: bool = False, clock: Clock = time.time
) -> Steps[Login]:
    """Prove who somebody is by a password.

    Raises:
        errors.Unauthorized: there is no such account, or it has another password.
        errors.Error: what else came of it.
    """
    body = {"id": account, "secret": secret, "options": {"namespace": namespace}}
    token = yield from _token(body)
    return _login(token, account, namespace, implicit=implicit, clock=clock)


def current(
    logins: Logins,
    environment: str,
    namespace: str,
    *,
    start: float = 0.0,
    refused: str = "",
    clock: Clock = time.time,
) -> Steps[Login | None]:
    """The login to act by, renewed if it is about to end; None is nobody.

    Args:
        logins: where they are kept.
        environment: `LOCAL`, or the address of another platform.
        namespace: where calls are to be made.
        start: when the server of this MICRO_HOME was started, if that is the environment: until
            it refuses that once, the password of a fresh server is tried.
        refused: an access token that the server has refused; a renewed one is wanted.
        clock: seconds since the epoch.

    Raises:
        errors.Unauthorized: the login has ended.
        errors.Error: the file is damaged, or the server could not be asked.
    """
    login = logins.find(environment, namespace)
    if _good(login, refused, clock) or _nobody(logins, environment, login, start):
        return login
    descriptor = yield from logins._held()
    try:
        # Another program may have renewed it in the meantime.
        login = logins.find(environment, namespace)
        if _good(login, refused, clock) or _nobody(logins, environment, login, start):
            return login
        if login is not None:
            renewed = yield from _renewal(login, refused, clock)
            if renewed is not None:
                if renewed is not login:
                    logins._renewed(environment, renewed)
                return renewed
        return (yield from _by_default(logins, environment, start, clock))
    finally:
        os.close(descriptor)


def _good(login: Login | None, refused: str, clock: Clock) -> bool:
    return login is not None and login.access_token != refused and login.expiry - clock() > RENEW


def _nobody(logins: Logins, environment: str, login: Login | None, start: float) -> bool:
    """Whether there is no login, nor a way to one."""
    return login is None and (not start or logins._of(environment).refused == start)


def _renewal(login: Login, refused: str, clock: Clock) -> Steps[Login | None]:
    """A fresh login for an old one; None if there is a better way to one."""
    body = {"refresh_token": login.refresh_token, "options": {"namespace": login.namespace}}
    try:
        token = yield from _token(body)
    except (errors.Unauthorized, errors.Forbidden, errors.BadRequest, errors.NotFound):
        if login.implicit:
            return None
        raise ended(login) from None
    except errors.Error:
        # It is good for some seconds still, and the server may be back by then.
        if login.expiry > clock() and login.access_token != refused:
            return login
        raise
    fresh = _login(token, login.account, login.namespace, implicit=login.implicit, clock=clock)
    if fresh.refresh_token:
        return fresh
    return msgspec.structs.replace(fresh, refresh_token=login.refresh_token)


def ended(login: Login) -> errors.Unauthorized:
    """The error of a login that the server does not renew."""
    where = "" if login.namespace == DEFAULT_NAMESPACE else f" in {login.namespace}"
    detail = (
        f"the login of {login.account}{where} has ended; {LOG_IN}, or forget it with `micro logout`"
    )
    return errors.Unauthorized("auth", detail)


def _by_default(
    logins: Logins, environment: str, start: float, clock: Clock
) -> Steps[Login | None]:
    try:
        login = yield from log_in(
            DEFAULT_ID, DEFAULT_SECRET, DEFAULT_NAMESPACE, implicit=True, clock=clock
        )
    except (errors.Unauthorized, errors.Forbidden, errors.BadRequest, errors.NotFound):
        logins._refuse(environment, start)
        return None
    except errors.TooManyRequests:
        # Somebody guesses; who has not logged in goes on as nobody.
        return None
    logins._put(environment, login)
    return login


def _token(body: dict[str, Any]) -> Steps[_Token]:
    answer = yield Ask("Auth.Token", codec.encode(body))
    try:
        token = _answers.decode(answer).token
    except codec.DECODE_ERRORS:
        raise _trouble(_NO_TOKEN) from None
    return token


def received(token: bytes | msgspec.Raw, account: str, namespace: str) -> Login:
    """The login of tokens that came in another way: JSON with the fields of Auth.Token's.

    Raises:
        errors.InternalServerError: they are none.
    """
    try:
        found = msgspec.json.decode(token, type=_Token, strict=False)
    except codec.DECODE_ERRORS:
        raise _trouble(_NO_TOKEN) from None
    return _login(found, account, namespace, implicit=False, clock=time.time)


def _login(token: _Token, account: str, namespace: str, *, implicit: bool, clock: Clock) -> Login:
    # The server's clock may be wrong, or ours; how long it is good for is the same by both.
    left = token.expiry - token.created if token.created else token.expiry - clock()
    return Login(
        account=account,
        namespace=namespace,
        access_token=token.access_token,
        refresh_token=token.refresh_token,
        expiry=clock() + left,
        implicit=implicit,
    )


def drive(steps: Steps[T], call: Callable[[Ask], bytes]) -> T:
    """Go through steps, waiting for each.

    Args:
        steps: as `current` or `log_in` gives them.
        call: makes a call of ``auth`` and gives the answer's body, or raises an `errors.Error`.
    """
    with contextlib.closing(steps):
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    answer = call(step)
                except errors.Error as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as done:
            found: T = done.value
            return found


async def drive_async(steps: Steps[T], call: Callable[[Ask], Awaitable[bytes]]) -> T:
    """`drive`, for async programs."""
    # Imported here: a command line does without it.
    import asyncio

    with contextlib.closing(steps):
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    answer = await call(step)
                except errors.Error as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as done:
            found: T = done.value
            return found
