"""Blobs over rpc: streams both ways, uploads in several calls, and whose blobs are whose."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import pytest

from microcosmos.auth.interface import Account
from microcosmos.base import codec, errors
from microcosmos.base.context import NAMESPACE
from microcosmos.rpc import Call, Client, Endpoint, MemoryNetwork, Server
from microcosmos.store import Store, Table
from microcosmos.store.blob_service import MAX_BLOBS, MAX_TABLES
from microcosmos.store.blobs import Blobs
from microcosmos.store.blobs.blob import CHUNK, MAX_APPEND
from microcosmos.store.memory import MemoryStore
from microcosmos.store.service import StoreService

CONTENT = bytes(range(256)) * (CHUNK // 128)  # two chunks
HASH = sha256(CONTENT).hexdigest()

WHO = {
    "shop": Account(id="shop", type="service", scopes=("service",)),
    "billing": Account(id="billing", type="service", scopes=("service",)),
    "root": Account(id="root", scopes=("admin",)),
    "anna": Account(id="anna", namespace="foo", scopes=("admin",)),
}


def verify(call: Call, endpoint: Endpoint) -> Account | None:
    return WHO.get(call.metadata.get("Who", ""))


class Hall:
    """A store service in memory, and who asks it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.service = StoreService(store)
        server, network = Server(verifier=verify), MemoryNetwork()
        server.add(self.service.hosted())
        network.join(server)
        self.client = Client([network])

    def blobs(self, table: str, database: str = "micro") -> Blobs:
        return Blobs(self.store.table(table, database=database))

    def _sent(self, who: str) -> dict[str, str]:
        return {"Who": who, NAMESPACE: WHO[who].namespace}

    async def ask(self, who: str, method: str, handler: str = "BlobStore", **request: Any) -> Any:
        endpoint, body = f"{handler}.{method}", codec.encode(request)
        return codec.decode(
            await self.client.call("store", endpoint, body, metadata=self._sent(who))
        )

    async def read(self, who: str, **request: Any) -> list[bytes]:
        body, sent = codec.encode(request), self._sent(who)
        async with self.client.stream("store", "BlobStore.Read", body, metadata=sent) as stream:
            return [base64.b64decode(codec.decode(message)["blob"]) async for message in stream]

    async def write(self, who: str, messages: Iterable[dict[str, Any]]) -> Any:
        sent = self._sent(who)
        async with self.client.stream("store", "BlobStore.Write", b"{}", metadata=sent) as stream:
            with contextlib.suppress(errors.Conflict):  # it has answered before the end
                for message in messages:
                    await stream.send(codec.encode(message))
                await stream.end()
            [answer] = [codec.decode(message) async for message in stream]
            return answer


@pytest.fixture
def hall() -> Hall:
    return Hall(Table(MemoryStore()))


def pieces(content: bytes, size: int) -> list[dict[str, Any]]:
    return [{"blob": content[at : at + size]} for at in range(0, len(content), size)]


async def test_a_blob_is_streamed_in_and_out(hall: Hall) -> None:
    first = {
        "key": "a",
        "options": {"contentType": "image/png"},
        "metadata": {"by": "ann"},
        "sha256": HASH,
    }
    written = await hall.write("root", [first, *pieces(CONTENT, 100_000)])
    assert (written["size"], written["sha256"]) == (len(CONTENT), HASH)
    assert (written["contentType"], written["metadata"]) == ("image/png", {"by": "ann"})
    assert await hall.ask("root", "Info", key="a") == written
    assert (await hall.blobs("micro").info("a")).version == written["version"]
    read = await hall.read("root", key="a")
    assert b"".join(read) == CONTENT
    assert max(map(len, read)) <= CHUNK
    part = await hall.read("root", key="a", offset=CHUNK - 1, length=3)
    assert b"".join(part) == CONTENT[CHUNK - 1 : CHUNK + 2]
    assert await hall.read("root", key="a", offset=len(CONTENT)) == []
    assert await hall.ask("root", "List") == {"keys": ["a"]}
    assert await hall.ask("root", "Delete", key="a") == {}
    assert await hall.ask("root", "Delete", key="a") == {}
    assert await hall.ask("root", "List") == {"keys": []}
    for asked in (hall.ask("root", "Info", key="a"), hall.read("root", key="a")):
        with pytest.raises(errors.NotFound, match="there is no blob 'a'"):
            await asked


