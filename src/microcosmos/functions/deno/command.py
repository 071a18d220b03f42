"""How Deno is started: with no permission but the path of its own socket."""

from __future__ import annotations

import json
import os
from pathlib import Path

from microcosmos.base import errors
from microcosmos.functions import wire

from . import limits

LEAST_HEAP = 32 * 1024 * 1024
"""The fewest bytes of a heap that a worker starts with; less is raised to that."""

BUILTINS = frozenset(
    f"node:{name}"
    for name in (
        "assert",
        "async_hooks",
        "buffer",
        "crypto",
        "diagnostics_channel",
        "events",
        "path",
        "punycode",
        "querystring",
        "stream",
        "stream/web",
        "string_decoder",
        "url",
        "util",
        "util/types",
        "zlib",
    )
)
"""The modules of Node that functions may import, as in ``worker/doors.js``."""

_MEGABYTE = 1024 * 1024

SCRIPTS = Path(__file__).parent / "worker"
"""Where what a worker runs first is."""


_QUIET = {
    "DENO_NO_UPDATE_CHECK": "1",
    "DENO_NO_PROMPT": "1",
    "NO_COLOR": "1",
}
"""Without them it asks a site on the network for news of itself, or a terminal for leave."""

_ALONE = (
    "--no-prompt",
    "--no-remote",
    "--no-npm",
    "--no-config",
    "--no-lock",
    "--no-check",
    "--node-modules-dir=none",
)
"""It looks nothing up: neither on the network nor in the folders around it."""


def binary() -> str:
    """The path of Deno's program.

    Raises:
        errors.Unavailable: it is not installed.
    """
    try:
        from deno import find_deno_bin

        return str(find_deno_bin())
    except (ImportError, FileNotFoundError):
        raise errors.Unavailable(
            "functions.deno",
            "modules and TypeScript run on Deno, which is not installed here;"
            " pip install 'microcosmos[deno]'",
        ) from None


def quiet(folder: Path) -> dict[str, str]:
    """The environment of any Deno that keeps its files in a folder."""
    return {**_QUIET, "DENO_DIR": os.fspath(folder)}


def command(socket: Path, *, heap: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """What starts a worker: its arguments and its whole environment.

    Its standard input must be empty (``/dev/null``). It listens on the socket, then gives its
    permissions back; SIGTERM lets it end what it has begun. Its socket is open to whom the
    umask leaves it to.

    Args:
        socket: where it listens; there must be nothing yet.
        heap: bytes of memory for all functions in it; beyond that it dies.
        folder: where Deno may keep files of its own, shared by all workers.

    Raises:
        errors.Unavailable: Deno is not installed.
    """
    arguments = [
        binary(),
        "run",
        *_ALONE,
        f"--v8-flags=--max-old-space-size={max(heap, LEAST_HEAP) // _MEGABYTE}",
        f"--allow-net=unix:{socket}",
        f"--allow-read={socket}",
        f"--allow-write={socket}",
        os.fspath(SCRIPTS / "main.js"),
        os.fspath(socket),
        json.dumps(_told(max(heap, LEAST_HEAP))),
    ]
    return arguments, quiet(folder)


def _told(heap: int) -> dict[str, float]:
    return {
        "heap": heap,
        "operations": limits.OPERATIONS,
        "logLine": limits.LOG_LINE,
        "logLines": limits.LOG_LINES,
        "noteLine": wire.NOTE_LINE,
        "noteRoom": wire.NOTE_ROOM,
        "loading": limits.LOADING,
    }
