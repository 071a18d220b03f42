"""What set and delete make of a document, against a model that knows only paths of leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import codec, errors
from microcosmos.config.config import open_config
from microcosmos.config.interface import MASK, MAX_DOCUMENT
from microcosmos.store import open_store

KEYS = st.sampled_from(["a", "b", "c", "d.e"])
PATHS = st.lists(KEYS, min_size=1, max_size=3)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, 1.0, -1.5]),
    st.text("xy", max_size=2),
    st.lists(st.integers(0, 1), max_size=2),
)
VALUES = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), PATHS, VALUES, st.booleans()),
        st.tuples(st.just("delete"), PATHS, st.none(), st.booleans()),
        st.tuples(st.just("rollback"), PATHS, st.integers(0, 9), st.booleans()),
    ),
    max_size=10,
)


def typed(path: list[str]) -> str:
    return ".".join(key.replace(".", "\\.") for key in path)


def model_set(document: Any, path: list[str], value: Any) -> Any:
    """The reference in words: maps merge leaf by leaf, anything else replaces."""
    if path:
        here = dict(document) if isinstance(document, dict) else {}
        here[path[0]] = model_set(here.get(path[0]), path[1:], value)
        return here
    if isinstance(value, dict):
        here = dict(document) if isinstance(document, dict) else {}
        for key, inner in value.items():
            here[key] = model_set(here.get(key), [], inner)
        return here
    return value


def model_delete(document: Any, path: list[str]) -> Any:
    if not isinstance(document, dict) or path[0] not in document:
        raise KeyError(path)
    if len(path) == 1:
        return {key: inner for key, inner in document.items() if key != path[0]}
    return {**document, path[0]: model_delete(document[path[0]], path[1:])}


def exact(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_it_does_what_the_model_does(steps) -> None:
    async def run() -> None:
        async with open_store("memory://") as store, open_config(store) as config:
            model: Any = {}
            past = [model]
            for action, path, value, secret in steps:
                if action == "set":
                    now = await config.set("micro", typed(path), value, secret=secret)
                    model = model_set(model, path, value)
                elif action == "delete":
                    try:
                        expected = model_delete(model, path)
                    except KeyError:
                        with pytest.raises(errors.NotFound):
                            await config.delete("micro", typed(path))
                        continue
                    now = await config.delete("micro", typed(path))
                    model = expected
                elif value < len(past):
                    now = await config.rollback("micro", value)
                    model = past[value]
                else:
                    continue
                if now == len(past):
                    past.append(model)
                assert now == len(past) - 1
                document = await config.document("micro")
                assert document.revision == now
                if model:
                    read = await config.get("micro", secret=True)
                    assert exact(read) == exact(model)
                else:
                    assert document.tree == {}

    asyncio.run(run())


async def value_of(config: Any, path: str = "") -> str:
    return codec.encode(await config.get("micro", path)).decode()


async def test_the_merges_of_the_reference() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "helloworld", {"a": 1})
        await config.set("micro", "helloworld", {"b": 2})
        assert await value_of(config, "helloworld") == '{"a":1,"b":2}'
        await config.set("micro", "helloworld.a", {"x": {"y": 1}})
        assert await value_of(config, "helloworld") == '{"a":{"x":{"y":1}},"b":2}'
        await config.set("micro", "helloworld.a.x", "text")
        assert await value_of(config, "helloworld") == '{"a":{"x":"text"},"b":2}'
        await config.set("micro", "helloworld.a.x.y.z", True)
        assert await value_of(config, "helloworld") == '{"a":{"x":{"y":{"z":true}}},"b":2}'
        await config.set("micro", "helloworld", 5)
        assert await value_of(config) == '{"helloworld":5}'


async def test_types_are_told_apart_and_the_same_value_is_no_change() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        for revision, value in enumerate((1, True, 1.0, "1", [1], None, {}), 1):
            assert await config.set("micro", "x", value) == revision
            assert await config.set("micro", "x", value) == revision
            assert codec.encode(await config.get("micro", "x")) == codec.encode(value)
        # A map merges with an empty one to what it is.
        assert await config.set("micro", "x", {"y": 1}) == 8


async def test_big_numbers_and_texts_come_back_to_the_letter() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        for value in (2**70, -(2**63), 1e300, "ünïcødé ☃ 🦄", "a\nb\t\x00", "[secret] ", '"'):
            for secret in (False, True):
                await config.set("micro", f"x{secret}", value, secret=secret)
                assert await config.get("micro", f"x{secret}", secret=True) == value


async def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    deeper: Any = 1
    for _ in range(100_000):
        deeper = {"a": deeper}
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "kept", 1)
        for path, value, told in (
            ("", 5, "only a map"),
            ("", [1], "only a map"),
            ("a..b", 1, "empty key"),
            ("a", {"": 1}, "key of a map is empty"),
            ("a", {"b": {"c\n": 1}}, "cannot be printed"),
            ("a", deep, "at most 32"),
            ("a", deeper, "no JSON"),
            ("a", {"b": [float("nan")]}, "no number nan"),
            ("a", object(), "no JSON"),
            ("a", "\ud800", "no JSON"),
            ("kept", MASK, "what a secret reads as"),
            ("a", {"b": MASK}, "what a secret reads as"),
        ):
            with pytest.raises(errors.BadRequest) as caught:
                await config.set("micro", path, value)
            assert told in caught.value.detail, caught.value.detail
        with pytest.raises(errors.TooLarge, match="at most 1048576"):
            await config.set("micro", "a", "x" * MAX_DOCUMENT)
        with pytest.raises(errors.BadRequest, match="name a path"):
            await config.delete("micro", "")
        for namespace in ("", "Micro", "a b", "$platform", "a/b", "-"):
            with pytest.raises(errors.BadRequest, match="no namespace"):
                await config.set(namespace, "a", 1)
            with pytest.raises(errors.BadRequest, match="no namespace"):
                await config.get(namespace, "a")
        assert await config.get("micro") == {"kept": 1}
        assert (await config.document("micro")).revision == 1


async def test_a_missing_path_is_told_with_its_namespace() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        with pytest.raises(errors.NotFound, match="nothing is set in namespace micro"):
            await config.get("micro")
        await config.set("micro", "a.b", 1)
        for path in ("b", "a.c", "a.b.c"):
            with pytest.raises(errors.NotFound, match=f"{path} is not set in namespace micro"):
                await config.get("micro", path)
            with pytest.raises(errors.NotFound, match=f"{path} is not set"):
                await config.delete("micro", path)
        with pytest.raises(errors.NotFound):
            await config.get("other", "a.b")


async def test_delete_leaves_the_maps_that_it_was_in() -> None:
    async with open_store("memory://") as store, open_config(store) as config:
        await config.set("micro", "a.b.c", 1)
        await config.delete("micro", "a.b.c")
        assert await config.get("micro") == {"a": {"b": {}}}
        await config.delete("micro", "a")
        with pytest.raises(errors.NotFound):
            await config.get("micro", "a")
