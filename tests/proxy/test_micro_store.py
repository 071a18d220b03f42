"""The store, spoken to by a client that was built for Micro v3."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from google.protobuf import message_factory

from microcosmos.auth.interface import Account
from microcosmos.base import errors
from microcosmos.proxy import wire
from microcosmos.proxy.files import fresh_pool
from microcosmos.proxy.notation import read
from microcosmos.store import open_store
from microcosmos.store.blobs import Blobs
from microcosmos.store.service import StoreService

WHO = {
    "Bearer root": Account(id="root", scopes=("admin",)),
    "Bearer shop": Account(id="shop", type="service", scopes=("service",)),
}


def verify(call, endpoint):
    account = WHO.get(call.metadata.get("Authorization", ""))
    if account is None:
        raise errors.Unauthorized("auth", "log in")
    return account


class Micro:
    """Asks by protobuf, with the numbers of Micro's own facts and nothing else."""

    def __init__(self, door, store):
        self.door = door
        self.store = store
        self.metadata = (("authorization", "Bearer root"),)
        self._pool = fresh_pool()
        self._pool.Add(read("store", wire.STORE))

    def of(self, name):
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"store.{name}"))

    def stub(self, path):
        service, _, method = path.partition("/")
        known = self._pool.FindServiceByName(f"store.{service}").FindMethodByName(method)
        ways = ("unary", "stream")
        kind = f"{ways[known.client_streaming]}_{ways[known.server_streaming]}"
        return getattr(self.door.channel, kind)(
            f"/store.{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self.of(known.output_type.name).FromString,
        )

    async def ask(self, path, **fields):
        name = path.replace("/", "").removeprefix("Store").replace("BlobStore", "Blob")
        request = self.of(f"{name}Request")(**fields)
        return await self.stub(path)(request, metadata=self.metadata)

    async def all(self, path, **fields):
        name = path.replace("/", "").removeprefix("Store").replace("BlobStore", "Blob")
        request = self.of(f"{name}Request")(**fields)
        return [one async for one in self.stub(path)(request, metadata=self.metadata)]

    async def refused(self, path, **fields):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(path, **fields)
        return caught.value.code().name

    async def upload(self, pieces, **first):
        request = self.of("BlobWriteRequest")
        messages = [request(blob=piece) for piece in pieces]
        messages[0].MergeFrom(request(**first))
        return await self.stub("BlobStore/Write")(iter(messages), metadata=self.metadata)


@pytest.fixture
def opened(proxy):
    @contextlib.asynccontextmanager
    async def open_one():
        async with proxy() as door, open_store("memory://") as store:
            door.server._verifier = verify
            await door.host([StoreService(store).hosted()])
            yield Micro(door, store)

    return open_one


async def test_records_are_written_read_listed_and_deleted(opened) -> None:
    async with opened() as micro:
        fields = {"color": {"type": "string", "value": "red"}}
        record = {"key": "a/1", "value": b"\x00\xff", "expiry": 100, "metadata": fields}
        await micro.ask("Store/Write", record=record, options={"table": "things"})
        await micro.ask("Store/Write", record={"key": "b/1", "value": b"plain"})
        ours = await micro.store.table("things").read("a/1")
        assert (ours.value, ours.metadata) == (b"\x00\xff", {"color": "red"})
        assert 90 < ours.expiry <= 100
        [got] = (await micro.ask("Store/Read", key="a/1", options={"table": "things"})).records
        assert (got.key, got.value) == ("a/1", b"\x00\xff")
        assert 90 < got.expiry <= 100
        assert (got.metadata["color"].type, got.metadata["color"].value) == ("string", "red")
        [got] = (await micro.ask("Store/Read", key="b/1")).records
        assert (got.value, got.expiry, dict(got.metadata)) == (b"plain", 0, {})
        databases = (await micro.ask("Store/Databases")).databases
        assert list(databases) == ["micro"]
        assert list((await micro.ask("Store/Tables", database="micro")).tables) == [
            *("micro", "things")
        ]
        await micro.ask("Store/Delete", key="b/1", options={"table": "micro"})
        assert await micro.refused("Store/Read", key="b/1") == "NOT_FOUND"
        assert await micro.refused("Store/Read") == "INVALID_ARGUMENT"
        assert await micro.refused("Store/Write") == "INVALID_ARGUMENT"


async def test_the_last_second_of_a_record_is_not_for_ever(opened) -> None:
    async with opened() as micro:
        await micro.store.write("a", b"1", expiry=0.9)
        [got] = (await micro.ask("Store/Read", key="a")).records
        assert got.expiry == 1


