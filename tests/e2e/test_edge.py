"""The gateways' edge in a real server: replaced under load, renewed, logged."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .live import Live, program, until
from .load import Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def shown_at(address: str) -> str:
    """What tells the certificate of a door from others."""
    context = ssl._create_unverified_context()
    host, port = address.rsplit(":", 1)
    with (
        socket.create_connection((host, int(port)), timeout=5) as plain,
        context.wrap_socket(plain) as line,
    ):
        shown = line.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown)


def test_gateways_are_replaced_and_no_request_is_lost(live: Live) -> None:
    with live.running("steady", program("steady")):
        until(lambda: live.web.get("/steady").status_code == 200)
        with Load(live.url, "/steady", threads=4) as load:
            before = [live.pid(name) for name in ("gateway-1", "gateway-2")]
            said = live.micro("restart")
            after = [live.pid(name) for name in ("gateway-1", "gateway-2")]
            load.more(50)
            one = live.micro("restart", "gateway-1")
            load.more(50)
        assert not set(before) & set(after)
        assert said.lines == [f"gateway-{n}  PID {pid}" for n, pid in enumerate(after, 1)]
        assert one.lines == [f"gateway-1  PID {live.pid('gateway-1')}"]
        assert not load.errors, load.told()


def test_a_certificate_is_renewed_and_everything_is_logged(
    another: Callable[..., Live], mint: Any
) -> None:
    certificate, key = mint.make("now")
    files = (f"--api_tls_cert_file={certificate}", f"--api_tls_key_file={key}")
    server = another("--gateways=1", "--api_access_log=json", *files).start()
    address = server.info.addresses["api"]
    assert f"api   https://{address}" in server.output.read_text()
    shown = shown_at(address)
    assert shown == certificate.read_text()
    folder = server.folder("hello", program("hello"))
    run = server.micro("run", str(folder))
    assert f"https://{address}/hello" in run.out
    assert server.call("hello", "--name=Joe")["name"] == "Joe"
    assert server.micro("env").out.startswith("* local ")

    fresh, fresh_key = mint.make("later")
    certificate.write_text("damaged")
    until(lambda: "the old certificate is kept" in server.output.read_text())
    assert shown_at(address) == shown
    shutil.copy(fresh_key, key)
    shutil.copy(fresh, certificate)
    until(lambda: shown_at(address) == fresh.read_text())

    trusted = ssl.create_default_context(cafile=str(fresh))
    answer = httpx.get(f"https://{address}/hello?token=hunter2", verify=trusted, timeout=60)
    log = server.home.logs / "access.log"
    line = until(lambda: log.read_text() and json.loads(log.read_text().splitlines()[-1]))
    assert (line["path"], line["status"]) == ("/hello", answer.status_code)
    assert line["query"] == "token=[secret]"
    assert server.stop() == 0
    assert not (server.home.server / "tls").exists()
