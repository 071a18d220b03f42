"""The guest as machine code: where it is kept, and how it gets there.

Nothing of the engine is loaded for that: whoever starts workers may see to it beforehand.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

from microcosmos.base import errors

from .limits import COMPILING

_FORM = "1"
"""Of the compiled file; another one whenever `guest.engine` says anything else."""

_ID = "functions.wasm"


def path(folder: Path) -> Path:
    """Where in a folder it is.

    Raises:
        errors.Unavailable: the libraries are not installed.
    """
    return folder / f"{_name()}.cwasm"


def source() -> bytes:
    """The guest as WebAssembly.

    Raises:
        errors.Unavailable: the library that has it is not installed.
    """
    # Not imported, as that would bring the library's own engine along.
    found = importlib.util.find_spec("quickjs_rs")
    if found is None or not found.submodule_search_locations:
        raise _missing()
    return (Path(found.submodule_search_locations[0]) / "_guest.wasm").read_bytes()


def make(path: Path) -> None:
    """Compile it into a file, by another process: that starts threads.

    Raises:
        errors.Unavailable: it cannot be compiled.
    """
    try:
        done = subprocess.run(
            _command(path), capture_output=True, text=True, timeout=COMPILING, check=False
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise errors.Unavailable(_ID, f"the engine is not compiled: {exc}") from None
    if done.returncode:
        raise _failed(done.stderr)


async def ahead(folder: Path) -> None:
    """See that it is in a folder, before workers are started that want it.

    Raises:
        errors.Unavailable: it cannot be compiled.
    """
    if path(folder).exists():
        return
    process = await asyncio.create_subprocess_exec(
        *_command(path(folder)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(COMPILING):
            _, said = await process.communicate()
    except TimeoutError:
        process.kill()
        raise errors.Unavailable(_ID, "the engine is not compiled: it takes too long") from None
    if process.returncode:
        raise _failed(said.decode("utf-8", "replace"))


@functools.cache
def _name() -> str:
    try:
        version = importlib.metadata.version("wasmtime")
    except importlib.metadata.PackageNotFoundError:
        raise _missing() from None
    return hashlib.sha256(f"{_FORM} {version}".encode() + source()).hexdigest()[:32]


def _command(path: Path) -> list[str]:
    return [sys.executable, "-m", f"{__package__}.guest", str(path)]


def _failed(said: str) -> errors.Unavailable:
    last = said.strip().rpartition("\n")[2]
    return errors.Unavailable(_ID, f"the engine is not compiled: {last}")


def _missing() -> errors.Unavailable:
    return errors.Unavailable(
        _ID,
        "functions with isolation wasm want wasmtime and quickjs-rs:"
        " pip install 'microcosmos[wasm]'",
    )
