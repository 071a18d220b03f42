"""Files of a folder: found without leaving it, and sent without passing through Python."""

from __future__ import annotations

import mimetypes
import os
import re
import stat
from email.utils import formatdate, parsedate_to_datetime
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

from microcosmos.base import errors
from microcosmos.gateway.encodings import accepts, has_copy
from microcosmos.gateway.request import Pairs

from . import settings
from .routing import of_host

_INDEX = "index.html"
_WELL_KNOWN = ".well-known"
_READING = frozenset(("GET", "HEAD"))
# More digits than any file has bytes are no range; Python would take long to read very many.
_RANGE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII)
_PACKED = (("br", ".br"), ("gzip", ".gz"))

# Its own table and no file of the machine: the same types everywhere.
_types = mimetypes.MimeTypes()
for _suffix, _type in {
    ".avif": "image/avif",
    ".js": "text/javascript",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}.items():
    _types.add_type(_type, _suffix)


class File(NamedTuple):
    """A file that may be sent.

    Attributes:
        path: where it is, every link followed.
        named: what it was asked for as: its type is told by this.
        about: its size and time.
        cache: what ``Cache-Control`` says of it.
    """

    path: str
    named: str
    about: os.stat_result
    cache: str


class Mount:
    """One entry of ``[[static]]``."""

    def __init__(self, given: settings.Static) -> None:
        self.host = given.host
        self.prefix = given.path.rstrip("/")
        self._folder = given.folder
        self._fallback = given.fallback
        seconds = int(settings.duration(given.cache)) if given.cache else 0
        self._cache = f"public, max-age={seconds}" if seconds else "no-cache"

    def covers(self, host: str, path: str) -> bool:
        """Whether a path stands below this one."""
        if not of_host(self.host, host):
            return False
        return path == self.prefix or path.startswith(self.prefix + "/")

    def find(self, path: str, accept: str) -> File | str | None:
        """The file of a path, the path where it is to be asked for, or None if there is none."""
        # Links are followed anew each time: a folder may be changed for another by one.
        root = os.path.realpath(self._folder)
        inside = path[len(self.prefix) :].lstrip("/") if path != self.prefix else ""
        if path[len(self.prefix) : len(self.prefix) + 2] != "//" and _is_plain(inside):
            found = _regular(root, inside.rstrip("/"))
            if isinstance(found, str):
                if inside and not inside.endswith("/"):
                    return quote(path) + "/"
                found = _regular(found, _INDEX, within=root)
            elif inside.endswith("/"):
                found = None
            if isinstance(found, tuple):
                return File(found[0], found[0], found[1], self._cache)
        return self._page(root, inside, accept)

    def _page(self, root: str, inside: str, accept: str) -> File | None:
        """The page of a single-page app, for what looks like one of its own."""
        if not self._fallback:
            return None
        if "." in inside.rpartition("/")[2] and "text/html" not in accept:
            return None
        found = _regular(root, self._fallback)
        return File(found[0], found[0], found[1], "no-cache") if isinstance(found, tuple) else None

    def packed(self, file: File, accepted: str) -> tuple[File, str]:
        """The file as it was compressed beforehand, if the client accepts that, and how."""
        root = os.path.realpath(self._folder)
        for coding, suffix in _PACKED:
            if accepts(accepted, coding):
                found = _regular(root, os.path.relpath(file.path + suffix, root))
                if isinstance(found, tuple) and found[1].st_mtime >= file.about.st_mtime:
                    return file._replace(path=found[0], about=found[1]), coding
        return file, ""


def _is_plain(inside: str) -> bool:
    """Whether a path names only what may be shown: nothing hidden, no way up, one spelling."""
    if any(bad in inside for bad in ("\0", "\\", "\ufffd", "//")):
        return False
    parts = inside.rstrip("/").split("/")
    if parts[0] == _WELL_KNOWN:
        parts = parts[1:]
    return not any(part.startswith(".") for part in parts)


def _regular(
    folder: str, inside: str, *, within: str = ""
) -> tuple[str, os.stat_result] | str | None:
    """A file and what is known of it, or the path of a folder, or None."""
    within = within or folder
    try:
        path = os.path.realpath(os.path.join(folder, inside), strict=True)  # noqa: PTH118
        about = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    inner = path.removeprefix(within.rstrip("/") + "/") if path != within else ""
    # A link may neither leave the folder nor show what is hidden in it.
    if inner == path or not _is_plain(inner):
        return None
    if stat.S_ISDIR(about.st_mode):
        return path
    if not stat.S_ISREG(about.st_mode) or not os.access(path, os.R_OK):
        return None
    return path, about


