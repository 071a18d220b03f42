"""Archives: what goes in comes out, and what has no business in one is refused by name."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.runtime import archive
from microcosmos.runtime import folder as folders
from microcosmos.runtime.archive import pack, unpack
from microcosmos.runtime.folder import content_hash


def packed(folder: Path) -> bytes:
    file = io.BytesIO()
    pack(folder, file)
    return file.getvalue()


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info, data in members:
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    file.seek(0)
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_folder_comes_out_as_it_went_in(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "main.py").write_text("print(1)")
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o755)
    (folder / "deep" / "er" / "bytes").write_bytes(bytes(range(256)) * 5000)
    (folder / "deep" / "up").symlink_to("../main.py")
    (folder / "ä ✓").write_text("names in any script")
    (folder / ("long" * 50)).write_text("x")
    file = io.BytesIO()
    told = pack(folder, file)
    file.seek(0)
    out = tmp_path / "out"
    out.mkdir()
    found = unpack(file, out)
    assert content_hash(found) == told.hash
    assert told.files == len(found) == 6
    assert (out / "deep" / "up").read_text() == "print(1)"
    assert (out / "run.sh").stat().st_mode & 0o100
    assert packed(folder) == packed(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="no files"):
        packed(tmp_path)


EVIL: list[tuple[str, list[tuple[tarfile.TarInfo, bytes]], str]] = [
    ("absolute", [(member("/etc/cron.d/x"), b"x")], "/etc/cron.d/x is an absolute path"),
    ("parent", [(member("../x"), b"x")], r"\.\./x leaves the folder"),
    ("parent inside", [(member("a/../../x"), b"x")], "leaves the folder"),
    ("parent folder", [(member("..", tarfile.DIRTYPE), b"")], "leaves the folder"),
    ("backslash", [(member("..\\x"), b"x")], "no name for a file"),
    ("control", [(member("a\nb"), b"x")], "no name for a file"),
    ("too long", [(member("x" * 300), b"x")], "too long"),
    ("empty", [(member(""), b"x")], "no name"),
    ("link out", [(member("a", tarfile.SYMTYPE, "../x"), b"")], "a is a link that leaves"),
    ("link absolute", [(member("a", tarfile.SYMTYPE, "/etc"), b"")], "a is a link that leaves"),
    (
        "link through a link",
        [
            (member("d", tarfile.SYMTYPE, "."), b""),
            (member("s/t/x", tarfile.SYMTYPE, "../../d/.."), b""),
        ],
        "s/t/x is a link that leaves",
    ),
    (
        "file through a link",
        [(member("d", tarfile.SYMTYPE, "s"), b""), (member("d/x"), b"x")],
        "d is there twice",
    ),
    (
        "link below a link",
        [
            (member("s", tarfile.DIRTYPE), b""),
            (member("d", tarfile.SYMTYPE, "s"), b""),
            (member("d/x", tarfile.SYMTYPE, "y"), b""),
        ],
        "d/x stands below a link",
    ),
    (
        "hard link",
        [(member("a"), b"x"), (member("b", tarfile.LNKTYPE, "/etc/passwd"), b"")],
        "b is",
    ),
    ("device", [(member("null", tarfile.CHRTYPE), b"")], "null is neither"),
    ("block", [(member("disk", tarfile.BLKTYPE), b"")], "disk is neither"),
    ("pipe", [(member("pipe", tarfile.FIFOTYPE), b"")], "pipe is neither"),
    ("twice", [(member("a"), b"x"), (member("a"), b"y")], "a is there twice"),
    ("twice, spelt otherwise", [(member("a"), b"x"), (member("./a"), b"y")], "a is there twice"),
    ("file and folder", [(member("a"), b"x"), (member("a/b"), b"y")], "should be"),
]


@pytest.mark.parametrize(("members", "why"), [e[1:] for e in EVIL], ids=[e[0] for e in EVIL])
def test_what_has_no_business_in_an_archive_is_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], why: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(errors.BadRequest, match=why):
        unpack(tar(*members), out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not any(
        path.is_symlink() and not path.resolve().is_relative_to(out.resolve())
        for path in out.rglob("*")
    )


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "harm",
    [cut, flip, lambda _: b"", lambda _: b"not gzip", lambda _: gzip.compress(b"not tar" * 200)],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "file").write_bytes(b"".join(number.to_bytes(2, "big") for number in range(20_000)))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(errors.BadRequest, match="damaged"):
        unpack(io.BytesIO(harm(packed(folder))), out)


@given(st.binary(max_size=2000), st.booleans())
def test_no_bytes_lead_to_anything_but_a_clear_error(data: bytes, zipped: bool) -> None:
    import tempfile

    refused = contextlib.suppress(errors.BadRequest, errors.TooLarge)
    with tempfile.TemporaryDirectory() as out, refused:
        unpack(io.BytesIO(gzip.compress(data) if zipped else data), Path(out))


def test_a_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MAX_SIZE", 1024 * 1024)
    with pytest.raises(errors.TooLarge, match="more than 1 MiB"):
        unpack(tar((member("zeros"), bytes(2 * 1024 * 1024))), tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(folders, "MAX_FILES", 10)
    many = [(member(f"d{number}", tarfile.DIRTYPE), b"") for number in range(11)]
    with pytest.raises(errors.TooLarge, match="more than 10 files"):
        unpack(tar(*many), tmp_path)


def test_a_stream_longer_than_any_source_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_MAX_UNPACKED", 100_000)
    with pytest.raises(errors.TooLarge, match="unpacks to more"):
        unpack(tar((member("zeros"), bytes(200_000))), tmp_path)


def test_a_huge_header_is_refused_unread(tmp_path: Path) -> None:
    info = member("x")
    info.pax_headers = {"comment": "x" * 100_000}
    with pytest.raises(errors.BadRequest, match="header"):
        unpack(tar((info, b"x")), tmp_path)
    long = member("y" * 100_000)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.GNU_FORMAT) as tarball:
        tarball.addfile(long)
    file.seek(0)
    with pytest.raises(errors.BadRequest, match="header"):
        unpack(file, tmp_path)
