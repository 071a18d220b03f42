"""Rulebook: the changes of rules."""

from __future__ import annotations

import asyncio

from microcosmos.base import codec, errors
from microcosmos.store import Op

from . import ruling
from .access import unknown
from .interface import Rule
from .records import Records
from .standing import RuleEntry

MAX_SIZE = 4 * 1024 * 1024
"""Bytes of the rules of all namespaces as JSON: gateways get them in one message."""


class Rulebook:
    """Makes, removes and lists rules; who may do so is for the caller to see to.

    Args:
        records: where they are.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._creating = asyncio.Lock()

    async def create(self, namespace: str, rule: Rule) -> None:
        """Make a rule.

        Raises:
            errors.BadRequest: it is no good rule.
            errors.Conflict: the id is taken, or there are too many.
            errors.NotFound: there is no such namespace.
        """
        ruling.check(rule)
        # One at a time, so that the limits are not passed together.
        async with self._creating:
            await self._create(namespace, rule)

    async def _create(self, namespace: str, rule: Rule) -> None:
        if len(self._of(namespace)) >= ruling.MAX_RULES:
            detail = f"{namespace} has {ruling.MAX_RULES} rules, which is the most; delete some"
            raise errors.Conflict("auth", detail)
        self._check_size(rule)
        entry = RuleEntry(rule, self._records.clock.time())
        put = self._records.put(_key(namespace, rule.id), entry, version=0)
        try:
            await self._records.commit([put, self._note("rule created", namespace, rule)])
        except errors.Conflict:
            detail = f"there is a rule {rule.id} in {namespace} already; delete it first"
            raise errors.Conflict("auth", detail) from None

    def _check_size(self, rule: Rule) -> None:
        size = len(codec.encode(self._records.standing.policy.rules)) + len(codec.encode(rule))
        if size > MAX_SIZE:
            detail = f"the rules of all namespaces have {size} bytes; at most {MAX_SIZE} are kept"
            raise errors.Conflict("auth", f"{detail}; delete some")

    async def delete(self, namespace: str, id: str) -> None:
        """Remove a rule.

        Raises:
            errors.NotFound: there is none, or no such namespace.
        """
        rule = next((rule for rule in self._of(namespace) if rule.id == id), None)
        if rule is None:
            raise errors.NotFound("auth", f"there is no rule {id!r:.120} in {namespace}")
        drop = self._records.drop(_key(namespace, id))
        await self._records.commit([drop, self._note("rule deleted", namespace, rule)])

    def _note(self, action: str, namespace: str, rule: Rule) -> Op:
        said = f"{rule.access} {rule.resource} to {rule.scope or '<public>'} at {rule.priority}"
        return self._records.audit.op(action, rule.id, said, namespace=namespace)

    def _of(self, namespace: str) -> list[Rule]:
        found = self._records.standing.policy.rules.get(namespace)
        if found is None:
            raise unknown(namespace)
        return found

    # Last, because after it the name means this method to a type checker.
    def list(self, namespace: str) -> list[Rule]:
        """The rules of a namespace: the highest priority first, of equal ones the newest.

        Raises:
            errors.NotFound: there is no such namespace.
        """
        self._of(namespace)
        return [one.rule for one in self._records.standing.rules(namespace)]


def _key(namespace: str, id: str) -> str:
    return f"rule/{namespace}/{id}"
