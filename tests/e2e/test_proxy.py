"""The proxy of a real server: its certificate, its numbers, and the command line elsewhere."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from .live import Live, program, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Another = Callable[..., Live]

CALL = '''
@service.endpoint
async def call({fields}) -> dict[str, str]:
    """Say it."""
    return {{"msg": "hi"}}
'''


def test_a_command_line_elsewhere_trusts_a_private_authority(another: Another, mint: Any) -> None:
    ca, _ = mint.make("ca")
    cert, key = mint.make("localhost", signed_by="ca")
    mine, my_key = mint.make("ann", signed_by="ca")
    flags = (f"--proxy_tls_cert_file={cert}", f"--proxy_tls_key_file={key}")
    server = another("--gateways=1", *flags, f"--proxy_tls_client_ca_file={ca}").start()
    assert f"proxy grpcs://{server.info.addresses['proxy']}" in server.output.read_text()
    address = f"https://{server.info.addresses['proxy']}"

    # The command line of the same home needs nothing: it comes by a socket.
    assert server.micro("proto", "registry").out.startswith('syntax = "proto3";\n')
    trust = ("--ca", str(ca), "--cert", str(mine), "--key", str(my_key))
    assert server.micro("env", "add", "far", address, *trust).code == 0
    assert "registry" in server.micro("--env=far", "services").lines
    far = server.micro("--env=far", "proto", "registry")
    assert far.out == server.micro("proto", "registry").out
    (known,) = (one for one in server.micro("env", "--output=json").json if one["name"] == "far")
    assert (known["ca"], known["key"]) == (str(ca), str(my_key))

    # Without the authority, or without a certificate, nobody is reached; one line says so.
    for flags in ((), trust[:2]):
        server.micro("env", "add", "near", address, *flags)
        said = server.type("--env=near", "services")
        assert said.code == 4
        assert "cannot be reached as a proxy" in said.err
        assert len(said.err.splitlines()) == 1


def test_a_certificate_that_cannot_be_used_is_told_before_anything_starts(
    another: Another, mint: Any
) -> None:
    cert, _ = mint.make("one")
    _, key = mint.make("two")
    server = another()
    said = server.type(
        "server", f"--proxy_tls_cert_file={cert}", f"--proxy_tls_key_file={key}", "--detach"
    )
    assert said.code == 64
    assert "--proxy_tls_key_file" in said.err
    assert "is not the key of the certificate" in said.err
    assert len(said.err.splitlines()) == 1
    said = server.type("server", f"--proxy_tls_key_file={key}", "--detach")
    assert (said.code, "--proxy_tls_cert_file is missing" in said.err) == (64, True)


def fields(server: Live) -> list[str]:
    """The fields of a message; none while the service is still starting."""
    text = server.type("proto", "numbered").out
    body = text.partition("message CallRequest {\n")[2].partition("}")[0]
    return [line.strip() for line in body.splitlines()]


def test_numbers_survive_updates_and_kill_9(another: Another) -> None:
    server = another().start()

    def deploy(parameters: str, verb: str) -> None:
        folder = server.folder("numbered", program("numbered", more=CALL.format(fields=parameters)))
        server.micro(verb, str(folder))

    deploy("name: str, age: int = 0", "run")
    first = ["optional string name = 1;", "optional int64 age = 2;"]
    assert fields(server) == first
    os.kill(server.info.pids["core"], signal.SIGKILL)
    until(lambda: server.type("services").code == 0)
    deploy("mail: str = '', name: str = ''", "update")
    second = ["reserved 2;", "optional string mail = 3;", "optional string name = 1;"]
    assert until(lambda: fields(server) == second)
    server.kill()
    server.start()
    assert until(lambda: fields(server) == second)


def test_there_is_no_proto_of_what_is_not_there(live: Live) -> None:
    said = live.type("proto", "nobody")
    assert (said.code, said.out) == (4, "")
    assert said.err.startswith("micro: service nobody not found; `micro services` lists them")
    said = live.type("proto", "no/body")
    assert (said.code, said.out, len(said.err.splitlines())) == (64, "", 1)
    shown = json.loads(live.micro("proto", "registry", "--output=json").out)
    assert (shown["name"], shown["package"]) == ("registry.proto", "registry")
    assert shown["text"] == live.micro("proto", "registry").out


def test_without_a_server_there_is_one_line(another: Another) -> None:
    said = another().type("proto", "registry")
    assert said.code == 4
    assert "no server is running for this MICRO_HOME" in said.err
