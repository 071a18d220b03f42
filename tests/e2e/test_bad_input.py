"""Bad input at every door: one readable line, the right code, no hang, no traceback."""

from __future__ import annotations

import base64
import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from .live import Live, Said, program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def echo(live: Live) -> Iterator[Live]:
    """A service that takes a number, a list and a struct."""
    more = """
import msgspec


class Inner(msgspec.Struct):
    x: int = 0


@service.endpoint
async def take(number: int, words: list[str] = [], inner: Inner = Inner()) -> int:
    return number


@service.endpoint
async def big(size: int) -> str:
    return "x" * size


@service.endpoint
async def broken() -> str:
    raise RuntimeError("the password is hunter2")
"""
    live.micro("run", str(live.folder("echo", program("echo", more=more))))
    yield live
    live.micro("kill", "echo")


# Typed


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nosuchthing",), 4),
        (("echo", "nosuchmethod"), 5),
        (("echo", "take"), 127),
        (("echo", "take", "--number=one"), 64),
        (("echo", "take", "--nosuchflag=1"), 64),
        (("echo", "take", "--number"), 64),
        (("echo", "broken"), 127),
        (("call", "echo", "Echo.Take", "{broken"), 64),
        (("call", "echo", "Echo.Take", '{"number": "one"}'), 127),
        (("call", "echo", "Echo.Take", "[1]"), 127),
        (("call", "echo", "Echo.Nope"), 5),
        (("call", "nobody", "Nobody.Call"), 4),
        (("call", "echo"), 64),
        (("run",), 64),
        (("run", "no such folder"), 64),
        (("run", "helloworld", "--name", "a*b"), 64),
        (("run", "helloworld", "--name", "a.>"), 64),
        (("run", "helloworld", "--name", "../../etc"), 64),
        (("run", "helloworld", "--name", "x" * 101), 64),
        (("run", "helloworld", "--name", "runtime"), 127),
        (("run", "helloworld", "--name", "h", "-i", "0"), 127),
        (("run", "helloworld", "--name", "h", "-i", "65"), 127),
        (("run", "helloworld", "--name", "h", "-i", "many"), 64),
        (("run", "helloworld", "--name", "h", "--env_vars", "novalue"), 64),
        (("run", "helloworld", "--name", "h", "--env_vars", "MICRO_HOME=/x"), 127),
        (("run", "helloworld", "--name", "h", "--args", "'open"), 64),
        (("run", "helloworld", "--name", "h", "--command", "nosuchprogram"), 127),
        (("kill", "*"), 4),
        (("kill", ">"), 4),
        (("kill", "../../etc/passwd"), 4),
        (("logs", "*"), 4),
        (("logs", "../core"), 4),
        (("logs", "echo", "-n", "-1"), 127),
        (("logs", "echo", "--since", "yesterday"), 64),
        (("status", "nobody"), 4),
        (("update", "nobody"), 4),
        (("update", "./nofolder"), 127),
        (("env", "set", "nowhere"), 64),
        (("env", "add", "bad/name", "x:1"), 64),
        (("--env=nowhere", "services"), 64),
        (("user", "config", "set", "a..b", "x"), 64),
        (("get", "service", "nobody"), 4),
        (("new", "service", "../x*"), 64),
        (("ec*ho",), 4),
        (("", ""), 4),
    ],
)
def test_the_command_line_says_what_is_wrong_in_a_line(
    echo: Live, words: tuple[str, ...], code: int
) -> None:
    said = echo.type(*words)
    echo.type("kill", "h")
    assert (said.code, said.out) == (code, ""), said
    assert "hunter2" not in said.err
    *output, last = said.err.splitlines()
    assert last.startswith("micro: "), said
    assert output == [], said
    assert len(last) < 500


def test_words_that_are_no_text(echo: Live) -> None:
    typed = echo.typing("echo", os.fsdecode(b"\xff\xfe"))
    assert echo.ended(typed).code == 64


# Posted


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/nobody", 404),
        ("/nobody/call", 404),
        ("/echo/nope", 404),
        ("/echo/*", 404),
        ("/echo/%3E", 404),
        ("/*", 404),
        ("/$SRV/PING", 404),
        ("/rpc.echo/x/y", 404),
        ("/../../etc/passwd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/echo/take", 400),
        ("/echo/take?number=one", 400),
        ("/echo/take?inner.x=y&number=1", 400),
        ("/echo/%ff%fe", 400),
        ("/echo/take?number=%ff", 400),
        ("/" + "a" * 101, 404),
        ("/" + "/".join("a" * 50), 404),
        ("/echo/big?size=9000000", 413),
        ("/echo/broken", 500),
    ],
)
def test_a_bad_path_or_query_is_an_error_in_the_references_form(
    echo: Live, path: str, code: int
) -> None:
    answer = echo.web.get(path)
    assert answer.status_code == code, answer.text
    body = answer.json()
    assert sorted(body) == ["Code", "Detail", "Id", "Status"]
    assert body["Code"] == code
    assert body["Detail"]
    assert "hunter2" not in answer.text


