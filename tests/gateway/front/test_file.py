"""The file of the settings, as a gateway follows it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from microcosmos.base.home import Home
from microcosmos.gateway.front import file as file_module
from microcosmos.gateway.front.file import File
from microcosmos.gateway.front.settings import Settings

LINES = ("[block]\n", "keys = ['key']\n", "addresses = [\n", "'127.0.0.1']\n")


class SavedMeanwhile(File):
    """A file whose saving goes on after each look at it."""

    def __init__(self, home: Home, *pieces: str) -> None:
        super().__init__(home)
        self._pieces = iter(pieces)

    def _look(self) -> tuple[int, ...] | None:
        seen = super()._look()
        if (piece := next(getattr(self, "_pieces", iter(())), None)) is not None:
            with self.path.open("a") as file:
                file.write(piece)
        return seen


async def test_half_of_it_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "EVERY", 0.001)
    home = Home(tmp_path)
    home.make()
    file = SavedMeanwhile(home, *LINES)
    taken: list[Settings] = []
    following = asyncio.create_task(file.follow(taken.append))
    async with asyncio.timeout(60):
        while not taken:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    following.cancel()
    assert file.path.read_text() == "".join(LINES)
    assert [str(one) for settings in taken for one in settings.block.addresses] == ["127.0.0.1"]
