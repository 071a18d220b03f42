"""Origins: from which sites a browser may open a WebSocket.

A browser sends its user's cookies with a WebSocket, and no rule of CORS holds it back. So a page of
another site is let in only if it was named; programs that are no browser send no origin.
"""

from __future__ import annotations

from collections.abc import Iterable

from microcosmos.base import errors

ANY = "*"

_DEFAULT = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


class Origins:
    """The origins that are let in, beside the gateway's own.

    Args:
        allowed: as browsers write them, ``https://app.example.com``; ``*`` is any.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(origin.strip().lower().rstrip("/") for origin in allowed)

    def check(self, origin: str, host: str) -> None:
        """Let an origin in; none at all is let in, and so is the host that was asked.

        Raises:
            errors.Forbidden: it is another site.
        """
        origin = origin.lower()
        if not origin or ANY in self._allowed or origin in self._allowed:
            return
        scheme, _, site = origin.partition("://")
        # A proxy may speak TLS for us, so that only host and port are compared.
        if site and _with_port(site, scheme) == _with_port(host.lower(), scheme):
            return
        detail = (
            f"a page of {origin[:100]} may not open a WebSocket here; "
            "`micro server --api_allowed_origins` names those that may"
        )
        raise errors.Forbidden("gateway", detail)


def parse(text: str) -> tuple[str, ...]:
    """The origins of a setting, divided by commas.

    Raises:
        errors.BadRequest: something is no origin.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in found:
        scheme, divided, site = origin.partition("://")
        if origin != ANY and not (scheme and divided and site and "/" not in site.rstrip("/")):
            detail = f"{origin!r} is no origin like https://app.example.com"
            raise errors.BadRequest("gateway", detail)
    return found


def _with_port(site: str, scheme: str) -> str:
    # A colon within brackets is an address'.
    has_port = ":" in site.rpartition("]")[2]
    return site if has_port else f"{site}:{_DEFAULT.get(scheme, '')}"