@pytest.mark.parametrize(
    ("messages", "kind", "said"),
    [
        ([], errors.BadRequest, "the first message of a write has the key"),
        ([{"blob": b"1"}], errors.BadRequest, "the first message of a write has the key"),
        ([{"key": "b"}, {"key": "c"}], errors.BadRequest, "a write is of one blob: 'b', not 'c'"),
        ([{"key": "b", "blob": b"1", "sha256": HASH}], errors.BadRequest, "has the SHA-256"),
        ([{"key": "b", "version": 7}], errors.Conflict, "is at version 0, not 7"),
        ([{"key": "b"}, {"blob": "no base64"}], errors.BadRequest, "blob"),
        ([{"key": "b", "options": {"public": True}}], errors.Unimplemented, "no blob is public"),
        ([{"key": "b", "options": {"table": "a$b"}}], errors.BadRequest, "is a part of a table"),
        ([{"key": "b", "options": {"contentType": "a\nb"}}], errors.BadRequest, "no content type"),
        ([{"key": "b" * 2000}], errors.TooLarge, "at most"),
        ([{"key": "b", "metadata": {"a": "x" * 10_000}}], errors.TooLarge, "characters"),
    ],
)
async def test_a_bad_write_is_refused_and_leaves_nothing(
    hall: Hall, messages: list[dict[str, Any]], kind: type[errors.Error], said: str
) -> None:
    with pytest.raises(kind, match=said):
        await hall.write("root", messages)
    assert await hall.blobs("micro").list() == []
    assert await hall.store.part("blobs/uploads").list() == []


async def test_a_write_that_breaks_off_leaves_what_there_was(hall: Hall) -> None:
    await hall.blobs("micro").write("a", b"old")
    uploads = hall.store.part("blobs/uploads")
    sent = {"Who": "root"}
    async with asyncio.timeout(60), uploads.watch() as changes:
        async with hall.client.stream("store", "BlobStore.Write", b"{}", metadata=sent) as stream:
            await stream.send(codec.encode({"key": "a", "blob": CONTENT}))
            assert (await anext(changes)).record is not None
        async for change in changes:
            if change.record is None:
                break
    assert await hall.read("root", key="a") == [b"old"]
    assert await uploads.list() == []


async def test_an_upload_in_several_calls_may_be_tried_again(hall: Hall) -> None:
    options = {"table": "shop", "contentType": "text/plain"}
    upload = await hall.ask("shop", "Begin", key="a", options=options, metadata={"n": "1"})
    id, half = upload["id"], len(CONTENT) // 2
    for _ in range(2):
        more = {"id": id, "offset": 0, "data": CONTENT[:half]}
        assert (await hall.ask("shop", "Append", **more))["size"] == half
    with pytest.raises(errors.Conflict, match=f"has {half} bytes; go on there, not at 7"):
        await hall.ask("shop", "Append", id=id, offset=7, data=b"1")
    assert await hall.ask("shop", "Upload", id=id) == {"id": id, "key": "a", "size": half}
    await hall.ask("shop", "Append", id=id, offset=half, data=CONTENT[half:])
    blobs = [await hall.ask("shop", "Finish", id=id, sha256=HASH) for _ in range(2)]
    assert blobs[0] == blobs[1] == await hall.ask("shop", "Info", key="a")
    assert (blobs[0]["contentType"], blobs[0]["metadata"]) == ("text/plain", {"n": "1"})
    assert b"".join(await hall.read("shop", key="a")) == CONTENT


async def test_an_upload_that_is_wrong_or_given_up_leaves_nothing(hall: Hall) -> None:
    upload = await hall.ask("shop", "Begin", key="a")
    await hall.ask("shop", "Append", id=upload["id"], offset=0, data=b"1")
    with pytest.raises(errors.BadRequest, match="has the SHA-256"):
        await hall.ask("shop", "Finish", id=upload["id"], sha256=HASH)
    other = await hall.ask("shop", "Begin", key="a")
    with pytest.raises(errors.TooLarge, match="bytes are appended at once"):
        await hall.ask("shop", "Append", id=other["id"], offset=0, data=bytes(MAX_APPEND + 1))
    # Of another table it is not to be had, whoever knows it.
    with pytest.raises(errors.NotFound, match="no such upload"):
        await hall.ask("billing", "Upload", id=other["id"])
    await hall.ask("billing", "Discard", id=other["id"])
    assert (await hall.ask("shop", "Upload", id=other["id"]))["key"] == "a"
    await hall.ask("shop", "Discard", id=other["id"])
    for id in (upload["id"], other["id"]):
        with pytest.raises(errors.NotFound, match="no such upload"):
            await hall.ask("shop", "Finish", id=id)
    assert await hall.ask("shop", "List") == {"keys": []}


