"""Secrets of functions, and the key that they share with config."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.config.config import open_config
from microcosmos.config.keys import Keys

from .plane import draft, opened


async def test_a_new_key_takes_the_secrets_of_functions_along(tmp_path: Path) -> None:
    keys = Keys("", tmp_path / "key")
    async with opened(keys=keys) as plane:
        functions = await plane.admin()
        for n in range(3):
            await functions.deploy(draft(f"f{n}", secrets={"A": f"a{n}", "B": "b"}))
        share = (await plane.catalogue.get("micro", "f0")).head.shares[0]
        async with open_config(plane.store, keys, sharers=[plane.catalogue.secrets]) as config:
            await config.set("micro", "x", "y", secret=True)
            old = keys.all()[0].id
            assert await config.rotate_key() == 7
        assert len(keys.all()) == 1
        assert keys.all()[0].id != old
        unit = await plane.platform.unit("micro", "f2", 1)
        assert unit.env == {"A": "a2", "B": "b"}
        # Nothing has to be loaded anew for it.
        assert (await plane.catalogue.get("micro", "f0")).head.shares[0] == share


async def test_deploys_meanwhile_lose_no_secret(tmp_path: Path) -> None:
    keys = Keys("", tmp_path / "key")
    async with opened(f"sqlite://{tmp_path}/store.db", keys=keys) as plane:
        functions = await plane.admin()
        await functions.deploy(draft("f0", secrets={"A": "0"}))
        async with open_config(plane.store, keys, sharers=[plane.catalogue.secrets]) as config:

            async def deploying() -> None:
                for n in range(1, 15):
                    await functions.deploy(draft(f"f{n}", secrets={"A": str(n)}))

            async def rotating() -> None:
                for _ in range(4):
                    await config.rotate_key()

            await asyncio.gather(deploying(), rotating())
        assert len(keys.all()) == 1
        for n in range(15):
            assert (await plane.platform.unit("micro", f"f{n}", 1)).env == {"A": str(n)}


async def test_a_key_that_is_gone_is_named_and_no_other_is_made(tmp_path: Path) -> None:
    url, path = f"sqlite://{tmp_path}/store.db", tmp_path / "key"
    async with opened(url, keys=Keys("", path)) as plane:
        await (await plane.admin()).deploy(draft(secrets={"A": "a"}))
    kept = path.read_text()
    path.unlink()
    async with opened(url, keys=Keys("", path)) as plane:
        functions = await plane.admin()
        with pytest.raises(errors.InternalServerError, match="secret of function hello A was"):
            await plane.platform.unit("micro", "hello", 1)
        with pytest.raises(errors.InternalServerError, match="put that key back"):
            await functions.deploy(draft("other", secrets={"B": "b"}))
        assert not path.exists()
        await functions.deploy(draft("plain"))
        path.write_text(kept)
        assert (await plane.platform.unit("micro", "hello", 1)).env == {"A": "a"}


async def test_a_secret_opens_where_it_was_put_only() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft("one", secrets={"A": "of one"}))
        await functions.deploy(draft("two", secrets={"A": "of two"}))
        table = plane.store.table("functions").part("secrets")
        first, second = await table.list()
        await table.write(second, (await table.read(first)).value)
        with pytest.raises(errors.InternalServerError, match="A of function two is damaged"):
            await plane.platform.unit("micro", "two", 1)
        # It can be set again.
        await functions.deploy(draft("two", secrets={"A": "anew"}))
        assert (await plane.platform.unit("micro", "two", 2)).env == {"A": "anew"}
