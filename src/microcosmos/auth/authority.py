"""Authority: what the core knows of accounts, rules and tokens, and all that may change them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.tasks import background
from microcosmos.store import Op, Store

from .access import Access
from .granting import Granted, Granting
from .interface import Policy
from .keys import TokenKeys
from .passwords import DEFAULT_ID, DEFAULT_PASSWORD, Hash, Passwords
from .people import People
from .records import Records
from .rulebook import Rulebook
from .spaces import Hook, Spaces
from .standing import Entry, KeyEntry
from .tokens import LONGEST

log = logging.getLogger("microcosmos.auth")

KEY_STAYS = 2 * LONGEST
"""Seconds for which the public half of a key is known after the core that has it went away."""

_RENEW_KEYS = 3600.0
_PAUSE = 0.5


class Authority:
    """All of auth, over a store; used as ``async with``.

    Several may share a store: what one of them changes the others know within a second.

    Attributes:
        access: decides by the current policy; the core's own verifier.
        people: the changes of accounts.
        rules: the changes of rules.
        spaces: the changes of namespaces.
        logins: gives tokens.
        records: where all of it is.

    Args:
        store: any table of the store; the database `PLATFORM` of it is used.
        keys: sign tokens.
        admin_password: of the first account, see `passwords.from_environment`; empty is the
            default one.
        clock: all times.
        passwords: hashes and compares them.
    """

    def __init__(
        self,
        store: Store,
        keys: TokenKeys,
        *,
        admin_password: str = "",
        clock: Clock = SYSTEM,
        passwords: Passwords | None = None,
    ) -> None:
        self.records = Records(store, clock, passwords or Passwords())
        self.people = People(self.records)
        self.rules = Rulebook(self.records)
        self.spaces = Spaces(self.records)
        self.logins = Granting(self.records, keys)
        self.access = Access(clock=clock)
        self._keys = keys
        self._clock = clock
        self._admin_password = admin_password
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Authority:
        """Read what stands, and make the first account if there never was one.

        Raises:
            errors.Unavailable: the store is away.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self.records.passwords.close)
            await self.records.load()
            await self._first_start()
            await self._tell_keys()
            # Only from here on is anything decided: by a policy that has rules and keys.
            self.records.standing.listen(self.access.follow)
            await self.records.audit.trim(now=True)
            await stack.enter_async_context(background(self.records.passwords.prepare(), "nobody"))
            await stack.enter_async_context(background(self._follow(), "policy"))
            await stack.enter_async_context(background(self._renew_keys(), "token keys"))
            # First of all when it stops: who waits for news is let go.
            stack.callback(self.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def close(self) -> None:
        """Let go who follows the policy."""
        self.records.standing.close()

    # What stands.

    @property
    def policy(self) -> Policy:
        """The current policy, of all namespaces."""
        return self.records.standing.policy

    def listen(self, callback: Callable[[Policy], None]) -> None:
        """Tell of the policy now, and whenever it changes."""
        self.records.standing.listen(callback)

    def namespaces(self) -> list[str]:
        """Every namespace, sorted."""
        return self.records.standing.namespaces()

    def default_password_stands(self) -> bool:
        """Whether the first account has the password that everybody knows."""
        return self.records.standing.default_password

    # What the rest of the core asks for; more is in `people`, `rules` and `spaces`.

    async def create_namespace(self, name: str) -> None:
        """Make a namespace; see `Spaces.create`."""
        await self.spaces.create(name)

    def before_delete(self, hook: Hook) -> None:
        """Ask before a namespace goes; see `spaces.Hook`."""
        self.spaces.before_delete(hook)

    async def service_secret(self, namespace: str, service: str, replica: str) -> str:
        """A new secret of a replica, in place of its former one; see `People.service_secret`."""
        return await self.people.service_secret(namespace, service, replica)

    async def service_account(self, namespace: str, service: str) -> None:
        """Make the account of a service, if there is none; see `People.service_account`."""
        await self.people.service_account(namespace, service)

    async def service_token(self, namespace: str, service: str) -> Granted:
        """A token by which the platform acts for a service; see `Granting.for_service`."""
        return await self.logins.for_service(namespace, service)

    async def forget_service(self, namespace: str, service: str) -> None:
        """Remove the account of a service; see `People.forget_service`."""
        await self.people.forget_service(namespace, service)

    async def has_account(self, namespace: str, id: str) -> bool:
        """Whether there is an account."""
        return await self.records.accounts.find(namespace, id) is not None

    async def audit(
        self, action: str, subject: str, detail: str = "", *, namespace: str = ""
    ) -> None:
        """Note who did what; who is the account of the call being handled.

        Args:
            action: what was done, such as ``deployment created``.
            subject: to what.
            detail: the rest, without secrets.
            namespace: where; that of the call being handled, unless said.
        """
        await self.records.audit.add(action, subject, detail, namespace=namespace)

    async def rotate_keys(self, *, forget: bool = False) -> None:
        """Sign by a new key from now on; see `TokenKeys.rotate`."""
        before = self._keys.public()
        self._keys.rotate(forget=forget)
        after = self._keys.public()
        note = self.records.audit.op(
            "key rotated",
            self._keys.signer.id,
            "all tokens end" if forget else "",
            namespace=DEFAULT_NAMESPACE,
        )
        gone = [self.records.drop(f"key/{id}") for id in before if id not in after]
        await self.records.commit([*self._key_ops(), *gone, note])

    # How it is kept current.

    async def _first_start(self) -> None:
        standing, password = self.records.standing, self._admin_password
        if standing.started:
            if password and standing.default_password:
                await self.people.change_secret(DEFAULT_NAMESPACE, DEFAULT_ID, password)
            return
        kept = await self.records.passwords.hash(password or DEFAULT_PASSWORD)
        try:
            await self.records.commit(self._first_ops(kept, default=not password))
        except errors.Conflict:
            # Another core was faster; what it made is there.
            await self.records.load()

    def _first_ops(self, secret: Hash, *, default: bool) -> list[Op]:
        return [
            *self.spaces.ops(DEFAULT_NAMESPACE),
            *self.people.first(secret, default=default),
        ]

    async def _follow(self) -> None:
        """Take over what other cores write, and what the store lets expire, for ever."""
        while True:
            try:
                await self._watch()
            except errors.Error as exc:
                await self._read_again(exc)

    async def _watch(self) -> None:
        standing = self.records.standing
        async with self.records.policy.watch(since=standing.seen) as changes:
            async for change in changes:
                value = change.record.value if change.record is not None else None
                standing.apply([Entry(change.key, change.version, value)], settled=True)

    async def _read_again(self, cause: errors.Error) -> None:
        if not isinstance(cause, errors.Conflict):
            log.warning("changes of accounts and rules by others are not seen now: %s", cause)
            await self._clock.sleep(_PAUSE)
        try:
            await self.records.load()
        except errors.Error as exc:
            log.warning("accounts and rules cannot be read now: %s", exc)
            await self._clock.sleep(_PAUSE)

    async def _renew_keys(self) -> None:
        while True:
            await self._clock.sleep(_RENEW_KEYS)
            try:
                self._keys.refresh()
                self._keys.prune()
                await self._tell_keys()
            except (errors.Error, OSError) as exc:
                log.warning("the token keys could not be renewed: %s", exc)

    async def _tell_keys(self) -> None:
        """Let every core know what verifies the tokens of this one."""
        await self.records.commit(self._key_ops())

    def _key_ops(self) -> list[Op]:
        return [
            self.records.put(f"key/{id}", KeyEntry(x), expiry=KEY_STAYS)
            for id, x in self._keys.public().items()
        ]