async def test_lists_by_prefix_and_in_pages(hall: Hall) -> None:
    blobs = hall.blobs("micro")
    for key in ("a/1", "a/2", "a/3", "b/1"):
        await blobs.write(key, key.encode())
    some = {"prefix": "a/", "limit": 2}
    assert await hall.ask("root", "List", options=some) == {"keys": ["a/1", "a/2"]}
    page = await hall.ask("root", "Page", options=some)
    assert [(one["key"], one["size"]) for one in page["blobs"]] == [("a/1", 3), ("a/2", 3)]
    assert page["more"]
    rest = await hall.ask("root", "Page", options={**some, "after": "a/2"})
    assert [one["key"] for one in rest["blobs"]] == ["a/3"]
    assert not rest["more"]
    whole = await hall.ask("root", "Page", options={"limit": MAX_BLOBS + 1})
    assert len(whole["blobs"]) == 4
    with pytest.raises(errors.BadRequest, match="limit"):
        await hall.ask("root", "List", options={"limit": -1})


async def test_a_service_has_blobs_of_its_own(hall: Hall) -> None:
    await hall.write("shop", [{"key": "a", "blob": b"shop's"}])
    assert await hall.read("root", key="a", options={"table": "shop"}) == [b"shop's"]
    assert b"".join([c async for c in hall.blobs("shop").read("a")]) == b"shop's"
    # As `service.blobs` has them, which works by records.
    page = await hall.ask("shop", "Page", "Store", options={"table": "shop$blobs"})
    assert [record["key"] for record in page["records"]] == ["a"]
    assert await hall.ask("billing", "List") == {"keys": []}


ASKED: dict[str, dict[str, Any]] = {
    "Info": {"key": "a"},
    "List": {},
    "Page": {},
    "Delete": {"key": "a"},
    "Begin": {"key": "a"},
    "Append": {"id": "0" * 32, "offset": 0},
    "Upload": {"id": "0" * 32},
    "Finish": {"id": "0" * 32},
    "Discard": {"id": "0" * 32},
}
READS = {"Info", "List", "Page", "Read"}


async def test_the_blobs_of_others_are_refused_unless_granted(hall: Hall) -> None:
    await hall.blobs("shop/photos").write("a", b"1")
    options = {"table": "shop/photos"}

    async def allowed(who: str, options: dict[str, str]) -> set[str]:
        found = set()
        for method, request in ASKED.items():
            with contextlib.suppress(errors.Forbidden):
                with contextlib.suppress(errors.NotFound):
                    await hall.ask(who, method, **{**request, "options": options})
                found.add(method)
        with contextlib.suppress(errors.Forbidden):
            with contextlib.suppress(errors.NotFound):
                await hall.read(who, key="a", options=options)
            found.add("Read")
        with contextlib.suppress(errors.Forbidden):
            await hall.write(who, [{"key": "a", "options": options, "blob": b"1"}])
            found.add("Write")
        return found

    grant = {"table": "shop/photos", "service": "billing"}
    assert await allowed("billing", options) == set()
    await hall.ask("shop", "Grant", "Store", **grant)
    assert await allowed("billing", options) == READS
    await hall.ask("shop", "Grant", "Store", **grant, access="write")
    assert await allowed("billing", options) == {*ASKED, "Read", "Write"}
    await hall.ask("shop", "Revoke", "Store", **grant)
    assert await allowed("billing", options) == set()
    for who in ("anna", "billing"):
        elsewhere = {"namespace": "micro" if who == "anna" else "foo"}
        assert await allowed(who, elsewhere) == set()


async def test_each_namespace_has_its_own(hall: Hall) -> None:
    await hall.write("anna", [{"key": "a", "blob": b"foo's"}])
    assert await hall.ask("root", "List") == {"keys": []}
    options = {"namespace": "foo"}
    assert await hall.read("root", key="a", options=options) == [b"foo's"]
    with pytest.raises(errors.BadRequest, match="namespace"):
        await hall.ask("root", "List", options={"namespace": "$platform"})


async def test_tables_beyond_those_that_are_remembered_work_too(hall: Hall) -> None:
    upload = await hall.ask("root", "Begin", key="a", options={"table": "first"})
    await hall.ask("root", "Append", **_more(upload["id"], 0, b"one"))
    for number in range(MAX_TABLES + 1):
        await hall.ask("root", "List", options={"table": f"t{number}"})
    await hall.ask("root", "Append", **_more(upload["id"], 3, b"two"))
    done = await hall.ask("root", "Finish", id=upload["id"], options={"table": "first"})
    assert done["sha256"] == sha256(b"onetwo").hexdigest()


def _more(id: str, offset: int, data: bytes) -> dict[str, Any]:
    return {"id": id, "offset": offset, "data": data, "options": {"table": "first"}}
