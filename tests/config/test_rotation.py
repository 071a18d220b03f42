"""A new key for all secrets, and what is left when that is broken off."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.config import tree
from microcosmos.config.config import Config, open_config
from microcosmos.config.keys import FILE, Keys
from microcosmos.config.secrets import new_key
from microcosmos.store import Store, open_store


async def fill(config: Config) -> None:
    for namespace in ("micro", "other"):
        for number in range(4):
            await config.set(namespace, f"s{number}", {"a": number, "b": "x"}, secret=True)
        await config.set(namespace, "s0.a", "again")
        await config.set(namespace, "plain", 1)


async def check(config: Config) -> None:
    for namespace in ("micro", "other"):
        wanted: dict[str, Any] = {f"s{number}": {"a": number, "b": "x"} for number in range(4)}
        wanted["s0"]["a"] = "again"
        assert await config.get(namespace, secret=True) == {**wanted, "plain": 1}


async def used(config: Config) -> set[str]:
    """The keys that something is encrypted with."""
    ids = set()
    for namespace in ("micro", "other"):
        ids |= {one.key for _, one in tree.secrets((await config.document(namespace)).tree)}
        async for revision in config.revisions(namespace):
            for change in revision.changes:
                for node in (change.old, change.new):
                    ids |= {one.key for _, one in tree.secrets(node)}
    return ids


async def test_everything_has_the_new_key_then_and_the_old_one_is_gone(tmp_path: Path) -> None:
    path = tmp_path / FILE
    async with open_store("memory://") as store, open_config(store, Keys("", path)) as config:
        await fill(config)
        before = path.read_text()
        assert await config.rotate_key() == 16
        assert path.read_text() != before
        assert path.stat().st_mode & 0o777 == 0o600
        (key,) = config.keys.all()
        assert await used(config) == {key.id}
        await check(config)
        # It is no change of any value, and the way back stays open.
        assert (await config.document("micro")).revision == 6
        await config.rollback("micro", 4)
        assert await config.get("micro", "s0.a", secret=True) == 0


async def test_without_secrets_there_is_a_key_afterwards() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        assert await config.rotate_key() == 0
        await config.set("micro", "a", 1, secret=True)
        assert await config.get("micro", "a", secret=True) == 1


async def test_writers_do_not_mind(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    keys = Keys("", tmp_path / FILE)
    async with open_store(url) as store, open_config(store, keys) as config:
        await fill(config)
        writing = asyncio.gather(
            *(config.set("micro", f"s1.k{number}", number, secret=True) for number in range(30)),
            *(config.get("micro", secret=True) for _ in range(30)),
        )
        await asyncio.gather(config.rotate_key(), config.rotate_key(), writing)
        (key,) = config.keys.all()
        assert await used(config) == {key.id}
        read = await config.get("micro", "s1", secret=True)
        assert read == {"a": 1, "b": "x", **{f"k{number}": number for number in range(30)}}


async def test_a_key_of_the_operator_is_changed_by_the_operator() -> None:
    old, new = new_key(), new_key()
    async with open_store("memory://") as store:
        async with open_config(store, Keys(old.text())) as config:
            await fill(config)
            with pytest.raises(errors.BadRequest, match="put a new key before it"):
                await config.rotate_key()
        async with open_config(store, Keys(f"{new.text()},{old.text()}")) as config:
            await check(config)
            assert await used(config) == {old.id}
            assert await config.rotate_key() == 16
            assert await used(config) == {new.id}
        async with open_config(store, Keys(new.text())) as config:
            await check(config)


_ROTATE = """
import asyncio, os, signal, sys
from pathlib import Path
from microcosmos.config.config import open_config
from microcosmos.config.keys import FILE, Keys
from microcosmos.store import open_store
from microcosmos.store.table import Table

folder, left = Path(sys.argv[1]), int(sys.argv[2])
write = Table.batch

async def batch(self, ops):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return await write(self, ops)

async def main():
    async with open_store(f"sqlite://{folder}/store.db") as store:
        keys = Keys("", folder / FILE)
        async with open_config(store, keys) as config:
            Table.batch = batch
            await config.rotate_key()

asyncio.run(main())
"""


@pytest.mark.slow
# The documents are two, the revisions with secrets ten.
@pytest.mark.parametrize("writes", [0, 1, 2, 7, 11])
async def test_killed_on_the_way_it_goes_on_at_the_next_start(tmp_path: Path, writes: int) -> None:
    url, path = f"sqlite://{tmp_path}/store.db", tmp_path / FILE
    async with open_store(url) as store, open_config(store, Keys("", path)) as config:
        await fill(config)
    command = [sys.executable, "-c", _ROTATE, str(tmp_path), str(writes)]
    done = await asyncio.to_thread(subprocess.run, command, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(path.read_text().split()) == 2
    async with open_store(url) as store:
        # Each secret opens at once, whichever key it has,
        config = Config(store, Keys("", path))
        await check(config)
        await resumed(store, path)


async def resumed(store: Store, path: Path) -> None:
    """... and soon after the start all have the new one."""
    async with open_config(store, Keys("", path)) as config:
        async with asyncio.timeout(60):
            while len(config.keys.all()) > 1:  # noqa: ASYNC110 - its end is told to nobody
                await asyncio.sleep(0.005)
        (key,) = config.keys.all()
        assert await used(config) == {key.id}
        await check(config)
        assert path.read_text().split() == [key.text()]
