"""examples/helloworld, as the reference walks through it, and at every door."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from websockets.sync.client import connect

from ..e2e.doors import DOORS, Door, Fault, ask_nats, grpc_protobuf
from ..e2e.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def hello(live: Live) -> Iterator[Live]:
    live.micro("run", "helloworld")
    yield live
    live.micro("kill", "helloworld")


@pytest.mark.parametrize("door", DOORS)
def test_every_door_says_hello(hello: Live, door: Door) -> None:
    assert door(hello, "helloworld", "Call", {"name": "John"}) == {"msg": "Hello John"}
    assert door(hello, "helloworld", "Call", {}) == {"msg": "Hello World"}


def test_the_command_line_says_hello(hello: Live) -> None:
    assert hello.micro("helloworld", "--name=John").out == '{\n  "msg": "Hello John"\n}\n'
    assert hello.call("helloworld", "call") == {"msg": "Hello World"}
    answer = hello.micro("call", "helloworld", "Helloworld.Call", '{"name": "Ann"}')
    assert answer.json == {"msg": "Hello Ann"}


def test_curl_as_the_reference_types_it(hello: Live) -> None:
    answer = hello.web.get("/helloworld/call?name=Joe")
    assert answer.text == '{"msg":"Hello Joe"}'
    assert answer.headers["content-type"] == "application/json"
    assert hello.web.get("/helloworld?name=Joe").text == '{"msg":"Hello Joe"}'
    named = hello.web.get("/helloworld/call?name=Joe", headers={"Micro-Namespace": "micro"})
    assert named.text == '{"msg":"Hello Joe"}'
    assert list(hello.web.get("/").json()) == ["version"]
    listed = hello.web.get("/registry/listServices").json()["services"]
    assert {"helloworld", "registry"} <= {service["name"] for service in listed}


# Who takes the messages from the server finds no such method to begin with.
@pytest.mark.parametrize("door", [door for door in DOORS if door is not grpc_protobuf])
def test_an_unknown_endpoint_is_the_same_error_at_every_door(hello: Live, door: Door) -> None:
    fault = door(hello, "helloworld", "Nope", {})
    assert isinstance(fault, Fault)
    assert fault.code == 404
    assert "Helloworld.Nope" in fault.detail


def test_the_help_is_drawn_from_the_registry(hello: Live) -> None:
    page = hello.micro("helloworld", "--help").out
    assert (
        page.split()
        == (
            "NAME: micro helloworld VERSION: latest "
            "USAGE: micro helloworld [command] COMMANDS: call stream"
        ).split()
    )
    page = hello.micro("helloworld", "call", "--help").out
    assert "--name string" in page


def test_it_counts_in_every_form(hello: Live) -> None:
    lines = '{"count":0}\n{"count":1}\n'
    path = "/helloworld/stream?count=2"
    assert hello.web.get(path).text == lines
    events = hello.web.get(path, headers={"accept": "text/event-stream"}).text
    assert events.count("data: {") == 2
    assert events.endswith("event: end\ndata:\n\n")
    url = str(hello.web.base_url).replace("http", "ws", 1).rstrip("/") + path
    with connect(url, proxy=None) as socket:
        assert [message + "\n" for message in socket] == lines.splitlines(keepends=True)
        assert socket.close_code == 1000
    (found,) = hello.micro("registry", "getService", "--service=helloworld").json["services"]
    streams = [endpoint["metadata"].get("stream") for endpoint in found["endpoints"]]
    assert streams == [None, "true"]


def test_the_services_protocol_of_nats_shows_it(hello: Live) -> None:
    told = ask_nats(hello, "$SRV.INFO.helloworld")
    assert told["type"] == "io.nats.micro.v1.info_response"
    assert told["name"] == "helloworld"
    called, _ = told["endpoints"]
    assert called["subject"] == "rpc.helloworld.Helloworld.Call"
    assert ask_nats(hello, "$SRV.PING.helloworld")["id"] == told["id"]
    stats, _ = ask_nats(hello, "$SRV.STATS.helloworld")["endpoints"]
    assert stats["num_errors"] == 0


def test_reflection_lists_it(hello: Live) -> None:
    with grpc.insecure_channel(hello.info.addresses["proxy"]) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "helloworld.Helloworld" in database.get_services()
        service = DescriptorPool(database).FindServiceByName("helloworld.Helloworld")
        assert [method.name for method in service.methods] == ["Call", "Stream"]
