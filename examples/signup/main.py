"""Signup: people make accounts for themselves, once a code shows that an address is theirs.

Asked by `micro signup`, with the endpoints of Micro's service of that name.
"""

import asyncio
import hmac
import logging
import os
import re
import secrets
import smtplib
import sys
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec

from microcosmos import Service, current, errors

CLERK = os.environ.get("SIGNUP_CLERK", "")
"""The account that makes the others."""

SECRET_FILE = os.environ.get("SIGNUP_SECRET_FILE", "")
"""The file with its secret."""

SMTP = os.environ.get("SIGNUP_SMTP", "")
"""host:port of a mail server of your own, which asks for no password."""

SENDER = os.environ.get("SIGNUP_SENDER", "signup@localhost")

OUTBOX = os.environ.get("SIGNUP_OUTBOX", "")
"""A folder that mails are written to in place of being sent."""

GOOD_FOR = 600.0
"""Seconds that a code is good for."""

PAUSE = 60.0
"""Seconds between two codes for one address."""

TRIES = 5
"""Wrong codes for one address; then a new one has to be sent."""

MOST = 10_000
"""Codes that are waited for at once."""

LONGEST = 100
ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


class AuthToken(msgspec.Struct):
    """What a login has, as `Auth.Token` gives it."""

    access_token: str
    refresh_token: str
    created: float
    expiry: float


class Issued(msgspec.Struct):
    token: AuthToken


class Verified(msgspec.Struct):
    message: str = "choose a password"


class SignedUp(msgspec.Struct, rename="camel"):
    auth_token: AuthToken
    namespace: str


class Code(msgspec.Struct):
    text: str
    sent: float
    wrong: int = 0


signup = Service("signup")
auth = signup.client("auth")

log = logging.getLogger("signup")

CODES: dict[str, Code] = {}


@signup.endpoint(retry=False)
async def send_verification_email(email: str) -> None:
    """Send a code to an address."""
    address = checked(email)
    code = new_code(address)
    try:
        await asyncio.to_thread(send, address, code)
    except (OSError, smtplib.SMTPException):
        del CODES[address]
        detail = f"the mail to {address} could not be sent; try again later"
        raise errors.Unavailable("signup", detail) from None


@signup.endpoint(retry=False)
async def verify(email: str, token: str) -> Verified:
    """Tell whether a code is the one that was sent."""
    check_code(checked(email), token)
    return Verified()


@signup.endpoint(retry=False)
async def complete_signup(email: str, token: str, secret: str) -> SignedUp:
    """Make an account with a password, and log it in."""
    address = checked(email)
    check_code(address, token)
    account = {"id": address, "secret": secret}
    await ask("Auth.Generate", account, by=await clerks_token())
    CODES.pop(address, None)
    return SignedUp(await log_in(address, secret), current().namespace)


def checked(email: str) -> str:
    """An address as it is kept, in small letters."""
    address = email.strip().lower()
    if len(address) > LONGEST or not ADDRESS.fullmatch(address):
        raise errors.BadRequest("signup", "that is no e-mail address")
    return address


def new_code(address: str) -> str:
    """Make a code; what was sent to the address before is good no more."""
    now = time.monotonic()
    for old in [to for to, code in CODES.items() if now - code.sent > GOOD_FOR]:
        del CODES[old]
    if address in CODES and now - CODES[address].sent < PAUSE:
        detail = f"a code was sent to {address} just now; try again in a minute"
        raise errors.TooManyRequests("signup", detail)
    if len(CODES) >= MOST:
        raise errors.TooManyRequests("signup", "too many sign up at once; try again later")
    CODES[address] = Code(f"{secrets.randbelow(10**8):08d}", now)
    return CODES[address].text


def check_code(address: str, typed: str) -> None:
    """Refuse what is not the code of an address."""
    code = CODES.get(address)
    if code is None or code.wrong >= TRIES or time.monotonic() - code.sent > GOOD_FOR:
        raise errors.BadRequest("signup", "there is no code for this address; have one sent")
    if not hmac.compare_digest(code.text.encode(), typed.strip().encode()):
        code.wrong += 1
        raise errors.BadRequest("signup", "that is not the code that was sent")


def send(address: str, code: str) -> None:
    """Send a code, or write it where the outbox is."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, address, "Your code"
    mail.set_content(f"Type this code to sign up: {code}\n\nIt is good for ten minutes.\n")
    if SMTP:
        host, _, port = SMTP.rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=10) as server:
            server.send_message(mail)
    else:
        path = Path(OUTBOX) / address
        path.touch(mode=0o600)
        path.write_bytes(bytes(mail))


async def clerks_token() -> str:
    """A token of the account that makes the others."""
    try:
        clerk = await log_in(CLERK, Path(SECRET_FILE).read_text().strip())
    except (OSError, errors.Unauthorized) as exc:
        log.error("the clerk cannot log in: %s", exc)
        raise errors.Unavailable("signup", "no accounts can be made now") from None
    return clerk.access_token


async def log_in(id: str, secret: str) -> AuthToken:
    """The tokens of an account."""
    answer = await ask("Auth.Token", {"id": id, "secret": secret})
    return msgspec.convert(answer, Issued).token


async def ask(endpoint: str, request: dict[str, Any], by: str = "") -> Any:
    """Call the service auth, as an account where one is needed."""
    request["options"] = {"namespace": current().namespace}
    header = {"Authorization": f"Bearer {by}"} if by else {}
    return await auth.invoke(endpoint, request, metadata=header)


if __name__ == "__main__":
    if not (CLERK and Path(SECRET_FILE).is_file()):
        sys.exit("set SIGNUP_CLERK and SIGNUP_SECRET_FILE: an account that may make accounts")
    if not (SMTP or Path(OUTBOX).is_dir()):
        sys.exit("set SIGNUP_SMTP to host:port, or SIGNUP_OUTBOX to a folder")
    signup.run()
