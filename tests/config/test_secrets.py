"""Secrets: encrypted at rest for one place, masked unless asked for, and keys that are lost."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from microcosmos.base import codec, errors
from microcosmos.base.home import Home
from microcosmos.base.profiles import CLUSTER, LOCAL, TEST
from microcosmos.config import history, tree
from microcosmos.config.config import Config, open_config
from microcosmos.config.interface import MASK, Kept
from microcosmos.config.keys import FILE, VARIABLE, Keys, from_environment
from microcosmos.config.secrets import Key, new_key
from microcosmos.store import PLATFORM, Store, open_store

CLEAR = "Very secret stuff"


async def everything(store: Store) -> str:
    """All that the store holds of config."""
    text = ""
    for table in ("config", history.TABLE):
        for record in await store.table(table, database=PLATFORM).read(prefix=""):
            text += record.value.decode()
    return text


async def test_a_secret_is_nowhere_in_the_clear() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "a.hush", CLEAR, secret=True)
        await config.set("micro", "a.hush", CLEAR + "!", secret=True)
        await config.set("micro", "b", {"x": {"y": CLEAR}, "z": [CLEAR]}, secret=True)
        await config.delete("micro", "b.x")
        await config.rollback("micro", 3)
        assert CLEAR not in await everything(store)
        assert await config.get("micro") == {
            "a": {"hush": MASK},
            "b": {"x": {"y": MASK}, "z": MASK},
        }
        clear = {"a": {"hush": CLEAR + "!"}, "b": {"x": {"y": CLEAR}, "z": [CLEAR]}}
        assert await config.get("micro", secret=True) == clear


@pytest.mark.parametrize("value", [42, 1.5, True, None, "x", [1, {"a": 2}]])
async def test_its_type_comes_back(value: Any) -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "a", value, secret=True)
        assert await config.get("micro", "a") == MASK
        assert codec.encode(await config.get("micro", "a", secret=True)) == codec.encode(value)


async def test_what_replaces_a_secret_is_a_secret_until_it_is_deleted() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "db", {"host": "a", "password": "x"})
        await config.set("micro", "db.password", "hunter2", secret=True)
        # As a service does that reads its settings, changes one and writes them back.
        await config.set("micro", "db", {"host": "b", "password": "hunter3"})
        assert await config.get("micro", "db") == {"host": "b", "password": MASK}
        await config.set("micro", "db.password", {"old": "hunter2", "new": "hunter3"})
        assert await config.get("micro", "db.password") == {"old": MASK, "new": MASK}
        assert "hunter3" not in await everything(store)
        await config.delete("micro", "db.password")
        await config.set("micro", "db.password", "plain")
        assert await config.get("micro", "db.password") == "plain"


async def test_the_mask_written_back_leaves_the_secret_alone() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "db", {"user": "ann", "password": "hunter2"}, secret=True)
        masked = await config.get("micro", "db")
        revision = await config.set("micro", "db", {**masked, "host": "x"})
        assert await config.get("micro", "db", secret=True) == {
            "user": "ann",
            "password": "hunter2",
            "host": "x",
        }
        assert await config.set("micro", "db", masked, secret=True) == revision


async def test_the_same_secret_again_is_no_change() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        assert await config.set("micro", "a", 1, secret=True) == 1
        assert await config.set("micro", "a", 1, secret=True) == 1
        assert await config.set("micro", "a", True, secret=True) == 2


async def test_a_ciphertext_opens_at_its_own_place_only() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "a", "one", secret=True)
        await config.set("micro", "b", "two", secret=True)
        await config.set("other", "a", "three", secret=True)
        documents = store.table("config", database=PLATFORM)

        def swap(kept: Kept) -> Kept:
            kept.tree["a"], kept.tree["b"] = kept.tree["b"], kept.tree["a"]
            return kept

        moved = await documents.modify("micro", swap, Kept)
        for path in ("a", "b"):
            with pytest.raises(errors.InternalServerError, match=f"the secret {path} is damaged"):
                await config.get("micro", path, secret=True)
        await documents.write("other", codec.encode(moved))
        with pytest.raises(errors.InternalServerError, match="damaged or was moved"):
            await config.get("other", "b", secret=True)
        # It can be set again, and everything else goes on.
        await config.set("micro", "a", "again", secret=True)
        assert await config.get("micro", "a", secret=True) == "again"


def keys_in(folder: Path, **options: Any) -> Keys:
    return Keys("", folder / FILE, **options)


async def test_a_key_is_made_on_first_use_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / FILE
    async with open_store("memory://") as store, open_config(store, keys_in(tmp_path)) as config:
        await config.set("micro", "plain", 1)
        assert not path.exists()
        await config.set("micro", "a", CLEAR, secret=True)
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(base64.b64decode(path.read_text().strip(), validate=True)) == 32
        assert await config.get("micro", "a", secret=True) == CLEAR
    assert [*tmp_path.iterdir()] == [path]


async def lose(config: Config, path: str = "") -> errors.Error:
    with pytest.raises(errors.InternalServerError) as caught:
        await config.get("micro", path, secret=True)
    return caught.value


@pytest.mark.parametrize("fate", ["gone", "other"])
async def test_a_lost_key_is_told_with_the_ways_out(tmp_path: Path, fate: str) -> None:
    path = tmp_path / FILE
    async with open_store("memory://") as store:
        async with open_config(store, keys_in(tmp_path)) as config:
            await config.set("micro", "a", CLEAR, secret=True)
            await config.set("micro", "b", 1)
        kept = path.read_text()
        path.unlink() if fate == "gone" else path.write_text(new_key().text())
        found = await everything(store)
        async with open_config(store, keys_in(tmp_path)) as config:
            error = await lose(config, "a")
            assert str(path) in error.detail
            assert "micro config del a" in error.detail
            assert Key(base64.b64decode(kept)).id in error.detail
            assert kept.strip() not in error.detail
            # Plain values go on, and nothing is encrypted that the right key would not open.
            await config.set("micro", "b", 2)
            assert await config.get("micro") == {"a": MASK, "b": 2}
            for attempt in (
                config.set("micro", "a", "new", secret=True),
                config.set("micro", "c", "new", secret=True),
                config.set("micro", "a", "new"),
            ):
                with pytest.raises(errors.InternalServerError, match="put that key back"):
                    await attempt
            with pytest.raises(errors.InternalServerError, match="put that key back"):
                await config.rotate_key()
            if fate == "gone":
                with pytest.raises(errors.InternalServerError, match="put that key back"):
                    await config.set("other", "c", "new", secret=True)
                assert not path.exists()
            assert found.split('"a":')[1][:80] == (await everything(store)).split('"a":')[1][:80]
            # One way out: no restart is needed.
            path.write_text(kept)
            assert await config.get("micro", "a", secret=True) == CLEAR
            # The other one.
            path.unlink()
            await config.delete("micro", "a")
            await config.set("micro", "a", "new", secret=True)
            assert await config.get("micro", "a", secret=True) == "new"


@pytest.mark.parametrize("text", ["nonsense", "c2hvcnQ=", "ü", "", base64.b64encode(b"x" * 31)])
async def test_a_bad_key_is_told_and_only_secrets_stop(tmp_path: Path, text: str | bytes) -> None:
    text = text.decode() if isinstance(text, bytes) else text
    (tmp_path / FILE).write_text(text)
    for keys in (keys_in(tmp_path), *([Keys(text)] if text else [])):
        async with open_store("memory://") as store, open_config(store, keys) as config:
            await config.set("micro", "plain", 1)
            with pytest.raises(errors.InternalServerError) as caught:
                await config.set("micro", "a", CLEAR, secret=True)
            where = VARIABLE if keys.given else str(tmp_path / FILE)
            assert where in caught.value.detail
            assert not text or text not in caught.value.detail
            assert await config.get("micro") == {"plain": 1}
    assert (tmp_path / FILE).read_text() == text


async def test_a_file_that_others_may_read_is_closed(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / FILE
    path.write_text(new_key().text())
    path.chmod(0o644)
    keys = keys_in(tmp_path)
    assert len(keys.all()) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert "open to other users" in caplog.text


async def test_a_key_that_cannot_be_kept_encrypts_nothing(tmp_path: Path) -> None:
    keys = Keys("", tmp_path / "nowhere" / FILE)
    async with open_store("memory://") as store, open_config(store, keys) as config:
        with pytest.raises(errors.InternalServerError, match="cannot be kept in"):
            await config.set("micro", "a", CLEAR, secret=True)
        assert (await config.document("micro")).revision == 0


def test_where_a_server_has_its_key_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert from_environment(home, LOCAL).where == str(tmp_path / FILE)
    from_environment(home, LOCAL).make()
    assert not caplog.records
    (tmp_path / FILE).unlink()
    # Outside of a laptop one is told.
    with caplog.at_level(logging.WARNING):
        from_environment(home, CLUSTER).make()
    assert VARIABLE in caplog.text
    (tmp_path / FILE).unlink()
    # The profile `test` leaves nothing behind.
    from_environment(home, TEST).make()
    assert not [*tmp_path.iterdir()]
    key = new_key()
    monkeypatch.setenv(VARIABLE, key.text() + "\n")
    keys = from_environment(home, LOCAL)
    assert keys.given
    assert [one.id for one in keys.all()] == [key.id]
    assert not [*tmp_path.iterdir()]


def test_stored_forms_are_unambiguous() -> None:
    node = tree.from_kept({"a": [["x"]], "b": ["id", "data"], "c": [None], "d": {}})
    assert msgspec.json.encode(tree.to_kept(node)) == (
        b'{"a":[["x"]],"b":["id","data"],"c":[null],"d":{}}'
    )
    assert [path for path, _ in tree.secrets(node)] == [("b",)]
