"""Archives that are unpacked to where the sources of services are."""

from __future__ import annotations

import asyncio
from pathlib import Path

from microcosmos.base.home import Home
from microcosmos.runtime import archive
from microcosmos.runtime.checkout import Checkouts


async def test_many_unpack_the_same_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    folder = tmp_path / "program"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.py").write_text(f"print({number})\n")
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        archive.pack(folder, file)
    checkouts = Checkouts(home, None, 60)  # type: ignore[arg-type] - it fetches nothing
    for name in (f"name-{number}" for number in range(30)):
        made = await asyncio.gather(*(checkouts.unpack(name, upload) for _ in range(4)))
        (hash,) = {one.hash for one in made}
        assert len([*checkouts.place(name, hash).iterdir()]) == 20
    assert not [*(home.server / "sources").glob(".new-*")]