async def test_parts_of_a_table_by_prefix_suffix_limit_offset_and_order(opened) -> None:
    async with opened() as micro:
        for key in ("a/1", "a/2", "a/3", "b/1"):
            await micro.store.write(key, key.encode())

        async def keys(key, **options):
            answer = await micro.ask("Store/Read", key=key, options=options)
            return [record.key for record in answer.records]

        assert await keys("a/", prefix=True) == ["a/1", "a/2", "a/3"]
        assert await keys("/1", suffix=True) == ["a/1", "b/1"]
        assert await keys("a/", prefix=True, limit=1, offset=1) == ["a/2"]
        assert await keys("a/", prefix=True, limit=1, order="desc") == ["a/3"]
        assert await keys("x", prefix=True) == []
        [listed] = await micro.all("Store/List", options={"prefix": "a/", "order": "desc"})
        assert list(listed.keys) == ["a/3", "a/2", "a/1"]
        [listed] = await micro.all("Store/List", options={"suffix": "1", "limit": 1, "offset": 1})
        assert list(listed.keys) == ["b/1"]
        [listed] = await micro.all("Store/List")
        assert len(listed.keys) == 4


async def test_the_bytes_are_microv3s(opened) -> None:
    async with opened() as micro:
        # WriteRequest{1 record{1 key, 2 value, 3 expiry, 4 metadata{1 key, 2 Field{2 value}}},
        # 2 options{2 table}}, by numbers.
        note = b"\x22\x08\x0a\x01n\x12\x03\x12\x01v"
        record = b"\x0a\x01k\x12\x01\xff\x18\x3c" + note
        by_hand = b"\x0a" + bytes([len(record)]) + record + b"\x12\x03\x12\x01t"
        sent = {"metadata": micro.metadata}
        assert await micro.door.call("/store.Store/Write", by_hand, **sent) == b""
        ours = await micro.store.table("t").read("k")
        assert (ours.value, ours.metadata) == (b"\xff", {"n": "v"})
        bad = await micro.door.fails("/store.Store/Write", b"\x0a\x05k", **sent)
        assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_who_may_not_is_refused(opened) -> None:
    async with opened() as micro:
        micro.metadata = (("authorization", "Bearer shop"),)
        await micro.ask("Store/Write", record={"key": "a", "value": b"1"})
        assert await micro.store.table("shop").read("a")
        other = {"options": {"table": "billing"}}
        assert await micro.refused("Store/Read", key="a", **other) == "PERMISSION_DENIED"
        abroad = {"options": {"namespace": "foo"}}
        assert await micro.refused("BlobStore/Delete", key="a", **abroad) == "PERMISSION_DENIED"
        micro.metadata = (("authorization", "Bearer forged"),)
        assert await micro.refused("Store/Read", key="a") == "UNAUTHENTICATED"
        assert await micro.refused("BlobStore/List") == "UNAUTHENTICATED"


async def test_blobs_are_written_read_listed_and_deleted(opened) -> None:
    async with opened() as micro:
        content = bytes(range(256)) * 8192  # two chunks
        pieces = [content[at : at + 1024] for at in range(0, len(content), 1024)]
        options = {"namespace": "micro", "contentType": "image/png"}
        await micro.upload(pieces, key="photos/1", options=options)
        await micro.upload([b""], key="empty")
        info = await Blobs(micro.store.table("micro")).info("photos/1")
        assert (info.size, info.content_type) == (len(content), "image/png")
        got = await micro.all("BlobStore/Read", key="photos/1", options={"namespace": "micro"})
        assert b"".join(one.blob for one in got) == content
        assert await micro.all("BlobStore/Read", key="empty") == []
        assert list((await micro.ask("BlobStore/List")).keys) == ["empty", "photos/1"]
        some = await micro.ask("BlobStore/List", options={"prefix": "ph", "namespace": "micro"})
        assert list(some.keys) == ["photos/1"]
        await micro.ask("BlobStore/Delete", key="photos/1")
        assert list((await micro.ask("BlobStore/List")).keys) == ["empty"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await micro.all("BlobStore/Read", key="photos/1")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        for first in ({}, {"key": "a", "options": {"public": True}}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await micro.upload([b"1"], **first)
            assert caught.value.code().name in ("INVALID_ARGUMENT", "UNIMPLEMENTED")


async def test_an_upload_that_breaks_off_leaves_nothing(opened) -> None:
    async with opened() as micro:
        uploads = micro.store.table("micro").part("blobs/uploads")

        async def pieces():
            for _ in range(5):
                yield micro.of("BlobWriteRequest")(key="a", blob=b"x" * 1024 * 1024)
            await asyncio.Event().wait()

        async with asyncio.timeout(60), uploads.watch() as changes:
            writing = micro.stub("BlobStore/Write")(pieces(), metadata=micro.metadata)
            assert (await anext(changes)).record is not None
            writing.cancel()
            async for change in changes:
                if change.record is None:
                    break
        assert await Blobs(micro.store.table("micro")).list() == []
