"""Folders: which files of one are a function's, read and measured before anything is sent."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from microcosmos.base import errors
from microcosmos.functions.forms import suffix_of
from microcosmos.functions.interface import MAX_FILES, MAX_SOURCE

SUFFIXES = frozenset(
    {
        *(".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".py", ".json", ".txt"),
        *(".md", ".html", ".css", ".svg", ".csv", ".xml", ".yaml", ".yml", ".toml", ".sql"),
        ".graphql",
    }
)
"""Of a folder the files with these suffixes are sent."""


def read(source: str) -> dict[str, str]:
    """The files of a function, by path; ``-`` is the standard input.

    Raises:
        click.UsageError: there is no such file or folder, or it holds nothing that can be sent.
    """
    if source == "-":
        return {"index.js": _text("-", sys.stdin.buffer.read())}
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    try:
        return {path.name: _text(source, path.read_bytes())}
    except OSError as exc:
        raise click.UsageError(f"{source}: {(exc.strerror or str(exc)).lower()}") from None


def _folder(folder: Path) -> dict[str, str]:
    # Imported here: a single file needs none of it.
    from microcosmos.runtime.folder import entries

    try:
        found = [one for one in entries(folder) if suffix_of(one.name) in SUFFIXES]
    except errors.Error as error:
        raise click.UsageError(error.detail) from None
    if not found:
        known = " ".join(sorted(SUFFIXES))
        raise click.UsageError(f"{folder} has no file of a function: {known}")
    way_out = "list what the function does not need in .gitignore"
    if len(found) > MAX_FILES:
        detail = f"{folder} has {len(found):,} files; a function has at most {MAX_FILES}: {way_out}"
        raise click.UsageError(detail)
    if (size := sum(one.size for one in found)) > MAX_SOURCE:
        limit = MAX_SOURCE // (1024 * 1024)
        detail = f"{folder} has {size:,} bytes; a function has at most {limit} MiB: {way_out}"
        raise click.UsageError(detail)
    files = {}
    for one in found:
        # A link is what it points to, which `entries` has seen to be inside.
        if one.path.is_file():
            files[one.name] = _text(str(one.path), one.path.read_bytes())
    return files


def _text(where: str, data: bytes) -> str:
    if len(data) > MAX_SOURCE:
        limit = MAX_SOURCE // (1024 * 1024)
        detail = f"{where} has {len(data):,} bytes; a function has at most {limit} MiB"
        raise click.UsageError(detail)
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        column = exc.start - data.rfind(b"\n", 0, exc.start)
        raise click.UsageError(f"{where}:{line}:{column}: this is not UTF-8") from None
