"""Filling in: the values of secrets in the place of their placeholders, where they are bound to.

A placeholder is filled in headers only, in the values of those that its secret is bound to, on the
way to the hosts that it is bound to. What is in a URL or a body stays as it is.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Protocol

from microcosmos.base import errors
from microcosmos.functions.interface import SecretUse
from microcosmos.functions.placeholders import PATTERN, shown

from .headers import BAD_VALUE, Headers
from .hosts import Origin, split
from .policy import Policy

ID = "functions.secret"

LEAST = 4
"""Characters from which a value is taken out of the headers of answers: shorter ones are words."""

_BASIC = re.compile(r"(basic +)([A-Za-z0-9+/=]+)", re.IGNORECASE)


class Values(Protocol):
    """Who knows the values of secrets."""

    async def value(self, policy: Policy, secret: str) -> str:
        """The value of a secret of a function.

        Raises:
            errors.Unavailable: it is gone, or nobody can be asked.
        """


class Filling:
    """Fills in the secrets of one sub-request.

    Args:
        policy: which secrets are bound where.
        values: knows their values.
    """

    def __init__(self, policy: Policy, values: Values) -> None:
        self._names = policy.placeholders
        self._policy = policy
        self._values = values
        self._filled: dict[str, str] = {}

    def check_url(self, url: str) -> None:
        """Refuse a URL that shows a placeholder to who can do nothing with it.

        Raises:
            errors.Forbidden: it does.
        """
        if self._names and (name := self._known(url)):
            detail = f"the secret {name} is in the URL, and is filled in headers only"
            raise errors.Forbidden(ID, detail)

    async def fill(self, origin: Origin, headers: Headers) -> Headers:
        """The headers as they go to an origin.

        Raises:
            errors.Forbidden: a placeholder is where its secret is not bound to.
            errors.Unavailable: its value cannot be had.
        """
        if not self._names:
            return headers
        return [(name, await self._value(origin, name, value)) for name, value in headers]

    def along(self, origin: Origin, headers: Headers) -> Headers:
        """The headers that go along to another origin: none with what is not bound to it."""
        if not self._names:
            return headers
        return [pair for pair in headers if self._may(origin, *pair)]

    def scrubbed(self, headers: Headers) -> Headers:
        """The headers of an answer, which may have repeated what was filled in."""
        if not self._filled:
            return headers
        return [(name, self._scrubbed(value)) for name, value in headers]

    def _scrubbed(self, text: str) -> str:
        for placeholder, value in self._filled.items():
            if len(value) >= LEAST:
                text = text.replace(value, placeholder)
        return text

    async def _value(self, origin: Origin, header: str, value: str) -> str:
        if self._known(value):
            return await self._replaced(origin, header, value)
        if header == "authorization" and (basic := _BASIC.fullmatch(value)):
            text = _decoded(basic[2])
            if self._known(text):
                filled = await self._replaced(origin, header, text)
                return basic[1] + base64.b64encode(filled.encode()).decode()
        return value

    async def _replaced(self, origin: Origin, header: str, text: str) -> str:
        for placeholder in dict.fromkeys(PATTERN.findall(text)):
            name = self._names.get(placeholder)
            if name is None:
                continue
            uses = self._policy.secret_uses.get(name, [])
            if not is_bound(uses, origin, header):
                raise errors.Forbidden(
                    ID,
                    f"the secret {name} is filled in for {shown(uses)}, not for {header} to "
                    f"{origin.scheme}://{origin}; deploy with `--secret-use {name}="
                    f"{at(origin)}/{header}`",
                )
            value = await self._values.value(self._policy, name)
            if BAD_VALUE.search(value):
                detail = f"the secret {name} cannot be in a header: it has line breaks, or letters"
                raise errors.Forbidden(ID, f"{detail} beyond Latin-1")
            self._filled[placeholder] = value
            text = text.replace(placeholder, value)
        return text

    def _may(self, origin: Origin, header: str, value: str) -> bool:
        if header == "authorization" and (basic := _BASIC.fullmatch(value)):
            value = _decoded(basic[2])
        for placeholder in PATTERN.findall(value):
            name = self._names.get(placeholder)
            if name and not is_bound(self._policy.secret_uses.get(name, []), origin, header):
                return False
        return True

    def _known(self, text: str) -> str:
        """The secret of the first placeholder in a text, or empty."""
        if "secret-placeholder-" not in text:
            return ""
        return next((self._names[one] for one in PATTERN.findall(text) if one in self._names), "")


def is_bound(uses: list[SecretUse], origin: Origin, header: str) -> bool:
    """Whether a secret is filled in for a header on the way to an origin.

    A host without a port is meant with https, on its port; one with a port also in plain http.
    """
    return any(use.header == header and _leads(use.host, origin) for use in uses)


def _leads(host: str, origin: Origin) -> bool:
    name, port = split(host)
    if port != origin.port if port else (origin.scheme, origin.port) != ("https", 443):
        return False
    there = origin.host.rstrip(".")
    return there.endswith(name[1:]) if name.startswith("*.") else there == name


def at(origin: Origin) -> str:
    """An origin as it has to be bound to."""
    if (origin.scheme, origin.port) == ("https", 443):
        return str(origin)
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"{host}:{origin.port}"


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


class NoValues:
    """Knows none: of a process that nobody has told how to ask."""

    async def value(self, policy: Policy, secret: str) -> str:
        raise errors.Unavailable(ID, "there is nobody here who knows secrets")


def nothing() -> Filling:
    """Fills in nothing."""
    return Filling(Policy(namespace="", name="", number=0, key="", owner=""), NoValues())
