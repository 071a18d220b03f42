"""What Deno compiles of the worker's scripts: made once, by nobody's worker, and only read."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from microcosmos.functions import wire
from microcosmos.functions.deno import warming
from microcosmos.functions.lines import Lines
from microcosmos.functions.zygote.client import ZygoteClient, open_zygote

from ..zygotes import home, until


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        # Their readers hold locks in it.
        if path.is_file() and not path.name.endswith("-shm")
    }


async def started(zygote: ZygoteClient, lines: Lines, name: str) -> None:
    worker = await zygote.start("deno", name, heap=64 << 20)
    line = await lines.line(worker.socket, worker.pid)
    assert await line.ask(wire.HOST, b"null", 10) == b"[]"


async def test_it_is_made_with_the_second_worker_and_never_written_by_one() -> None:
    with home() as place:
        kept = warming.place(place.server / "deno")
        async with open_zygote(place) as zygote, Lines() as lines:
            await started(zygote, lines, "micro/alice")
            assert not kept.parent.exists()
            await started(zygote, lines, "micro/bob")
            await until(kept.exists)
            made = digests(kept)
            assert any("v8_code_cache" in name for name in made)
            for name in ("micro/carol", "micro/dave"):
                await started(zygote, lines, name)
            assert digests(kept) == made
            assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_other_scripts_have_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main.js").write_text("1")
    monkeypatch.setattr(warming, "SCRIPTS", tmp_path)
    here = tmp_path / "kept"
    try:
        first = warming.place(here)
        warming.place.cache_clear()
        (tmp_path / "main.js").write_text("2")
        assert warming.place(here) != first
    finally:
        warming.place.cache_clear()


def test_one_that_cannot_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(warming, "command", lambda path, heap, folder: (argv, {}))
    assert not warming.warm(tmp_path)
    assert list(tmp_path.iterdir()) == []
