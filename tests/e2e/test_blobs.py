"""Blobs of a real server: from the command line, over HTTP, and by clients of Micro v3."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from .live import Live, Said, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PROTOS = Path(__file__).parent / "protos"
CONTENT = random.Random(1).randbytes(5_000_000)
HASH = sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def site() -> Iterator[Live]:
    server = Live("--gateways=1")
    try:
        yield server.start()
    finally:
        server.close()


def piped(site: Live, *words: str, given: bytes = b"") -> bytes:
    """The bytes that a command prints of those it is given."""
    command = [sys.executable, "-m", "microcosmos.cli", "store", "blob", *words]
    ran = subprocess.run(command, env=site.env, input=given, capture_output=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, b""), ran.stderr
    return ran.stdout


def typing(site: Live, *words: str) -> subprocess.Popen[bytes]:
    """A command with pipes, left running."""
    command = [sys.executable, "-m", "microcosmos.cli", "store", "blob", *words]
    return subprocess.Popen(
        command, env=site.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


def test_blobs_from_the_command_line(site: Live, tmp_path: Path) -> None:
    file, back, album = tmp_path / "photo", tmp_path / "back", ("--table", "album")
    file.write_bytes(CONTENT)

    def blob(*words: str) -> Said:
        return site.micro("store", "blob", *words, *album)

    kept = ("--content-type", "image/png", "--metadata", "by=ann")
    said = blob("write", "photos/1", str(file), *kept)
    assert said.out == f"{len(CONTENT)} bytes, sha256 {HASH}\n"
    piped(site, "write", "photos/2", "-", *album, given=b"\x00\xff")
    assert piped(site, "read", "photos/2", *album) == b"\x00\xff"
    assert piped(site, "read", "photos/1", *album) == CONTENT
    blob("read", "photos/1", "--output-file", str(back))
    assert back.read_bytes() == CONTENT
    assert not list(tmp_path.glob("*.part"))
    piped(site, "write", "other", "-", given=b"1")
    assert "other" in site.micro("store", "blob", "list").lines
    assert blob("list").lines == ["photos/1", "photos/2"]
    assert blob("list", "photos/", "--limit=1").lines == ["photos/1"]
    heading, row = blob("list", "-l", "1", "-v").lines
    assert heading.split() == ["KEY", "SIZE", "TYPE", "CREATED", "SHA256"]
    assert row.split()[:3] == ["photos/1", str(len(CONTENT)), "image/png"]
    info = blob("info", "photos/1").json
    assert (info["size"], info["sha256"], info["contentType"], info["metadata"]) == (
        *(len(CONTENT), HASH, "image/png"),
        {"by": "ann"},
    )
    for _ in range(2):
        assert blob("delete", "photos/2").out == ""
    gone = site.refused(4, "store", "blob", "info", "photos/2", *album)
    assert "there is no blob 'photos/2'" in gone


def test_a_read_goes_on_with_what_has_come(site: Live, tmp_path: Path) -> None:
    piped(site, "write", "long", "-", given=CONTENT)
    file, part = tmp_path / "long", tmp_path / "long.part"
    words = ("store", "blob", "read", "long", "-o", str(file), "--continue")
    for had in (0, 1, 2_000_001, len(CONTENT)):
        part.write_bytes(CONTENT[:had])
        site.micro(*words)
        assert file.read_bytes() == CONTENT
        assert not part.exists()
    part.write_bytes(b"other" + CONTENT[5:2_000_000])
    assert "is not the blob 'long'; read it anew" in site.refused(127, *words)
    part.write_bytes(CONTENT + b"1")
    assert "read it anew, without --continue" in site.refused(64, *words)
    site.micro(*words[:-1])
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("read", "nothing"), 4, "there is no blob 'nothing'"),
        (("read", "nothing", "-o", "/no/folder"), 4, "there is no blob 'nothing'"),
        (("read", "nothing", "--continue"), 64, "give --output-file"),
        (("write", "a", "/no/file"), 64, "/no/file: No such file"),
        (("write", "a", "/"), 64, "/: Is a directory"),
        (("write", "", "/dev/null"), 127, "not empty"),
        (("write", "a", "/dev/null", "--content-type", "\n"), 127, "no content type"),
        (("write", "a", "/dev/null", "-t", "a$b"), 127, "is a part of a table"),
        (("list", "-d", "$platform"), 64, "no namespace"),
        (("list", "--limit", "-1"), 127, "limit"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    site: Live, words: tuple[str, ...], code: int, said: str
) -> None:
    assert said in site.refused(code, "store", "blob", *words)


def test_what_kills_an_upload_leaves_the_blob_as_it_was(site: Live) -> None:
    piped(site, "write", "kept", "-", given=b"old")
    query = ("store", "list", "open/", "-t", "micro$blobs/uploads")
    with typing(site, "write", "kept", "-") as writing:
        assert writing.stdin is not None
        writing.stdin.write(CONTENT)
        writing.stdin.flush()
        until(lambda: site.micro(*query).lines)
        writing.send_signal(signal.SIGINT)
        assert writing.wait(60) == 130
    assert site.micro(*query).lines == []
    assert piped(site, "read", "kept") == b"old"


@pytest.fixture(scope="module")
def large(site: Live) -> bytes:
    """A blob that no pipe has room for."""
    content = CONTENT * 8
    piped(site, "write", "large", "-", given=content)
    return content


def test_a_write_goes_on_when_the_core_was_killed(site: Live) -> None:
    with typing(site, "write", "survivor", "-") as writing:
        assert writing.stdin is not None
        writing.stdin.write(CONTENT)
        writing.stdin.flush()
        until(lambda: site.micro("store", "list", "open/", "-t", "micro$blobs/uploads").lines)
        site.kill_child("core")
        out, _ = writing.communicate(CONTENT, timeout=60)
    assert out.decode() == f"{2 * len(CONTENT)} bytes, sha256 {sha256(2 * CONTENT).hexdigest()}\n"
    assert piped(site, "read", "survivor") == 2 * CONTENT


def test_a_read_goes_on_when_the_core_was_killed(site: Live, large: bytes) -> None:
    with typing(site, "read", "large") as reading:
        assert reading.stdout is not None
        begun = reading.stdout.read(1_000_000)
        site.kill_child("core")
        rest, _ = reading.communicate(timeout=60)
    assert reading.returncode == 0
    assert sha256(begun + rest).digest() == sha256(large).digest()


def test_blobs_over_http(site: Live) -> None:
    token = site.micro("user", "token").out.strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    url = f"{site.url}/store/blobStore"
    lines = [{"key": "web", "options": {"contentType": "text/plain"}}]
    for at in range(0, len(CONTENT), 500_000):
        piece = base64.b64encode(CONTENT[at : at + 500_000]).decode()
        lines.append({"blob": piece})  # type: ignore[dict-item]
    body = "".join(f"{json.dumps(line)}\n" for line in lines)
    with httpx.Client(headers=headers, timeout=60) as web:
        assert web.post(f"{url}/write", content=body).json()["sha256"] == HASH
        asked = {"Accept": "application/x-ndjson"}
        read = web.get(f"{url}/read", params={"key": "web"}, headers=asked)
        pieces = [json.loads(line)["blob"] for line in read.text.splitlines()]
        assert b"".join(map(base64.b64decode, pieces)) == CONTENT
        missing = web.get(f"{url}/read", params={"key": "nothing"}, headers=asked)
        assert (missing.status_code, missing.json()["Code"]) == (404, 404)
        refused = web.get(f"{url}/list", headers={"Authorization": "Bearer forged"})
        assert refused.status_code == 401


def test_a_client_of_micro_v3_keeps_records_and_blobs(site: Live, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    command += [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", "store.proto"]
    subprocess.run(command, check=True)
    program = Path(__file__).with_name("micro_v3_store.py")
    token = site.micro("user", "token").out.strip()
    ran = subprocess.run(
        [sys.executable, program, site.info.addresses["proxy"], token],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "record": ["v3/1", "00ff", "red"],
        "expires": True,
        "keys": [["v3/1"]],
        "tables": True,
        "databases": ["micro"],
        "missing": "NOT_FOUND",
        "blob": True,
        "blobs": ["v3photo"],
        "no_blob": "NOT_FOUND",
        "nobody": ["UNAUTHENTICATED", "UNAUTHENTICATED", "UNAUTHENTICATED"],
    }
