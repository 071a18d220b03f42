"""Auth over rpc: a policy that is followed, and the identity of a service."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType

import msgspec

from microcosmos.base import codec, errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.context import AUTHORIZATION, DEFAULT_NAMESPACE, NAMESPACE
from microcosmos.base.tasks import background
from microcosmos.rpc import Client

from .access import Access
from .interface import Policy

log = logging.getLogger("microcosmos.auth")

PATIENCE = 20.0
"""Seconds that a service waits for its first token while the core is away."""

_PAUSE = 0.1
_LONGEST_PAUSE = 15.0
_OPEN = 5.0
_WARN_AFTER = 3
_MOST = 8


async def follow_policy(
    client: Client, access: Access, namespace: str, header: Callable[[], str]
) -> None:
    """Keep the policy of an `Access` current, for ever; while the core is away the last one holds.

    Args:
        client: carries the stream.
        access: what decides by it.
        namespace: whose policy; empty is that of all, which only the platform may see.
        header: the Authorization header of this process, or an empty text.
    """
    refused = 0
    while True:
        began = time.monotonic()
        try:
            await _follow(client, access, namespace, header())
            refused = 0
        except (errors.Unauthorized, errors.Forbidden) as error:
            # Of a stream that was open it is only the token that has ended.
            refused = 1 if time.monotonic() - began > _OPEN else min(refused + 1, _MOST)
            if refused == _WARN_AFTER:
                log.warning("the policy cannot be followed: %s", error.detail)
        except errors.Error as error:
            log.debug("the core does not tell its policy: %s", error)
            refused = 0
        await asyncio.sleep(min(_PAUSE * 2**refused, _LONGEST_PAUSE))


async def _follow(client: Client, access: Access, namespace: str, header: str) -> None:
    known = access.policy or Policy()
    request = {"namespace": namespace, "epoch": known.epoch, "after": known.version}
    metadata = {NAMESPACE: namespace or DEFAULT_NAMESPACE}
    if header:
        metadata[AUTHORIZATION] = header
    body = codec.encode(request)
    async with client.stream("auth", "Policy.Follow", body, metadata=metadata) as stream:
        async for message in stream:
            access.follow(msgspec.json.decode(message, type=Policy))


class _Token(msgspec.Struct):
    access_token: str
    created: float
    expiry: float


class _Answer(msgspec.Struct):
    token: _Token


class ServiceIdentity:
    """Who a process is: it logs in by a secret, and its token is renewed in the background.

    Used as ``async with``: there is a token once it is entered.

    Args:
        client: carries the logins.
        id: of the account.
        secret: what proves it.
        namespace: where the account lives.
        patience: seconds that the first login waits for the core.
        clock: by which tokens end.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        secret: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        patience: float = PATIENCE,
        clock: Clock = SYSTEM,
    ) -> None:
        # Neither by what it is there to give, nor for whomever a call is being handled.
        self._client = client.showing(None).own()
        self._id = id
        self._secret = secret
        self._namespace = namespace
        self._patience = patience
        self._clock = clock
        self._token = _Token("", 0, 0)
        self._stack = AsyncExitStack()

    def header(self) -> str:
        """The Authorization header to call with."""
        return f"Bearer {self._token.access_token}"

    async def __aenter__(self) -> ServiceIdentity:
        """Log in.

        Raises:
            errors.Unauthorized: the secret is not right (any more).
            errors.Unavailable: the core did not answer in time.
        """
        await self._first()
        await self._stack.enter_async_context(background(self._renewing(), "identity"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _first(self) -> None:
        given_up = self._clock.monotonic() + self._patience
        while True:
            try:
                return await self._login()
            except errors.Error as error:
                if isinstance(error, errors.Unauthorized | errors.BadRequest):
                    raise self._explained(error) from None
                if self._clock.monotonic() >= given_up:
                    detail = f"no token for {self._id}: {error.detail}"
                    raise errors.Unavailable("auth", detail) from None
            await self._clock.sleep(_PAUSE)

    def _explained(self, error: errors.Error) -> errors.Error:
        detail = (
            f"{self._id} could not log in: {error.detail}; its id and secret come from "
            "MICRO_AUTH_ID and the file MICRO_AUTH_SECRET_FILE, which the runtime writes"
        )
        return errors.Unauthorized("auth", detail)

    async def _login(self) -> None:
        options = {"namespace": self._namespace}
        body = codec.encode({"id": self._id, "secret": self._secret, "options": options})
        answer = await self._client.call("auth", "Auth.Token", body)
        self._token = msgspec.json.decode(answer, type=_Answer).token

    async def _renewing(self) -> None:
        while True:
            await self._clock.sleep(self._until_due())
            pause = _PAUSE
            while not await self._renewed():
                await self._clock.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _until_due(self) -> float:
        """Seconds until two thirds of the token's life are over."""
        life = self._token.expiry - self._token.created
        return max(self._token.created + life * 2 / 3 - self._clock.time(), 0.0)

    async def _renewed(self) -> bool:
        try:
            await self._login()
        except errors.Unauthorized as error:
            log.error("the token of %s cannot be renewed: %s", self._id, error.detail)
        except errors.Error as error:
            log.warning("the token of %s is not renewed yet: %s", self._id, error.detail)
        else:
            return True
        return False
