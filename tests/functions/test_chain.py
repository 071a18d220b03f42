"""The chain of versions: whatever is changed in it afterwards, `verify` tells."""

from __future__ import annotations

import asyncio
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import codec
from microcosmos.functions import versions
from microcosmos.functions.interface import Draft, SecretUse
from microcosmos.functions.versions import Kept, Which
from microcosmos.store import Delete, Write

from .plane import Plane, draft, opened

PARTS = ["versions", "sources", "code"]


async def deployed(plane: Plane) -> Any:
    functions = await plane.admin()
    files = {"index.js": "path + 1", "notes.txt": "ünï\u2028\x01"}
    uses = {"S": [SecretUse("example.org")]}
    first = Draft(name="hello", files=files, env={"A": "a"}, secrets={"S": "s"}, secret_uses=uses)
    await functions.deploy(first)
    await functions.deploy(draft(message="second", routes=["/{id}"], hosts=["example.org"]))
    await functions.deploy(draft(code='import a from "./index.js"\nexport default a'))
    return functions


@settings(max_examples=25, deadline=None)
@given(
    part=st.sampled_from(PARTS),
    number=st.integers(1, 3),
    place=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_any_bit_that_is_turned_is_told(part: str, number: int, place: int, bit: int) -> None:
    async def tampered() -> None:
        async with opened() as plane:
            functions = await deployed(plane)
            found = await plane.catalogue.get("micro", "hello")
            table = plane.store.table("functions").part(part)
            key = found.which.version(number)
            data = bytearray((await table.read(key)).value)
            data[place % len(data)] ^= 1 << bit
            await table.write(key, bytes(data))
            problems = await functions.verify("hello")
            assert any(problem.startswith(f"v{number}: ") for problem in problems), problems

    asyncio.run(tampered())


async def test_what_was_not_touched_is_as_it_was() -> None:
    async with opened() as plane:
        assert await (await deployed(plane)).verify("hello") == []


@pytest.mark.parametrize("part", PARTS)
async def test_a_record_that_is_gone_is_told(part: str) -> None:
    async with opened() as plane:
        functions = await deployed(plane)
        found = await plane.catalogue.get("micro", "hello")
        await plane.store.table("functions").part(part).batch([Delete(found.which.version(2))])
        what = {"versions": "record", "sources": "sources", "code": "program"}[part]
        assert f"v2: its {what} is missing or damaged" in await functions.verify("hello")


async def test_a_version_that_is_gone_with_all_its_records_is_told() -> None:
    async with opened() as plane:
        functions = await deployed(plane)
        found = await plane.catalogue.get("micro", "hello")
        for part in PARTS:
            table = plane.store.table("functions").part(part)
            await table.delete(found.which.version(2))
        assert "v2 is missing" in await functions.verify("hello")
        for part in PARTS:
            table = plane.store.table("functions").part(part)
            await table.delete(found.which.version(3))
        problems = await functions.verify("hello")
        assert "the newest version is not v3, as the function has it" in problems
        assert "v3 gets requests, and is not what runs" in problems


async def test_a_version_that_was_made_up_breaks_the_chain_after_it() -> None:
    """Even when its own hash is computed anew, that of the next one's parent is not."""
    async with opened() as plane:
        functions = await deployed(plane)
        which = (await plane.catalogue.get("micro", "hello")).which
        key = which.version(2)
        parts = {part: plane.store.table("functions").part(part) for part in PARTS}
        kept: Kept = codec.decode((await parts["versions"].read(key)).value, Kept)
        from msgspec.structs import replace

        files = {"index.js": "'something else'"}
        forged = versions.sealed(
            which, replace(kept.version, code=versions.digest(files["index.js"])), files
        )
        await parts["versions"].batch(
            [
                Write(key, codec.encode(replace(kept, version=forged))),
                Write(key, codec.encode(files), table="functions$sources"),
                Write(key, files["index.js"].encode(), table="functions$code"),
            ]
        )
        assert await functions.verify("hello") == ["v3: its parent is not the version before it"]


async def test_the_hash_is_that_of_canonical_cbor_that_anybody_can_make() -> None:
    async with opened() as plane:
        functions = await deployed(plane)
        version = (await functions.history("hello"))[1]
        files = dict(await functions.sources("hello", 2))
        fields = {
            name: getattr(version, name)
            for name in version.__struct_fields__
            # What came later is left out where nothing was said of it.
            if name not in ("hash", "files", "isolation", "limits", "secret_uses")
        }
        said = {**fields, "files": files, "name": "hello", "namespace": "micro"}
        data = versions.canonical(Which("micro", "hello"), version, files)
        assert cbor2.loads(data) == said
        shuffled = dict(sorted(said.items(), reverse=True))
        assert cbor2.dumps(shuffled, canonical=True) == data
        import hashlib

        assert hashlib.sha256(data).hexdigest() == version.hash
        assert version.parent == (await functions.history("hello"))[2].hash


async def test_the_same_deployed_as_another_function_has_another_hash() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        version = await functions.deploy(draft("one"))
        other = versions.sealed(Which("micro", "two"), version, {"index.js": "x"})
        same = versions.sealed(Which("micro", "one"), version, {"index.js": "x"})
        assert other.hash != same.hash
