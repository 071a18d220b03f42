"""Archives on their way in."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.runtime import uploads as room
from microcosmos.runtime.uploads import Uploads


async def test_chunks_become_one_file(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    upload = await uploads.begin()
    await uploads.append(upload.id, 0, b"one ")
    with pytest.raises(errors.Conflict, match="not finished"):
        uploads.archive(upload.id)
    assert (await uploads.append(upload.id, 4, b"two")).size == 7
    assert (await uploads.finish(upload.id)).finished
    archive = uploads.archive(upload.id)
    assert archive.read_bytes() == b"one two"
    assert archive.stat().st_mode & 0o077 == 0
    uploads.discard(upload.id)
    uploads.discard(upload.id)
    assert not archive.exists()
    with pytest.raises(errors.NotFound):
        uploads.archive(upload.id)


async def test_a_chunk_sent_again_is_not_added_twice_and_a_gap_is_refused(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    id = (await uploads.begin()).id
    await uploads.append(id, 0, b"abc")
    assert (await uploads.append(id, 0, b"abc")).size == 3
    with pytest.raises(errors.Conflict, match="has 3 bytes, not 5"):
        await uploads.append(id, 5, b"x")
    await uploads.finish(id)
    with pytest.raises(errors.Conflict):
        await uploads.append(id, 3, b"late")


async def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(tmp_path, max_size=10)
    id = (await uploads.begin()).id
    await uploads.append(id, 0, b"12345678")
    with pytest.raises(errors.TooLarge):
        await uploads.append(id, 8, b"901")
    with pytest.raises(errors.NotFound):
        await uploads.append(id, 8, b"9")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(room, "MAX_CHUNK", 4)
    id = (await uploads.begin()).id
    with pytest.raises(errors.TooLarge, match="chunk"):
        await uploads.append(id, 0, b"12345")
    monkeypatch.setattr(room, "MAX_OPEN", 2)
    await uploads.begin()
    with pytest.raises(errors.TooManyRequests):
        await uploads.begin()


@pytest.mark.parametrize("id", ["", "../../etc/passwd", "0" * 32, "x\0"])
async def test_an_unknown_id_is_refused(tmp_path: Path, id: str) -> None:
    with pytest.raises(errors.NotFound, match="start it again"):
        await Uploads(tmp_path).append(id, 0, b"x")


async def test_abandoned_uploads_are_swept(tmp_path: Path) -> None:
    clock = ManualClock()
    (tmp_path / "left-by-an-earlier-core.tar.gz").write_text("x")
    uploads = Uploads(tmp_path, clock)
    old = await uploads.begin()
    await clock.advance(3000)
    new = await uploads.begin()
    await clock.advance(601)
    uploads.sweep()
    assert [path.name for path in tmp_path.iterdir()] == [f"{new.id}.tar.gz"]
    with pytest.raises(errors.NotFound):
        await uploads.append(old.id, 0, b"x")
