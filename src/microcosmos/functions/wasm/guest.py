"""The guest: QuickJS as WebAssembly, as `quickjs-rs` has it, compiled for this machine once.

``python -m microcosmos.functions.wasm.guest PATH`` compiles it. That starts threads, which a worker
shall not have: it reads what another process has left.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import wasmtime
from wasmtime import _bindings as native

from microcosmos.base import errors

from . import compiled
from .limits import MIB, NATIVE_STACK


def engine() -> wasmtime.Engine:
    """What compiled code runs in; starts no thread."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    # The library wants that of coroutines, which nobody has here, to be larger.
    native.wasmtime_config_async_stack_size_set(config.ptr(), NATIVE_STACK + MIB)
    config.max_wasm_stack = NATIVE_STACK
    return wasmtime.Engine(config)


def module(engine: wasmtime.Engine, folder: Path) -> wasmtime.Module:
    """The guest, compiled; read from a folder, in which it is put if it is not there.

    Raises:
        errors.Unavailable: it cannot be compiled.
    """
    path = compiled.path(folder)
    if not path.exists():
        compiled.make(path)
    try:
        return wasmtime.Module.deserialize_file(engine, str(path))
    except wasmtime.WasmtimeError:
        # The folder comes from another machine, or is broken.
        compiled.make(path)
    try:
        return wasmtime.Module.deserialize_file(engine, str(path))
    except wasmtime.WasmtimeError as exc:
        raise errors.Unavailable("functions.wasm", f"{path} cannot be used: {exc}") from None


def compile_to(path: Path) -> None:
    """Compile the guest into a file, which is there whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = wasmtime.Module(engine(), compiled.source()).serialize()
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_bytes(made)
    unfinished.replace(path)


if __name__ == "__main__":
    compile_to(Path(sys.argv[1]))
