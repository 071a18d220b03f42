"""Standing: the policy as the entries of one table make it, and who is told of its changes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from microcosmos.base.context import DEFAULT_NAMESPACE

from .interface import Policy, Rule

log = logging.getLogger("microcosmos.auth")


class NamespaceEntry(msgspec.Struct, frozen=True):
    """``namespace/NAME``: that there is one."""

    created: float


class RuleEntry(msgspec.Struct, frozen=True):
    """``rule/NAMESPACE/ID``: a rule, and when it was made."""

    rule: Rule
    created: float


class RevokedEntry(msgspec.Struct, frozen=True):
    """``revoked/…``: what was issued until a time is refused; the rest of the key says of whom."""

    until: float
    namespace: str


class KeyEntry(msgspec.Struct, frozen=True):
    """``key/ID``: the public half of a key that signs, or did so lately."""

    x: str


class AdminEntry(msgspec.Struct, frozen=True):
    """``admin``: the first account was made, and whether its password is the one of the docs."""

    default: bool


_KINDS: dict[str, Any] = {
    "namespace": NamespaceEntry,
    "rule": RuleEntry,
    "revoked": RevokedEntry,
    "key": KeyEntry,
    "admin": AdminEntry,
}


_VERSIONS = 1000


class Entry(NamedTuple):
    """An entry of the table as of a version; without a value it is gone."""

    key: str
    version: int
    value: bytes | None


class Standing:
    """Holds what stands, and makes the policy of it.

    An entry is told of twice, by who wrote it and by the store's watch, in either order: the
    newer version counts.

    Attributes:
        policy: the current one.
        seen: the version up to which everything is known, whoever wrote it.
    """

    def __init__(self) -> None:
        self.policy = Policy(epoch=secrets.token_hex(8))
        # By kind, then by the rest of the key.
        self._entries: dict[str, dict[str, Any]] = {}
        self._rules: dict[str, dict[str, RuleEntry]] = {}
        # What of these policies have, as long as it does not change.
        self._lists: dict[str, list[Rule]] = {}
        self._versions: dict[str, int] = {}
        self._floor = 0
        self.seen = 0
        self._listeners: list[Callable[[Policy], None]] = []
        self._news = asyncio.Event()
        self._closed = False

    def listen(self, callback: Callable[[Policy], None]) -> None:
        """Tell of the policy now, and whenever it changes."""
        self._listeners.append(callback)
        callback(self.policy)

    async def news(self, version: int) -> bool:
        """Wait until the policy has another version; False when nothing will come any more."""
        while self.policy.version == version and not self._closed:
            await self._news.wait()
        return not self._closed

    def close(self) -> None:
        """Let go who waits for news."""
        self._closed = True
        self._news.set()

    def replace(self, entries: Iterable[Entry], version: int) -> None:
        """Take over the whole table as of a version."""
        for kept in (self._entries, self._rules, self._lists, self._versions):
            kept.clear()
        self._floor = 0
        for entry in entries:
            self._take(entry)
        self.seen = version
        self._publish()

    def apply(self, entries: Iterable[Entry], *, settled: bool = False) -> None:
        """Take over changes.

        Args:
            entries: the changes.
            settled: they come from the watch, before which all older ones came.
        """
        changed = False
        for entry in entries:
            if entry.version > self._versions.get(entry.key, self._floor):
                changed |= self._take(entry)
            if settled:
                self.seen = entry.version
        if len(self._versions) > _VERSIONS:
            self._forget()
        if changed:
            self._publish()

    def _take(self, entry: Entry) -> bool:
        """Take over one; whether anything is different now."""
        self._versions[entry.key] = entry.version
        kind, _, rest = entry.key.partition("/")
        said = _read(entry, kind)
        if kind == "rule":
            namespace, _, rest = rest.partition("/")
            shelf = self._rules.setdefault(namespace, {})
            self._lists.pop(namespace, None)
        else:
            shelf = self._entries.setdefault(kind, {})
        before = shelf.pop(rest, None)
        if said is not None:
            shelf[rest] = said
        return bool(said != before)

    def _forget(self) -> None:
        """Forget versions up to which the watch has come; older news of them come too late."""
        self._floor = self.seen
        newer = {key: version for key, version in self._versions.items() if version > self.seen}
        self._versions = newer

    def _publish(self) -> None:
        self.policy = Policy(
            epoch=self.policy.epoch,
            version=self.policy.version + 1,
            keys={key: said.x for key, said in self._of("key").items()},
            rules={name: self._list(name) for name in self._of("namespace")},
            revoked={key: said.until for key, said in self._of("revoked").items()},
        )
        news, self._news = self._news, asyncio.Event()
        news.set()
        for listener in self._listeners:
            try:
                listener(self.policy)
            except Exception:
                log.exception("a listener of the policy failed")

    def _of(self, kind: str) -> dict[str, Any]:
        return self._entries.get(kind, {})

    def _list(self, namespace: str) -> list[Rule]:
        if namespace not in self._lists:
            self._lists[namespace] = [one.rule for one in self.rules(namespace)]
        return self._lists[namespace]

    def rules(self, namespace: str) -> list[RuleEntry]:
        """The rules of a namespace: those that decide first come first, then the newest."""
        found = self._rules.get(namespace, {}).values()
        return sorted(found, key=lambda one: (-one.rule.priority, -one.created, one.rule.id))

    def namespaces(self) -> list[str]:
        """Every namespace, sorted."""
        return sorted(self.policy.rules)

    @property
    def started(self) -> bool:
        """Whether the first account was ever made."""
        return bool(self._of("admin"))

    @property
    def default_password(self) -> bool:
        """Whether it still has the password of the docs."""
        said = self._of("admin").get("")
        return said is not None and bool(said.default)

    def of(self, namespace: str) -> Policy:
        """What the processes of one namespace are told: nothing of the others.

        An admin of the default namespace enters all of them, so that its revocations count here.
        """
        policy = self.policy
        mine = (namespace, DEFAULT_NAMESPACE)
        rules = policy.rules.get(namespace)
        return Policy(
            epoch=policy.epoch,
            version=policy.version,
            keys=policy.keys,
            rules={} if rules is None else {namespace: rules},
            revoked={
                key: said.until
                for key, said in self._of("revoked").items()
                if said.namespace in mine
            },
        )


def _read(entry: Entry, kind: str) -> Any:
    """What an entry says; None if nothing, or nothing that is known here."""
    if entry.value is None or kind not in _KINDS:
        return None
    try:
        return msgspec.json.decode(entry.value, type=_KINDS[kind])
    except (ValueError, RecursionError) as exc:
        log.error("the entry %s of the policy cannot be read: %s", entry.key, exc)
        return None
