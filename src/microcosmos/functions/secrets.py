"""The secrets of functions, each encrypted by a key of config for the one place where it is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping

import msgspec

from microcosmos.base import codec, errors
from microcosmos.config.interface import Secret
from microcosmos.config.keys import Keys
from microcosmos.store import Delete, Op, Store, Write

from .versions import Which

PAGE = 500
"""Secrets that are looked through at once when the key is changed."""

_ROOM = "$functions"
_MARK = 8


class Kept(msgspec.Struct, frozen=True):
    """A secret as the store has it.

    Attributes:
        mark: another one whenever the value is; tells nothing of it.
        key: the id of the key that opens it.
        data: see `config.interface.Secret`.
    """

    mark: str
    key: str
    data: str


class Secrets:
    """Keeps secrets; one of those that a new config key has to be told to.

    Attributes:
        table: theirs.
        writing: held from when values are encrypted until they are written, so that no key is
            dropped in between.

    Args:
        table: theirs.
        keys: of config.
    """

    def __init__(self, table: Store, keys: Keys) -> None:
        self.writing = asyncio.Lock()
        self.table = table
        self._keys = keys

    async def put(
        self, which: Which, values: Mapping[str, str], known: Mapping[str, str]
    ) -> tuple[list[Op], dict[str, str]]:
        """What keeps values, and their marks; `writing` has to be held.

        Args:
            which: whose.
            values: by name.
            known: the marks of those that are kept.

        Raises:
            errors.InternalServerError: the key is not here.
        """
        if not values:
            return [], {}
        if not self._keys.all():
            await self.check()
            self._keys.make()
        ops: list[Op] = []
        marks: dict[str, str] = {}
        for name, value in values.items():
            old = await self._find(which, name) if name in known else None
            if old is not None and self._opens_to(which, name, old, value):
                marks[name] = old.mark
                continue
            sealed = self._keys.all()[0].seal(which.namespace, _path(which, name), value)
            kept = Kept(secrets.token_hex(_MARK), sealed.key, sealed.data)
            marks[name] = kept.mark
            ops.append(Write(which.prefix + name, codec.encode(kept), table=self._scope))
        return ops, marks

    async def open(self, which: Which, names: Iterable[str]) -> dict[str, str]:
        """The values of secrets.

        Raises:
            errors.Unavailable: one is gone; the detail names it.
            errors.InternalServerError: its key is not here, or it is damaged.
        """
        values: dict[str, str] = {}
        for name in names:
            kept = await self._find(which, name)
            if kept is None:
                raise gone(which.name, name)
            values[name] = self._open(which, name, kept)
        return values

    def forget(self, which: Which, name: str) -> Op:
        """What removes a secret."""
        return Delete(which.prefix + name, table=self._scope)

    @property
    def _scope(self) -> str:
        return self.table.scope[1]

    async def _find(self, which: Which, name: str) -> Kept | None:
        return await self.table.get(which.prefix + name, Kept)

    def _open(self, which: Which, name: str, kept: Kept) -> str:
        key = self._keys.find(kept.key)
        if key is None:
            raise self._lost(f"{which.name} {name}", kept)
        try:
            value = key.open(which.namespace, _path(which, name), Secret(kept.key, kept.data))
        except errors.InternalServerError:
            detail = f"the secret {name} of function {which.name} is damaged; deploy it again"
            raise errors.InternalServerError("functions.secret", detail) from None
        return str(value)

    def _opens_to(self, which: Which, name: str, kept: Kept, value: str) -> bool:
        try:
            return self._open(which, name, kept) == value
        except errors.InternalServerError:
            return False  # damaged: it is set again

    def _lost(self, what: str, kept: Kept) -> errors.Error:
        return errors.InternalServerError(
            "config.key",
            f"the secret of function {what} was encrypted with the key {kept.key}, which is not in "
            f"{self._keys.where}: put that key back, or deploy the secret again",
        )

    # A new key: see `config.rotation`.

    async def check(self) -> None:
        """Refuse to go on while a secret cannot be opened.

        Raises:
            errors.InternalServerError: one cannot.
        """
        async for key in self.table.all_keys(batch_size=PAGE):
            kept = await self.table.get(key, Kept)
            if kept is not None and self._keys.find(kept.key) is None:
                _, name, _, secret = key.split("/")
                raise self._lost(f"{name} {secret}", kept)

    async def again(self) -> bool:
        """Encrypt with the current key what another one encrypted; whether anything was."""
        async with self.writing:
            pass  # What was encrypted before is written now.
        changed = False
        async for key in self.table.all_keys(batch_size=PAGE):
            changed |= await self._again(key)
        return changed

    async def count(self) -> int:
        """How many there are."""
        return await self.table.count()

    async def _again(self, key: str) -> bool:
        namespace, name, id, secret = key.split("/")
        which = Which(namespace, name, id)
        while True:
            async with self.writing:
                try:
                    record = await self.table.read(key)
                except errors.NotFound:
                    return False
                kept = msgspec.json.decode(record.value, type=Kept)
                current = self._keys.all()[0]
                if kept.key == current.id or self._keys.find(kept.key) is None:
                    return False
                try:
                    value = self._open(which, secret, kept)
                except errors.InternalServerError:
                    return False  # damaged: no key opens it
                sealed = current.seal(namespace, _path(which, secret), value)
                data = codec.encode(Kept(kept.mark, sealed.key, sealed.data))
                try:
                    await self.table.batch([Write(key, data, version=record.version)])
                except errors.Conflict:
                    continue
                return True


def gone(function: str, secret: str) -> errors.Unavailable:
    """The error of a version that cannot run for want of a secret."""
    detail = f"function {function} needs the secret {secret}, which is gone; deploy it with one"
    return errors.Unavailable("functions.secret", detail)


def _path(which: Which, name: str) -> tuple[str, ...]:
    return (_ROOM, which.name, which.id, name)
