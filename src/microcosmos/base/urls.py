"""URLs that may hold a password, as people may see them."""

from __future__ import annotations

import re
from collections.abc import Callable

SECRET = "[secret]"
"""What stands in place of a secret wherever people read."""

# Up to the last `@`: a password that was not percent-encoded may hold any mark. What goes on with
# a slash names no host, and so no user.
_USER = re.compile(r"^([a-zA-Z][\w+.-]*://|(?!.*://))([^/?#].*)?@", re.DOTALL)
_PAIR = re.compile(
    r"([?&][^=&#]*(?:password|passwd|secret|token|key)[^=&#]*=)[^&#]*", re.IGNORECASE
)
# A comma may be in a password too: only what begins as the first one did begins another.
_NEXT = re.compile(r",(?=\s*[a-zA-Z][\w+.-]*://)")
# A name alone that one connects to these with is a token.
_TOKENS = ("", "nats://", "tls://", "ws://", "wss://")


def masked(url: str) -> str:
    """A URL, or some separated by commas, with each password and token replaced by `SECRET`."""
    return _each(url, _masked_user)


def bare(url: str) -> str:
    """A URL, or some separated by commas, without the users and secrets that they name."""
    return _each(url, lambda found: found[1])


def _each(url: str, user: Callable[[re.Match[str]], str]) -> str:
    parts = _NEXT.split(url) if "://" in url else url.split(",")
    return ",".join(_PAIR.sub(rf"\1{SECRET}", _USER.sub(user, part)) for part in parts)


def _masked_user(found: re.Match[str]) -> str:
    scheme, user = found[1], found[2] or ""
    name, colon, _ = user.partition(":")
    if colon:
        return f"{scheme}{name}:{SECRET}@"
    return f"{scheme}{SECRET if scheme in _TOKENS else user}@"
