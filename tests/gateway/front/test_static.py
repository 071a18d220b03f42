"""Files of a folder: what is sent, with which headers, and what is not found."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def public(tmp_path: Path) -> Path:
    folder = tmp_path / "public"
    (folder / "docs").mkdir(parents=True)
    (folder / ".well-known").mkdir()
    (folder / "index.html").write_text("<h1>Home</h1>")
    (folder / "docs" / "index.html").write_text("<h1>Docs</h1>")
    (folder / "app.js").write_text("run();" * 100)
    (folder / "data.bin").write_bytes(CONTENT)
    (folder / "empty.txt").touch()
    (folder / "größe 1.txt").write_text("ü")
    (folder / ".env").write_text("secret")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")
    (folder / ".well-known" / "security.txt").write_text("Contact: us")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "in.txt").symlink_to("app.js")
    (folder / "hidden.txt").symlink_to(".env")
    (folder / "loop").symlink_to("loop")
    (folder / "a\\b.txt").write_text("secret")
    os.mkfifo(folder / "pipe")
    return folder


STATIC = "[[static]]\npath = '/assets'\nfolder = 'public'\n"


async def test_a_file_and_what_is_told_of_it(open_front: Any, public: Path) -> None:
    async with open_front(STATIC + "cache = '1h'") as fronted:
        answer = await fronted.get("/assets/data.bin")
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-length"] == str(len(CONTENT))
        assert answer.headers["cache-control"] == "public, max-age=3600"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["x-content-type-options"] == "nosniff"
        head = await fronted.send("HEAD", "/assets/data.bin")
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "etag", "last-modified", "content-type"):
            assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/assets/", "text/html; charset=utf-8", b"<h1>Home</h1>"),
        ("/assets/docs/", "text/html; charset=utf-8", b"<h1>Docs</h1>"),
        ("/assets/app.js", "text/javascript; charset=utf-8", b"run();" * 100),
        ("/assets/in.txt", "text/javascript; charset=utf-8", b"run();" * 100),
        ("/assets/empty.txt", "text/plain; charset=utf-8", b""),
        ("/assets/gr%C3%B6%C3%9Fe%201.txt", "text/plain; charset=utf-8", "ü".encode()),
        ("/assets/.well-known/security.txt", "text/plain; charset=utf-8", b"Contact: us"),
    ],
)
async def test_what_is_there(
    open_front: Any, public: Path, path: str, kind: str, body: bytes
) -> None:
    async with open_front(STATIC) as fronted:
        answer = await fronted.raw(path)
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, body)


async def test_a_folder_is_shown_below_its_slash(open_front: Any, public: Path) -> None:
    async with open_front(STATIC) as fronted:
        answer = await fronted.raw("/assets/docs?a=1")
        assert (answer.status, answer.headers["location"]) == (308, "/assets/docs/?a=1")
        assert (await fronted.raw("/assets")).status == 200
        (public / "bare").mkdir()
        assert (await fronted.raw("/assets/bare/")).status == 404


OUTSIDE = """
/assets/docs//index.html /assets/a%5cb.txt
/assets/../secret.txt /assets/docs/../../secret.txt /assets/%2e%2e/secret.txt
/assets/..%2fsecret.txt /assets/%2e%2e%2fsecret.txt /assets/..%5csecret.txt /assets/..\\secret.txt
/assets/%252e%252e/secret.txt /assets/.%2e/secret.txt /assets/docs/..%2f..%2fsecret.txt
/assets//../secret.txt /assets/./app.js /assets//app.js /assets///etc/passwd /assets//etc/passwd
/assets/%2fetc%2fpasswd /assets/app.js%00 /assets/app.js%00.html /assets/%00 /assets/.env
/assets/.git/config /assets/%2eenv /assets/hidden.txt /assets/.well-known/../.env
/assets/.well-known/.env /assets/out.txt /assets/up/secret.txt /assets/up/ /assets/loop
/assets/pipe /assets/app.js/ /assets/app.js/x /assets/nothing /assets/%ff /assets/%c0%ae%c0%ae/
/assets/....//secret.txt /assets/..;/secret.txt /assets/docs/%2e%2e/%2e%2e/secret.txt
/assets/..%c0%afsecret.txt /assets/~/ /assets/%u002e%u002e/secret.txt /assetsx /assets.bak
""".split()


@pytest.mark.parametrize("path", [*OUTSIDE, "/assets/" + "a/" * 2000, "/assets/" + "a" * 5000])
async def test_nothing_else_is_there(open_front: Any, public: Path, path: str) -> None:
    async with open_front(STATIC) as fronted:
        answer = await fronted.raw(path)
        assert answer.status in (400, 404), answer
        assert b"secret" not in answer.body.replace(b"secret.txt", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_files_are_only_read(open_front: Any, public: Path, method: str) -> None:
    async with open_front(STATIC) as fronted:
        answer = await fronted.raw("/assets/app.js", "Content-Length: 0", method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_a_copy_that_is_still_good(open_front: Any, public: Path) -> None:
    async with open_front(STATIC) as fronted:
        told = (await fronted.get("/assets/app.js", Accept_Encoding="identity")).headers
        etag, date = told["etag"], told["last-modified"]
        for headers, status in (
            ({"If_None_Match": etag}, 304),
            ({"If_None_Match": f'"x", W/{etag}'}, 304),
            ({"If_None_Match": "*"}, 304),
            ({"If_None_Match": '"x"'}, 200),
            ({"If_None_Match": '"x"', "If_Modified_Since": date}, 200),
            ({"If_Modified_Since": date}, 304),
            ({"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
            ({"If_Modified_Since": "yesterday"}, 200),
            ({"If_Modified_Since": "Thu, 01 Jan 99999999999 00:00:00 GMT"}, 200),
        ):
            answer = await fronted.get("/assets/app.js", Accept_Encoding="identity", **headers)
            assert answer.status_code == status, headers
            assert answer.headers["etag"] == etag
        (public / "app.js").write_text("other")
        assert (await fronted.get("/assets/app.js", If_None_Match=etag)).status_code == 200


RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=0-99": (0, 100),
    "bytes=10000-": (10000, 10240),
    "bytes=-5": (10235, 10240),
    "bytes=-99999": (0, 10240),
    "bytes=5-99999999": (5, 10240),
    "bytes=0-999999999999999999": (0, 10240),
}


@pytest.mark.parametrize("asked", RANGES)
async def test_a_part_of_a_file(open_front: Any, public: Path, asked: str) -> None:
    start, end = RANGES[asked]
    async with open_front(STATIC) as fronted:
        answer = await fronted.get("/assets/data.bin", Range=asked)
        assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/10240"
        head = await fronted.send("HEAD", "/assets/data.bin", Range=asked)
        assert head.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=999999-9999999", "bytes=-0"])
async def test_a_part_that_is_not_there(open_front: Any, public: Path, asked: str) -> None:
    async with open_front(STATIC) as fronted:
        answer = await fronted.get("/assets/data.bin", Range=asked)
        assert (answer.status_code, answer.content) == (416, b"")
        assert answer.headers["content-range"] == "bytes */10240"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-0,2-2",
        "bytes=" + ",".join(["0-"] * 5000),
        "bytes=" + "9" * 5000 + "-",
        "bytes=5-4",
        "bytes=-",
        "bytes=a-b",
        "bytes=--5",
        "bytes=0-0 0",
        "lines=0-5",
        "bytes 0-5",
        "",
    ],
)
async def test_odd_ranges_are_answered_by_the_whole(
    open_front: Any, public: Path, asked: str
) -> None:
    async with open_front(STATIC) as fronted:
        answer = await fronted.get("/assets/data.bin", Range=asked)
        assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


async def test_a_part_only_of_the_file_that_is_meant(open_front: Any, public: Path) -> None:
    async with open_front(STATIC) as fronted:
        told = (await fronted.get("/assets/data.bin")).headers
        for condition, status in (
            (told["etag"], 206),
            (told["last-modified"], 206),
            ('"x"', 200),
            ("W/" + told["etag"], 200),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ):
            answer = await fronted.get("/assets/data.bin", Range="bytes=0-4", If_Range=condition)
            assert answer.status_code == status, condition


async def test_files_that_were_compressed_beforehand(open_front: Any, public: Path) -> None:
    (public / "app.js.gz").write_bytes(gzip.compress((public / "app.js").read_bytes()))
    async with open_front(STATIC) as fronted:
        plain = await fronted.get("/assets/app.js", Accept_Encoding="identity")
        packed = await fronted.get("/assets/app.js", Accept_Encoding="br;q=1, gzip")
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content
        assert packed.headers["etag"] != plain.headers["etag"]
        assert packed.headers["content-type"] == plain.headers["content-type"]
        assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
        for refused in ("gzip;q=0", "br", ""):
            answer = await fronted.get("/assets/app.js", Accept_Encoding=refused)
            assert "content-encoding" not in answer.headers, refused
        part = await fronted.get("/assets/app.js", Accept_Encoding="gzip", Range="bytes=0-2")
        assert part.content == b"run"
        os.utime(public / "app.js.gz", (1, 1))
        old = await fronted.get("/assets/app.js", Accept_Encoding="gzip")
        assert "content-encoding" not in old.headers
        (public / "app.js.gz").unlink()
        (public / "app.js.gz").symlink_to(public.parent / "secret.txt")
        assert (await fronted.get("/assets/app.js", Accept_Encoding="gzip")).text == plain.text


async def test_pages_of_a_single_page_app(open_front: Any, public: Path) -> None:
    async with open_front(STATIC + "fallback = 'index.html'\ncache = '1h'") as fronted:
        for path, headers, status in (
            ("/assets/users/5", {}, 200),
            ("/assets/john.doe", {"Accept": "text/html"}, 200),
            ("/assets/missing.js", {"Accept": "*/*"}, 404),
        ):
            answer = await fronted.get(path, **headers)
            assert answer.status_code == status, path
            assert status == 404 or answer.headers["cache-control"] == "no-cache"
            assert status == 404 or "Home" in answer.text


async def test_a_folder_at_the_root_leaves_the_services_their_paths(
    open_front: Any, platform: Any, echo: Any, public: Path
) -> None:
    await platform.start(echo.service)
    text = "[[static]]\npath = '/'\nfolder = 'public'\nfallback = 'index.html'"
    async with open_front(text) as fronted:
        assert "Home" in (await fronted.get("/")).text
        assert (await fronted.get("/app.js")).status_code == 200
        assert "Home" in (await fronted.get("/users/5")).text
        assert (await fronted.get("/echo")).headers["content-type"] == "application/json"
        assert (await fronted.get("/echo/nope")).status_code == 404
        assert (await fronted.send("POST", "/echo")).status_code == 200
        assert (await fronted.get("/healthz")).json() == {"status": "ok"}
        assert (await fronted.raw("//localhost/x")).status == 200
        fronted.site.gateway.ready = False
        assert (await fronted.get("/users/5")).status_code == 404
        assert (await fronted.get("/missing.js")).status_code == 404


async def test_a_folder_of_one_host(open_front: Any, public: Path) -> None:
    async with open_front(STATIC + "host = '*.example.com'") as fronted:
        assert (await fronted.get("/assets/app.js", Host="a.example.com:80")).status_code == 200
        assert (await fronted.get("/assets/app.js", Host="A.Example.COM.")).status_code == 200
        assert (await fronted.get("/assets/app.js", Host="example.com")).status_code == 404
        assert (await fronted.get("/assets/app.js")).status_code == 404


async def test_a_folder_that_goes_and_comes_back(open_front: Any, public: Path) -> None:
    async with open_front(STATIC) as fronted:
        shutil.move(public, public.parent / "away")
        assert (await fronted.get("/assets/app.js")).status_code == 404
        shutil.move(public.parent / "away", public)
        assert (await fronted.get("/assets/app.js")).status_code == 200


async def test_a_folder_may_be_a_link_that_is_changed(open_front: Any, public: Path) -> None:
    new = public.parent / "new"
    new.mkdir()
    (new / "app.js").write_text("new();")
    shutil.move(public, public.parent / "old")
    public.symlink_to("old")
    async with open_front(STATIC) as fronted:
        assert (await fronted.get("/assets/app.js")).text.startswith("run();")
        public.unlink()
        public.symlink_to("new")
        assert (await fronted.get("/assets/app.js")).text == "new();"