class Statics:
    """All folders; the longest path is asked first, and of two a host's own.

    Args:
        given: the entries.
    """

    def __init__(self, given: list[settings.Static]) -> None:
        mounts = [Mount(one) for one in given]
        mounts.sort(key=lambda one: (-len(one.prefix), not one.host))
        self._below = [one for one in mounts if one.prefix]
        self._root = [one for one in mounts if not one.prefix]

    def mount(self, host: str, path: str) -> Mount | None:
        """The folder whose path this is below."""
        return next((one for one in self._below if one.covers(host, path)), None)

    def root(self, host: str) -> Mount | None:
        """The folder that stands at ``/``: asked for what is no service's."""
        return next((one for one in self._root if of_host(one.host, host)), None)


class OnlyRead(errors.MethodNotAllowed):
    """Files are only read."""

    headers: ClassVar[Pairs] = [("allow", "GET, HEAD")]


def answer(mount: Mount, scope: Any, proto: Any, request: dict[str, str]) -> bool:
    """Send the file of a request; False if there is none.

    Raises:
        OnlyRead: it has another method.
    """
    found = mount.find(scope.path, request.get("accept", ""))
    if found is None:
        return False
    if scope.method not in _READING:
        raise OnlyRead("gateway.static", f"a file takes no {scope.method}")
    if isinstance(found, str):
        query = f"?{scope.query_string}" if scope.query_string else ""
        proto.response_empty(308, [("location", found + query)])
    else:
        _send(mount, found, proto, request)
    return True


def _send(mount: Mount, file: File, proto: Any, request: dict[str, str]) -> None:
    part = "range" in request
    accepted = "" if part else request.get("accept-encoding", "")
    chosen, coding = mount.packed(file, accepted) if accepted else (file, "")
    etag = _etag(chosen.about, coding)
    headers = _headers(chosen, coding, etag)
    if _unchanged(request, etag, chosen.about):
        proto.response_empty(304, [pair for pair in headers if pair[0] != "content-type"])
        return
    size = chosen.about.st_size
    asked = _range(request, etag, chosen.about) if part else None
    if asked is None:
        _send_part(proto, 200, headers, chosen.path, 0, size)
    elif isinstance(asked, tuple):
        headers.append(("content-range", f"bytes {asked[0]}-{asked[1] - 1}/{size}"))
        _send_part(proto, 206, headers, chosen.path, *asked)
    else:
        headers = [("content-range", f"bytes */{size}"), ("accept-ranges", "bytes")]
        proto.response_empty(416, headers)


def _send_part(proto: Any, status: int, headers: Pairs, path: str, start: int, end: int) -> None:
    """Send bytes of a file: those that were promised, even if it has grown since."""
    if start == end:
        proto.response_empty(status, headers)
        return
    headers.append(("content-length", str(end - start)))
    proto.response_file_range(status, headers, path, start, end)


def _headers(file: File, coding: str, etag: str) -> Pairs:
    kind, packed = _types.guess_type(file.named)
    if packed or kind is None:
        kind = "application/gzip" if packed == "gzip" else "application/octet-stream"
    if kind.startswith("text/") or kind in ("application/json", "image/svg+xml"):
        kind += "; charset=utf-8"
    headers = [
        ("content-type", kind),
        ("etag", etag),
        ("last-modified", formatdate(file.about.st_mtime, usegmt=True)),
        ("cache-control", file.cache),
        ("accept-ranges", "bytes"),
        ("vary", "Accept-Encoding"),
        ("x-content-type-options", "nosniff"),
    ]
    if coding:
        headers.append(("content-encoding", coding))
    return headers


def _etag(about: os.stat_result, coding: str) -> str:
    tail = f"-{coding}" if coding else ""
    return f'"{about.st_mtime_ns:x}-{about.st_size:x}{tail}"'


def _unchanged(request: dict[str, str], etag: str, about: os.stat_result) -> bool:
    """Whether the client's own copy is still good."""
    if (known := request.get("if-none-match")) is not None:
        return has_copy(known, etag)
    if (since := _time(request.get("if-modified-since", ""))) is not None:
        return int(about.st_mtime) <= since
    return False


def _range(
    request: dict[str, str], etag: str, about: os.stat_result
) -> tuple[int, int] | str | None:
    """The bytes that are asked for; a word if there are none such; None for the whole file.

    More than one range is answered by the whole, as the standard lets a server do: nobody makes
    it gather thousands of them.
    """
    if (condition := request.get("if-range")) is not None:
        same = condition == etag or _time(condition) == int(about.st_mtime)
        if not same:
            return None
    found = _RANGE.fullmatch(request["range"])
    if not found or not (found[1] or found[2]):
        return None
    size = about.st_size
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        if found[2] and int(found[2]) < start:
            return None
        end = min(size, int(found[2]) + 1) if found[2] else size
    return (start, end) if start < end else "unsatisfiable"


def _time(text: str) -> int | None:
    """Seconds since the epoch of an HTTP date."""
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