JSON, FORM = "application/json", "multipart/form-data"
BODIES: dict[str, tuple[bytes, str, int]] = {
    "cut": (b"{", JSON, 400),
    "list": (b"[]", JSON, 400),
    "text": (b'"x"', JSON, 400),
    "not utf-8": (b"\xff\xfe", JSON, 400),
    "wrong type": (b'{"number": "one"}', JSON, 400),
    "fraction": (b'{"number": 1.5}', JSON, 400),
    "null": (b'{"number": null}', JSON, 400),
    "no list": (b'{"number": 1, "words": "x"}', JSON, 400),
    "wrong inside": (b'{"number": 1, "inner": {"x": []}}', JSON, 400),
    "deep list": (b"[" * 100_000, JSON, 400),
    "deep object": (b'{"number": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, JSON, 400),
    "huge": (b'{"number": 1, "pad": "' + b"x" * 9_000_000 + b'"}', JSON, 413),
    "form": (b"number=one", "application/x-www-form-urlencoded", 400),
    "no boundary": (b"number", FORM, 400),
    "broken parts": (b"--x\r\nbroken", f"{FORM}; boundary=x", 400),
    "xml": (b"<xml/>", "text/xml", 400),
}


@pytest.mark.parametrize(("content", "kind", "code"), BODIES.values(), ids=BODIES)
def test_a_bad_body_is_the_clients_fault(echo: Live, content: bytes, kind: str, code: int) -> None:
    answer = echo.web.post("/echo/take", content=content, headers={"Content-Type": kind})
    assert answer.status_code == code, answer.text
    assert answer.json()["Code"] == code


def raw(live: Live, request: bytes) -> bytes:
    """What a client that speaks no proper HTTP hears."""
    host, _, port = live.info.addresses["api"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(request)
        heard = b""
        while chunk := line.recv(65536):
            heard += chunk
            if b"\r\n\r\n" in heard:
                break
        return heard


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\nConnection: close\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n X-B: folded\r\nConnection: close\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\nConnection: close\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\nBig: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(echo: Live, request_: bytes) -> None:
    heard = raw(echo, request_)
    assert heard.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")) or heard == b"", heard[:200]
    assert echo.web.get("/echo").status_code == 200


def test_headers_cannot_be_injected(echo: Live) -> None:
    odd = {"X-Odd": "a%0d%0aNats-Service-Error-Code: 1", "Micro-Trace": "x" * 500}
    assert echo.web.get("/echo", headers=odd).status_code == 200
    assert echo.web.get("/echo", headers={"Micro-Timeout": "soon"}).status_code == 400
    assert echo.web.request("BREW", "/echo").status_code == 405


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/echo.Echo/Nope", b"{}", grpc.StatusCode.NOT_FOUND),
        ("/nobody.Nobody/Call", b"{}", grpc.StatusCode.NOT_FOUND),
        ("/echo.Echo/Take", b"{broken", grpc.StatusCode.INVALID_ARGUMENT),
        ("/echo.Echo/Take", b'{"number": "one"}', grpc.StatusCode.INVALID_ARGUMENT),
        ("/echo.Echo/Take", b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        ("/*.>/Call", b"{}", grpc.StatusCode.NOT_FOUND),
        ("/echo.Echo/Big", b'{"size": 9000000}', grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("/echo.Echo/Broken", b"{}", grpc.StatusCode.INTERNAL),
    ],
)
def test_grpc_has_a_status_for_it(
    echo: Live, path: str, body: bytes, status: grpc.StatusCode
) -> None:
    with grpc.insecure_channel(echo.info.addresses["proxy"]) as channel:
        call = channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as caught:
            call(body, timeout=60)
    error: grpc.Call = caught.value  # type: ignore[assignment]
    assert error.code() is status, error.details()
    assert "hunter2" not in str(error.details())


# Uploaded

Craft = Callable[[tarfile.TarFile], None]


def member(name: str, data: bytes = b"x", **about: object) -> Craft:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in about.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(data))

    return add


def archive(*members: Craft) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for add in members:
            add(tar)
    return file.getvalue()


def link(name: str, target: str, type: bytes = tarfile.SYMTYPE) -> Craft:
    return member(name, b"", type=type, linkname=target)


MAIN = member("main.py", b"print('hello')\n")

BOMB = archive(MAIN, *(member(f"f{n}", bytes(11 * 1024 * 1024)) for n in range(10)))


CRAFTED: dict[str, tuple[bytes, int, str]] = {
    "climbs": (archive(MAIN, member("../outside")), 400, "../outside"),
    "climbs from below": (archive(MAIN, member("a/../../outside")), 400, "leaves the folder"),
    "absolute": (archive(MAIN, member("/tmp/e2e-outside")), 400, "absolute"),
    "link to a file": (archive(MAIN, link("l", "/etc/passwd")), 400, "link that leaves"),
    "link upwards": (archive(MAIN, link("l", "../../outside")), 400, "link that leaves"),
    "through a link": (archive(MAIN, link("d", "."), member("d/x")), 400, "d"),
    "hard link": (archive(MAIN, link("h", "/etc/passwd", tarfile.LNKTYPE)), 400, "neither"),
    "device": (archive(MAIN, member("dev", b"", type=tarfile.CHRTYPE)), 400, "neither"),
    "pipe": (archive(MAIN, member("pipe", b"", type=tarfile.FIFOTYPE)), 400, "neither"),
    "twice": (archive(MAIN, MAIN), 400, "twice"),
    "two lines": (archive(MAIN, member("a\nb")), 400, "no name"),
    "long name": (archive(MAIN, member("x" * 300)), 400, "too long"),
    "bomb": (BOMB, 413, "100 MiB"),
    "cut": (archive(MAIN)[:-20], 400, "damaged"),
    "text": (b"not an archive at all", 400, "damaged"),
    "zip": (b"PK\x03\x04" + b"zip" * 100, 400, "damaged"),
    "nothing": (b"", 400, "damaged"),
}


@pytest.mark.parametrize(("content", "code", "about"), CRAFTED.values(), ids=CRAFTED)
def test_an_archive_that_was_crafted_is_refused(
    live: Live, content: bytes, code: int, about: str
) -> None:
    chunk = {"data": base64.b64encode(content).decode(), "last": True}
    upload = live.admin.post("/runtime/source/upload", json=chunk).json()
    source = {"kind": "folder", "location": "/crafted"}
    request = {"source": source, "name": "crafted", "upload": upload["id"]}
    answer = live.admin.post("/runtime/create", json=request)
    assert answer.status_code == code, answer.text
    assert about in answer.json()["Detail"]
    assert live.admin.post("/runtime/read", json={"name": "crafted"}).status_code == 404
    assert not list(live.home.server.rglob("outside"))
    assert not Path("/tmp/e2e-outside").exists()


def test_an_upload_that_was_not_finished_cannot_be_run(live: Live) -> None:
    upload = live.admin.post("/runtime/source/upload", json={"data": "eA=="}).json()
    source = {"kind": "folder", "location": "/x"}
    request = {"source": source, "name": "unfinished", "upload": upload["id"]}
    assert live.admin.post("/runtime/create", json=request).status_code == 409
    for id in ("../../../etc/passwd", "0" * 32, "*"):
        assert live.admin.post("/runtime/create", json={**request, "upload": id}).status_code == 404


def test_a_folder_with_a_link_out_of_it_is_refused_before_it_is_sent(live: Live) -> None:
    folder = live.folder("leaky", program("leaky"))
    (folder / "data").symlink_to("/etc/passwd")
    line = live.refused(127, "run", str(folder))
    assert "data is a link that leaves the folder (to /etc/passwd)" in line
    empty = live.folder("hollow")
    assert "no entry: found nothing" in live.refused(127, "run", str(empty))
    toml = live.folder("toml", program("toml"), pyproject_toml="[broken")
    assert "pyproject.toml: " in live.refused(127, "run", str(toml))
    live.refused(4, "status", "leaky")


@pytest.fixture(scope="module", autouse=True)
def silent(live: Live) -> Iterator[subprocess.Popen[str]]:
    """A service that never answers, run when the first test begins: to give it up takes 30 s."""
    folder = live.folder("silent", "import time\nprint('so far', flush=True)\ntime.sleep(600)\n")
    typed = live.typing("run", str(folder))
    yield typed
    live.type("kill", "silent")


def test_a_service_that_never_answers_is_given_up(
    live: Live, silent: subprocess.Popen[str]
) -> None:
    said: Said = live.ended(silent)
    assert said.code == 127
    assert said.err.splitlines()[0] == "so far"
    told = "micro: did not answer within 30 s as service silent; its last line: so far (trace "
    assert said.err.splitlines()[-1].startswith(told)
    row = live.status("silent")
    assert (
        row["metadata"]["error"]
        == "did not answer within 30 s as service silent; its last line: so far"
    )
