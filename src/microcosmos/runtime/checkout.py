"""Sources on the server: unpacked, fetched or copied into ``sources/NAME/HASH``, then unchanged."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from microcosmos.base import errors
from microcosmos.base.home import Home

from . import archive, environment
from . import folder as folders
from .children import Children, ending, process_name
from .failure import Failure
from .interface import ProcessSpec
from .logs import last_lines
from .source import Source, examples_folder

_FRESH = 600.0


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """A source's content, in its place."""

    hash: str
    commit: str = ""


class Checkouts:
    """Brings sources to their places.

    Args:
        home: the platform's home; ``server/sources`` is used.
        children: starts the program that fetches.
        time_limit: how long Git may take, in seconds.
    """

    def __init__(self, home: Home, children: Children, time_limit: float) -> None:
        self._home = home
        self._folder = home.server / "sources"
        self._children = children
        self._time_limit = time_limit

    def place(self, name: str, hash: str) -> Path:
        """Where a service's source of a hash is, or would be."""
        return self._folder / name / hash

    async def unpack(self, name: str, upload: Path) -> Checkout:
        """Take an uploaded archive.

        Raises:
            errors.BadRequest: it is damaged, or tries to leave its folder.
            errors.TooLarge: it is over the published limits.
        """
        return await asyncio.to_thread(self._unpack, name, upload)

    async def fetch(self, name: str, source: Source, generation: str) -> Checkout:
        """Bring a repository's ref, or an example.

        Raises:
            Failure: it cannot be had.
        """
        try:
            if source.kind == "example":
                return await asyncio.to_thread(self._copy, name, source.location)
            return await self._fetch(name, source, generation)
        except (errors.BadRequest, errors.TooLarge) as exc:
            raise Failure(exc.detail) from None

    def keep_only(self, name: str, hashes: set[str]) -> None:
        """Remove a service's other sources, but none that has only just come and waits its turn."""
        here = self._folder / name
        for old in here.iterdir() if here.is_dir() else ():
            if old.name not in hashes and time.time() - old.stat().st_mtime > _FRESH:
                shutil.rmtree(old, ignore_errors=True)

    def forget(self, name: str) -> None:
        """Remove every source of a service."""
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what an earlier core left half done."""
        for left in self._folder.glob(".new-*") if self._folder.is_dir() else ():
            shutil.rmtree(left, ignore_errors=True)

    def _unpack(self, name: str, upload: Path) -> Checkout:
        with self._workplace() as workplace, upload.open("rb") as file:
            tree = workplace / "tree"
            tree.mkdir()
            archive.unpack(file, tree)
            return Checkout(hash=self._settle(name, tree))

    def _copy(self, name: str, example: str) -> Checkout:
        origin = examples_folder() / example
        if not origin.is_dir():
            known = sorted(folder.name for folder in examples_folder().glob("*/"))
            raise Failure(f"there is no example {example}; there are: {', '.join(known) or 'none'}")
        with self._workplace() as workplace:
            tree = workplace / "tree"
            for entry in folders.entries(origin):
                target = tree / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(entry.path, target, follow_symlinks=False)
            return Checkout(hash=self._settle(name, tree))

    async def _fetch(self, name: str, source: Source, generation: str) -> Checkout:
        with self._workplace() as workplace:
            await self._run_git(name, source, generation, workplace)
            commit = (workplace / "commit").read_text()
            tree = (workplace / "tree").resolve()
            part = (tree / source.path).resolve()
            if not part.is_relative_to(tree) or not part.is_dir():
                raise Failure(f"{source} has no folder {source.path}")
            hash = await asyncio.to_thread(self._settle, name, part)
            return Checkout(hash=hash, commit=commit)

    async def _run_git(self, name: str, source: Source, generation: str, workplace: Path) -> None:
        log = self._home.logs / f"{name}.build.log"
        log.write_bytes(b"")
        module = ["-P", "-m", "microcosmos.runtime.git"]
        spec = ProcessSpec(
            name=process_name(name, generation, "fetch", secrets.token_hex(3)),
            argv=[sys.executable, *module, source.location, source.ref, str(workplace)],
            env={**environment.tools(), **environment.python_path()},
            cwd=str(workplace),
            log=str(log),
        )
        try:
            ended = await self._children.run(spec, self._time_limit)
        except errors.DeadlineExceeded as exc:
            raise Failure(f"fetching {source} {exc.detail}", last_lines(log)) from None
        if ended.code != 0:
            output = last_lines(log)
            raise Failure(output[-1] if output else f"git {ending(ended)}", output)

    def _settle(self, name: str, tree: Path) -> str:
        found = folders.entries(tree, honour_ignore=False)
        if not found:
            raise errors.BadRequest("runtime.checkout", "the source has no files")
        hash = folders.content_hash(found)
        place = self.place(name, hash)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                tree.rename(place)
            except OSError:
                # Somebody else has settled the same meanwhile.
                if not place.exists():
                    raise
        os.utime(place)
        return hash

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        """A folder on the same file system as the sources, so that a rename settles them."""
        workplace = self._folder / f".new-{secrets.token_hex(6)}"
        workplace.mkdir(parents=True, mode=0o700)
        try:
            yield workplace
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
