"""The doors of a platform, each used as by somebody who knows nothing of our package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import httpx
import nats
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from .live import Live

DETAILS = "grpc-status-details-bin"


class Fault(NamedTuple):
    """An error as a door shows it."""

    id: str
    code: int
    detail: str


Door = Callable[[Live, str, str, dict[str, Any]], Any]
"""Gives the answer of a service's method, or a `Fault`."""


def http_query(live: Live, service: str, method: str, fields: dict[str, Any]) -> Any:
    return _http(live.web.get(f"/{service}/{_camel(method)}", params=fields))


def http_json(live: Live, service: str, method: str, fields: dict[str, Any]) -> Any:
    return _http(live.web.post(f"/{service}/{_camel(method)}", json=fields))


def http_form(live: Live, service: str, method: str, fields: dict[str, Any]) -> Any:
    return _http(live.web.post(f"/{service}/{_camel(method)}", data=fields))


def _http(response: httpx.Response) -> Any:
    body = response.json()
    if response.status_code == 200:
        return body
    assert body["Code"] == response.status_code
    return Fault(body["Id"], body["Code"], body["Detail"])


def _camel(method: str) -> str:
    return method[0].lower() + method[1:]


def grpc_json(live: Live, service: str, method: str, fields: dict[str, Any]) -> Any:
    with grpc.insecure_channel(live.info.addresses["proxy"]) as channel:
        call = channel.unary_unary(f"/{service}.{_handler(service)}/{method}")
        try:
            return json.loads(call(json.dumps(fields).encode(), timeout=60))
        except grpc.RpcError as error:
            return _fault(error, _pool(channel))


def grpc_protobuf(live: Live, service: str, method: str, fields: dict[str, Any]) -> Any:
    with grpc.insecure_channel(live.info.addresses["proxy"]) as channel:
        pool = _pool(channel)
        about = pool.FindServiceByName(f"{service}.{_handler(service)}").FindMethodByName(method)
        request, answer = GetMessageClass(about.input_type), GetMessageClass(about.output_type)
        path = f"/{service}.{_handler(service)}/{method}"
        call = channel.unary_unary(path, request.SerializeToString, answer.FromString)
        try:
            message = call(request(**fields), timeout=60)
        except grpc.RpcError as error:
            return _fault(error, pool)
        return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


def _pool(channel: grpc.Channel) -> DescriptorPool:
    return DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def _fault(error: Any, pool: DescriptorPool) -> Fault:
    status = GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))
    packed = GetMessageClass(pool.FindMessageTypeByName("errors.Error"))
    told = status.FromString(dict(error.trailing_metadata())[DETAILS])
    assert told.code == error.code().value[0]
    found = packed.FromString(told.details[0].value)
    return Fault(found.id, found.code, found.detail)


def raw_nats(live: Live, service: str, method: str, fields: dict[str, Any]) -> Any:
    subject = f"rpc.{service}.{_handler(service)}.{method}"
    message = asyncio.run(_request(live, subject, json.dumps(fields).encode()))
    answer = json.loads(message.data)
    if "Nats-Service-Error-Code" not in (message.headers or {}):
        return answer
    assert message.headers["Nats-Service-Error-Code"] == str(answer["code"])
    assert message.headers["Nats-Service-Error"] == answer["detail"]
    return Fault(answer["id"], answer["code"], answer["detail"])


def ask_nats(live: Live, subject: str) -> Any:
    """The JSON of the first answer to an empty request."""
    return json.loads(asyncio.run(_request(live, subject, b"")).data)


async def _request(live: Live, subject: str, body: bytes) -> Any:
    told = live.micro("nats", "--output", "json").json
    connection = await nats.connect(told["url"], user_credentials=told["credentials"])
    try:
        return await connection.request(subject, body, timeout=60)
    finally:
        await connection.close()


def _handler(service: str) -> str:
    return service[0].upper() + service[1:]


DOORS: list[Door] = [http_query, http_json, http_form, grpc_json, grpc_protobuf, raw_nats]
