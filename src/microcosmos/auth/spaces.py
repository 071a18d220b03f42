"""Spaces: the changes of namespaces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from microcosmos.base import errors, names
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.store import Op

from .interface import DEFAULT_RULE
from .records import Records
from .standing import NamespaceEntry, RuleEntry

MAX_NAMESPACES = 1000
"""Namespaces of one platform."""

Hook = Callable[[str, bool], Awaitable[None]]
"""Is asked before a namespace goes, with its name and whether that is forced: it removes what it
keeps there, or raises `errors.Conflict` when that should stay.
"""


class Spaces:
    """Makes and removes namespaces; who may do so is for the caller to see to.

    Args:
        records: where they are.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._hooks: list[Hook] = []

    def before_delete(self, hook: Hook) -> None:
        """Ask before a namespace goes."""
        self._hooks.append(hook)

    def ops(self, name: str) -> list[Op]:
        """What makes a namespace that was not there."""
        records, now = self._records, self._records.clock.time()
        return [
            records.put(f"namespace/{name}", NamespaceEntry(now), version=0),
            # In place of one that a namespace of this name may have left behind.
            records.put(f"rule/{name}/{DEFAULT_RULE.id}", RuleEntry(DEFAULT_RULE, now)),
        ]

    async def create(self, name: str) -> None:
        """Make a namespace; it begins with the rule `DEFAULT_RULE`.

        Raises:
            errors.BadRequest: no good name.
            errors.Conflict: there is one of this name, or there are too many.
        """
        names.check_namespace(name)
        known = self._records.standing.policy.rules
        if name in known:
            raise self._taken(name)
        if len(known) >= MAX_NAMESPACES:
            detail = f"there are {MAX_NAMESPACES} namespaces, which is the most; delete some"
            raise errors.Conflict("auth", detail)
        # Of one that went, if the server died before all of it had gone.
        await self._sweep(name)
        note = self._note("namespace created", name)
        try:
            await self._records.commit([*self.ops(name), note])
        except errors.Conflict:
            raise self._taken(name) from None

    def _taken(self, name: str) -> errors.Conflict:
        return errors.Conflict("auth", f"there is a namespace {name} already")

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a namespace: its accounts, its rules, its logins.

        Args:
            name: which.
            force: even if there still is something in it.

        Raises:
            errors.NotFound: there is none.
            errors.Conflict: it is the default one, or something is in it.
        """
        records = self._records
        if name not in records.standing.policy.rules:
            raise errors.NotFound("auth", f"there is no namespace {name!r:.80}")
        if name == DEFAULT_NAMESPACE:
            raise errors.Conflict("auth", f"{name} is the platform's own namespace; it stays")
        if not force:
            await self._check_empty(name)
        for hook in self._hooks:
            await hook(name, force)
        revocation, since = records.revoke(f"namespace/{name}", name, issued=records.soon())
        rules = [f"rule/{name}/{one.rule.id}" for one in records.standing.rules(name)]
        await records.commit(
            [
                records.drop(f"namespace/{name}"),
                *(records.drop(key) for key in rules),
                revocation,
                self._note("namespace deleted", name, "forced" if force else ""),
            ]
        )
        await records.late(f"namespace/{name}", name, since)
        await self._sweep(name)

    def _note(self, action: str, name: str, detail: str = "") -> Op:
        # That there is one or not is a matter of the platform.
        return self._records.audit.op(action, name, detail, namespace=DEFAULT_NAMESPACE)

    async def _check_empty(self, name: str) -> None:
        accounts = await self._records.accounts.list(name, limit=1)
        if accounts:
            detail = f"{name} has accounts, such as {accounts[0].account.id}"
            raise errors.Conflict("auth", f"{detail}; delete them, or force it")

    async def _sweep(self, name: str) -> None:
        """Remove what belongs to a namespace that is not there."""
        await self._records.accounts.sweep(name)
        await self._records.sessions.sweep(name)
        records = await self._records.policy.list(f"rule/{name}/")
        if records:
            await self._records.commit([self._records.drop(key) for key in records])
