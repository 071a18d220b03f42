"""Functions in a home whose server does not run, kept as deploys keep them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from microcosmos.base import profiles
from microcosmos.base.home import Home
from microcosmos.config.keys import Keys
from microcosmos.functions.catalogue import Catalogue
from microcosmos.functions.claiming import Claimant
from microcosmos.functions.interface import Draft
from microcosmos.functions.versions import Made
from microcosmos.store import PLATFORM, open_store

CODE = 'const handler = () => "hello"'
AT_ONCE = 64


async def fill(path: Path, count: int) -> None:
    """Deploy so many functions of admin's."""
    home = Home(path)
    home.make()
    url = profiles.placed(profiles.load().store, home.server)
    async with open_store(url) as store:
        catalogue = Catalogue(store.table(database=PLATFORM), Keys())
        free = asyncio.Semaphore(AT_ONCE)

        async def deploy(number: int) -> None:
            draft = Draft(name=f"function{number}", files={"index.js": CODE}, main="index.js")
            made = Made(
                draft=draft,
                main="index.js",
                language="javascript",
                form="handler",
                engine="quickjs",
                code=CODE,
            )
            async with free:
                await catalogue.deploy("micro", made, None, Claimant("admin"))

        await asyncio.gather(*(deploy(number) for number in range(count)))
