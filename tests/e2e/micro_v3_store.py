"""A program that was written for Micro v3: it keeps records and blobs.

Arguments: the proxy's address, a token. Prints what it has seen as JSON.
"""

# ruff: noqa: T201
from __future__ import annotations

import hashlib
import json
import sys

import grpc
import store_pb2 as store
import store_pb2_grpc as stores

address, token = sys.argv[1:]
mine = (("authorization", f"Bearer {token}"),)
seen: dict = {}
content = bytes(range(256)) * 8192


def code_of(ask) -> str:
    try:
        ask()
    except grpc.RpcError as exc:
        return exc.code().name
    return "OK"


def chunks():
    options = store.BlobOptions(namespace="micro", contentType="image/png")
    for at in range(0, len(content), 1024):
        yield store.BlobWriteRequest(key="v3photo", options=options, blob=content[at : at + 1024])


with grpc.insecure_channel(address) as channel:
    records, blobs = stores.StoreStub(channel), stores.BlobStoreStub(channel)
    fields = {"color": store.Field(type="string", value="red")}
    record = store.Record(key="v3/1", value=b"\x00\xff", expiry=60, metadata=fields)
    options = store.WriteOptions(database="micro", table="v3")
    records.Write(store.WriteRequest(record=record, options=options), metadata=mine)
    where = store.ReadOptions(database="micro", table="v3", prefix=True, limit=10)
    [got] = records.Read(store.ReadRequest(key="v3/", options=where), metadata=mine).records
    seen["record"] = [got.key, got.value.hex(), got.metadata["color"].value]
    seen["expires"] = 50 < got.expiry <= 60
    listed = store.ListRequest(options=store.ListOptions(table="v3", prefix="v3"))
    seen["keys"] = [list(one.keys) for one in records.List(listed, metadata=mine)]
    tables = records.Tables(store.TablesRequest(database="micro"), metadata=mine).tables
    seen["tables"] = "v3" in tables
    seen["databases"] = list(records.Databases(store.DatabasesRequest(), metadata=mine).databases)
    gone = store.DeleteRequest(key="v3/1", options=store.DeleteOptions(table="v3"))
    records.Delete(gone, metadata=mine)
    missing = store.ReadRequest(key="v3/1", options=store.ReadOptions(table="v3"))
    seen["missing"] = code_of(lambda: records.Read(missing, metadata=mine))

    blobs.Write(chunks(), metadata=mine)
    photo = store.BlobReadRequest(key="v3photo")
    read = b"".join(one.blob for one in blobs.Read(photo, metadata=mine))
    seen["blob"] = hashlib.sha256(read).hexdigest() == hashlib.sha256(content).hexdigest()
    prefix = store.BlobListRequest(options=store.BlobListOptions(prefix="v3"))
    seen["blobs"] = list(blobs.List(prefix, metadata=mine).keys)
    blobs.Delete(store.BlobDeleteRequest(key="v3photo"), metadata=mine)
    seen["no_blob"] = code_of(lambda: list(blobs.Read(photo, metadata=mine)))
    seen["nobody"] = [
        code_of(lambda: records.Read(missing)),
        code_of(lambda: blobs.Write(chunks())),
        code_of(lambda: list(blobs.Read(photo, metadata=(("authorization", "Bearer forged"),)))),
    ]

print(json.dumps(seen))
