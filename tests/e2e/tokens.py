"""Doors, each knocked at with a token or without: what status they answer with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import httpx
import nats
from grpc_reflection.v1alpha import reflection_pb2
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from microcosmos.auth.credentials import file_of
from microcosmos.base import errors
from microcosmos.registry.interface import LANE
from microcosmos.rpc import blocking
from microcosmos.rpc.interface import Call

from .live import Live

Knock = Callable[[Live, str, Mapping[str, str]], int]
"""Calls a service with some headers, and gives the status that came of it."""

_GRPC = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
}


def http_get(live: Live, service: str, headers: Mapping[str, str]) -> int:
    return live.web.get(f"/{service}/call", headers=headers).status_code


def http_post(live: Live, service: str, headers: Mapping[str, str]) -> int:
    return live.web.post(f"/{service}/call", json={}, headers=headers).status_code


def http_raw(live: Live, service: str, headers: Mapping[str, str]) -> int:
    return live.web.get(f"/{service}/page", headers=headers).status_code


def http_events(live: Live, service: str, headers: Mapping[str, str]) -> int:
    """Server-Sent Events: what fails before the first message has its own status."""
    accepting = {**headers, "accept": "text/event-stream"}
    with live.web.stream("GET", f"/{service}/count", headers=accepting) as answer:
        return answer.status_code


def http_cached(live: Live, service: str, headers: Mapping[str, str]) -> int:
    return live.web.get(f"/{service}/kept", headers=headers).status_code


def websocket(live: Live, service: str, headers: Mapping[str, str]) -> int:
    url = live.url.replace("http", "ws", 1)
    try:
        with connect(
            f"{url}/{service}/count", additional_headers=headers, proxy=None, open_timeout=10
        ) as socket:
            said = json.loads(socket.recv(10))
            socket.recv(10)
    except InvalidStatus as refused:
        return refused.response.status_code
    except ConnectionClosed as closed:
        return (closed.rcvd.code if closed.rcvd else 0) - 4000
    return said["error"]["Code"] if isinstance(said, dict) else 200


def grpc_web(live: Live, service: str, headers: Mapping[str, str]) -> int:
    body = b"{}"
    answer = live.web.post(
        f"/{service}.{service.capitalize()}/Call",
        content=b"\0" + len(body).to_bytes(4, "big") + body,
        headers={**headers, "content-type": "application/grpc-web+json"},
    )
    if answer.status_code != 200:
        return answer.status_code
    status = int(answer.content.rpartition(b"grpc-status: ")[2].split(b"\r\n")[0])
    # What has no code of ours is no answer that anybody waits for.
    return next((code for one, code in _GRPC.items() if one.value[0] == status), -status)


def grpc_call(live: Live, service: str, headers: Mapping[str, str]) -> int:
    path = f"/{service}.{service.capitalize()}/Call"
    return _grpc(
        live, lambda channel: channel.unary_unary(path, bytes)(b"{}", **_metadata(headers))
    )


def grpc_stream(live: Live, service: str, headers: Mapping[str, str]) -> int:
    path = f"/{service}.{service.capitalize()}/Count"
    return _grpc(
        live, lambda channel: next(channel.unary_stream(path, bytes)(b"{}", **_metadata(headers)))
    )


def grpc_reflection(live: Live, service: str, headers: Mapping[str, str]) -> int:
    """Says what there is, to who may read the registry."""

    def ask(channel: grpc.Channel) -> object:
        method = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        return next(method(iter([question]), **_metadata(headers)))

    return _grpc(live, ask)


def _grpc(live: Live, ask: Callable[[grpc.Channel], object]) -> int:
    with grpc.insecure_channel(live.info.addresses["proxy"]) as channel:
        try:
            ask(channel)
        except grpc.RpcError as error:
            return _GRPC[error.code()]
    return 200


def _metadata(headers: Mapping[str, str]) -> dict[str, Any]:
    return {"metadata": [(name.lower(), value) for name, value in headers.items()], "timeout": 60}


def lane(live: Live, service: str, headers: Mapping[str, str]) -> int:
    """The socket of a replica itself, as the command line uses it."""
    found = live.admin.get("/registry/getService", params={"service": service}).json()
    (node,) = found["services"][0]["nodes"]
    return lane_of(node["metadata"][LANE], service, f"{service.capitalize()}.Call", headers)


def lane_of(path: str, service: str, endpoint: str, headers: Mapping[str, str]) -> int:
    try:
        blocking.call(path, Call(service, endpoint, b"{}", dict(headers), 60.0))
    except errors.Error as error:
        return error.code
    return 200


def engine(live: Live, service: str, headers: Mapping[str, str]) -> int:
    """NATS, as somebody who administers the namespace there."""
    url = f"nats://{live.info.addresses['nats']}"
    credentials = str(file_of(live.home.server / "keys", "admin"))

    async def ask() -> Any:
        connection = await nats.connect(url, user_credentials=credentials)
        try:
            subject = f"rpc.{service}.{service.capitalize()}.Call"
            return await connection.request(subject, b"{}", timeout=60, headers=dict(headers))
        finally:
            await connection.close()

    answer = asyncio.run(ask())
    return int((answer.headers or {}).get("Nats-Service-Error-Code", 200))


DOORS: list[Knock] = [
    http_get,
    http_post,
    http_raw,
    http_events,
    http_cached,
    websocket,
    grpc_web,
    grpc_call,
    grpc_stream,
    lane,
    engine,
]


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=60, trust_env=False)
