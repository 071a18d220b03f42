"""Who asks: by a token, or by an id and its password as Confluent's clients send them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from typing import cast

from microcosmos.auth.access import Access
from microcosmos.auth.interface import Account
from microcosmos.auth.topics import Authorise, open_to_all
from microcosmos.base import context, errors, names
from microcosmos.events.schema.interface import topic_of
from microcosmos.gateway.front.addresses import canonical

from .failures import Failure

NAME = "schemas"

LOGINS = 256
"""Logins by password that are remembered, so that not each request pays for one."""

Login = Callable[[str, str, str, str], Awaitable[str]]
"""Gives an access token for a namespace, an id, its password, and the address of the client."""

_BASIC = "basic "
_READ, _REGISTER, _ADMINISTER = "Schemas.Read", "Schemas.Register", "Schemas.Administer"


class Visitors:
    """Finds out who asks, and refuses who may not.

    Args:
        access: knows good tokens, and who may; None lets everybody do everything.
        authorise: says who may do what with a topic.
        login: gives tokens for passwords; None takes no passwords.
    """

    def __init__(
        self,
        access: Access | None = None,
        authorise: Authorise = open_to_all,
        login: Login | None = None,
    ) -> None:
        self._access = access
        self._authorise = authorise
        self._login = login
        # By a hash of what was shown: the tokens of those who have shown it.
        self._tokens: OrderedDict[bytes, str] = OrderedDict()

    async def enter(self, headers: Mapping[str, str], address: str) -> None:
        """Let a request be that of who makes it: of a token, or of an id and its password.

        Args:
            headers: of the request.
            address: where its client is.

        Raises:
            errors.Unauthorized: a password that is wrong.
            errors.Error: it cannot be found out.
        """
        shown = headers.get("authorization", "")
        if self._access is None or shown[: len(_BASIC)].lower() != _BASIC:
            return
        here = copy(context.current())
        id, password = _pair(shown[len(_BASIC) :])
        # A client of Confluent's cannot send a header with the namespace.
        before, slash, after = id.rpartition("/")
        namespace = names.check_namespace(before) if slash else here.namespace
        here.account = await self._known(
            self._access, (namespace, after, password, canonical(address))
        )
        here.metadata = context.Metadata({**here.metadata.raw, context.NAMESPACE: namespace})
        context.set_current(here)

    async def _known(self, access: Access, shown: tuple[str, str, str, str]) -> Account | None:
        if self._login is None:
            raise Failure(40101, "passwords are not taken here: show a token, `Bearer TOKEN`")
        key = hashlib.sha256("\0".join(shown).encode()).digest()
        if (remembered := self._tokens.get(key)) is not None:
            try:
                return _account(access, remembered)
            except errors.Unauthorized:
                del self._tokens[key]  # it has ended, or was revoked
        token = self._tokens[key] = await self._login(*shown)
        if len(self._tokens) > LOGINS:
            self._tokens.popitem(last=False)
        return _account(access, token)

    def reading(self) -> None:
        """Refuse who may not read.

        Raises:
            errors.Unauthorized: nobody knows who asks.
            errors.Forbidden: the account may not.
        """
        self._check(_READ, "account")

    def registering(self, subject: str) -> None:
        """Refuse who may not register versions of a subject; see `reading`."""
        if topic := topic_of(subject):
            self._check(_REGISTER, "account")
            self._authorise(topic, "publish")
        else:
            self._check(_REGISTER, "service")

    def administering(self, subject: str = "") -> None:
        """Refuse who may not delete a subject, or with none of them change modes; see `reading`."""
        if subject and (topic := topic_of(subject)):
            self._check(_ADMINISTER, "account")
            self._authorise(topic, "admin")
        else:
            self._check(_ADMINISTER, "admin")

    def _check(self, endpoint: str, asks: str) -> None:
        if self._access is not None:
            here = context.current()
            account = cast("Account | None", here.account)
            self._access.check(account, here.namespace, NAME, endpoint, asks)


def _account(access: Access, token: str) -> Account | None:
    found = access.token(f"Bearer {token}")
    return found.account if found is not None else None


def _pair(encoded: str) -> tuple[str, str]:
    """The id and the password of an Authorization header."""
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Failure(40101, "the Authorization header cannot be read") from None
    id, colon, password = text.partition(":")
    if not colon:
        raise Failure(40101, "the Authorization header has no id and password: `ID:PASSWORD`")
    return id, password
