"""`micro services`, `micro get service`, `micro call`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import msgspec
import pytest

from microcosmos.registry.interface import Options

from .conftest import HELLOWORLD, THINGS, Micro, Platform

pytestmark = pytest.mark.usefixtures("platform")


def test_services_are_names_sorted_one_a_line(micro: Micro) -> None:
    assert micro("services").out == "helloworld\nregistry\nthings\n"


def test_services_as_json(micro: Micro) -> None:
    assert json.loads(micro("services", "-o", "json").out) == ["helloworld", "registry", "things"]


def test_get_service_is_readable(micro: Micro) -> None:
    out = micro("get", "service", "helloworld").out
    assert out.startswith("service  helloworld\n\nversion  latest\n\nID")
    shown = "Endpoint: Helloworld.Call\nMetadata: description=Say hello.\n\n"
    assert shown + "Request: {\n    name string\n}\n" in out
    assert "Response: {\n    msg string\n}\n" in out


def test_get_service_as_json_is_the_registrys_answer(micro: Micro) -> None:
    (service,) = json.loads(micro("get", "service", "helloworld", "-o", "json").out)["services"]
    assert service["nodes"][0]["port"] == "0"
    assert service["metadata"] == {"domain": "micro"}


def test_a_call_prints_indented_json(micro: Micro) -> None:
    result = micro("call", "helloworld", "Helloworld.Call", '{"name":"Joe"}')
    assert (result.code, result.out) == (0, '{\n  "msg": "Hello Joe"\n}\n')


def test_a_raw_call_prints_what_came(micro: Micro) -> None:
    result = micro("call", "helloworld", "call", '{"name":"Joe"}', "--output=raw")
    assert result.out == '{"msg":"Hello Joe"}\n'


def test_without_json_the_request_is_empty(micro: Micro) -> None:
    assert json.loads(micro("call", "helloworld", "call").out) == {"msg": "Hello World"}


def test_a_dash_reads_the_request_from_stdin(micro: Micro, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = io.TextIOWrapper(io.BytesIO(b'{"name":"stdin"}'))
    monkeypatch.setattr(sys, "stdin", typed)
    assert json.loads(micro("call", "helloworld", "call", "-").out) == {"msg": "Hello stdin"}


def test_metadata_travels_with_a_call(micro: Micro) -> None:
    words = ("call", "things", "SeenMetadata", "--metadata", "foobar=1=2", "--metadata=x-y=z")
    seen = json.loads(micro(*words).out)
    assert seen["Foobar"] == "1=2"
    assert seen["X-Y"] == "z"
    assert seen["Micro-Namespace"] == "micro"
    assert len(seen["Micro-Trace"]) == 32


def test_the_namespace_travels_with_a_call(micro: Micro, platform: Platform) -> None:
    there = platform.record(THINGS)
    platform.register(msgspec.structs.replace(there, options=Options(domain="other")))
    seen = json.loads(micro("--namespace=other", "call", "things", "SeenMetadata").out)
    assert seen["Micro-Namespace"] == "other"


def test_the_trace_of_a_failed_call_is_told(micro: Micro) -> None:
    result = micro("call", "things", "fail", '{"code": 400}')
    assert result.err.startswith("micro: it went wrong (trace ")
    assert result.err.count("\n") == 1


def test_a_dead_replica_is_passed_over(micro: Micro, platform: Platform) -> None:
    dead = platform.record(HELLOWORLD, Path("/nowhere/dead.sock"))
    (node,) = dead.nodes
    import msgspec

    other = msgspec.structs.replace(node, id="helloworld-2")
    platform.register(msgspec.structs.replace(dead, nodes=[other]))
    assert all(micro("call", "helloworld", "call").code == 0 for _ in range(5))


def test_a_service_without_a_living_replica_is_unreachable(
    micro: Micro, platform: Platform
) -> None:
    import msgspec

    record = platform.record(HELLOWORLD, Path("/nowhere/dead.sock"))
    platform.register(msgspec.structs.replace(record, name="gone"))
    result = micro("call", "gone", "Helloworld.Call")
    assert result.code == 4
    assert "no replica of gone is alive" in result.err
