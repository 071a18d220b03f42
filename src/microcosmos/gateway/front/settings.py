"""`gateway.toml`: what the operator says of the gateway, read and checked as a whole."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from microcosmos.base import codec, errors, names
from microcosmos.base.patterns import Pattern, fields_of

from .addresses import network

NAME = "gateway.toml"
"""The file's name in `MICRO_HOME`."""

MAX_RULES = 1000
"""The most entries of one kind in gateway.toml."""

FASTEST = 1_000_000
"""The highest rate of a limit, requests in a second."""

CACHE_BYTES = 32 * 1024 * 1024
"""Bytes of answers that one gateway process keeps, unless gateway.toml says otherwise."""

_HOST = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RATE = re.compile(r"(\d{1,9})/([a-z]+)")
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNITS = {
    unit: seconds
    for seconds, units in (
        (1.0, ("s", "sec", "second")),
        (60.0, ("m", "min", "minute")),
        (3600.0, ("h", "hour")),
        (86400.0, ("d", "day")),
    )
    for unit in units
}


def duration(text: str) -> float:
    """Seconds of ``500ms``, ``10s``, ``5m``, ``1h`` or ``7d``.

    Raises:
        ValueError: it is no duration.
    """
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:40]!r} is no duration like 10s, 5m or 1h")
    return int(found[1]) * _SECONDS[found[2]]


def rate(text: str) -> tuple[int, float]:
    """How many in how many seconds: ``100/s``, ``60/m``, ``10000/day``.

    Raises:
        ValueError: it is no rate, or none at all is allowed.
    """
    found = _RATE.fullmatch(text)
    if not found or found[2] not in _UNITS or not int(found[1]):
        raise ValueError(f"{text[:40]!r} is no rate like 100/s, 60/m, 1000/h or 10000/day")
    return int(found[1]), _UNITS[found[2]]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file. What is wrong in it is told with the key's own name."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            try:
                self.check(name)
            except (ValueError, errors.Error) as exc:
                said = exc.detail if isinstance(exc, errors.Error) else str(exc)
                raise ValueError(f"{name}: {said}") from None

    def check(self, name: str) -> None:
        """Raise ValueError if what stands under this key is wrong."""


class Proxies(_Section, frozen=True, kw_only=True):
    """``[proxies]``: whose word is taken for the address that a request comes from.

    Attributes:
        trusted: networks of the proxies before this server.
        header: the one header that they write it in; others like it are removed.
    """

    trusted: list[str] = []
    header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"

    def check(self, name: str) -> None:
        if name == "trusted":
            for text in self.trusted:
                network(text)


class Block(_Section, frozen=True, kw_only=True):
    """``[block]``: who is refused.

    Attributes:
        addresses: addresses and networks.
        keys: tokens and API keys, or ``sha256:`` and their digest in hexadecimal.
    """

    addresses: list[str] = []
    keys: list[str] = []

    def check(self, name: str) -> None:
        if name == "addresses":
            for text in self.addresses:
                network(text)
        elif not all(self.keys):
            raise ValueError("a key is empty")


class Limit(_Section, frozen=True, kw_only=True):
    """``[[limits]]``: how much one client may ask for.

    Attributes:
        key: what tells clients apart: ``address``, ``token``, ``header:NAME``, or ``all`` of them
            together.
        rate: how many requests in which time, ``100/s``.
        burst: how many of them at once; the number of the rate unless said.
        quota: how many in each minute, hour or day of UTC, ``10000/day``; kept over restarts.
        path: only requests of this path, and below it.
        service: only requests of this service; ``v1.*`` is each that begins so.
        name: what the client is told it by.
    """

    key: str = "address"
    rate: str = ""
    burst: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0
    quota: str = ""
    path: str = ""
    service: str = ""
    name: str = ""

    def check(self, name: str) -> None:
        if name == "key" and self.key not in ("address", "token", "all"):
            kind, _, header = self.key.partition(":")
            if kind != "header" or not _HEADER.fullmatch(header):
                raise ValueError(f"{self.key!r} is none of address, token, header:NAME and all")
        elif name == "rate":
            if not self.rate and not self.quota:
                raise ValueError("give a rate or a quota")
            if self.rate and operator.truediv(*rate(self.rate)) > FASTEST:
                raise ValueError(f"{self.rate!r} is more than {FASTEST} in a second")
        elif name == "burst" and self.burst and not self.rate:
            raise ValueError("a burst needs a rate")
        elif name == "quota" and self.quota:
            rate(self.quota)
        elif name == "path" and self.path:
            Pattern(self.path)
        elif name == "name" and self.name and not _LABEL.fullmatch(self.name):
            raise ValueError(f"{self.name!r} has more than letters, digits, '-' and '_'")


class _Hosted(_Section, frozen=True, kw_only=True):
    """A section that may be of one host alone; ``*.example.com`` is each below that name."""

    host: str = ""

    def check(self, name: str) -> None:
        if name == "host" and self.host and not _HOST.fullmatch(self.host):
            raise ValueError(f"{self.host!r} is no host name in lower case, without a port")


class Static(_Hosted, frozen=True, kw_only=True):
    """``[[static]]``: files of a folder.

    Attributes:
        path: where they stand.
        folder: where they are kept; relative to the settings' own folder.
        fallback: the file that is given for pages that are none, of a single-page app.
        cache: how long a client may keep a file without asking, ``1h``; 0 s unless said.
    """

    path: str
    folder: str
    fallback: str = ""
    cache: str = ""

    def check(self, name: str) -> None:
        super().check(name)
        if name == "path" and Pattern(self.path).fields:
            raise ValueError(f"{self.path!r} has fields; a folder's path has none")
        if name == "folder" and not self.folder:
            raise ValueError("it is empty")
        if name == "fallback" and self.fallback and not _is_inside(self.fallback):
            raise ValueError(f"{self.fallback!r} is no file of the folder")
        if name == "cache" and self.cache:
            duration(self.cache)


def _is_inside(path: str) -> bool:
    """Whether a relative path leads to something below where it begins."""
    return not {"", ".", ".."} & set(path.split("/")) and "\0" not in path


class Host(_Hosted, frozen=True, kw_only=True):
    """``[[hosts]]``: a domain whose paths are those of one service."""

    service: str

    def check(self, name: str) -> None:
        super().check(name)
        if name == "host" and not self.host:
            raise ValueError("it is missing")
        if name == "service":
            names.check_service(self.service)


class Route(_Hosted, frozen=True, kw_only=True):
    """``[[routes]]``: a path of one's own for an endpoint; its fields are fields of the request.

    Attributes:
        path: ``/v2/users/{id}``; ``{rest*}`` is all that is left.
        service: whose endpoint it is.
        endpoint: ``Users.Read``, or ``read``.
        method: only requests of this method; any unless said.
    """

    path: str
    service: str
    endpoint: str = ""
    method: str = ""

    def check(self, name: str) -> None:
        super().check(name)
        if name == "path":
            Pattern(self.path)
        elif name == "service":
            names.check_service(self.service)
        elif name == "endpoint" and self.endpoint:
            names.check_endpoint(names.endpoint_name(self.service, self.endpoint))
        elif name == "method" and not re.fullmatch(r"[A-Z]*", self.method):
            raise ValueError(f"{self.method!r} is no method in capitals")


class Redirect(_Hosted, frozen=True, kw_only=True):
    """``[[redirects]]``: where a path has gone to.

    Attributes:
        path: as in routes.
        to: a path or a URL; ``{id}`` is filled in.
        status: 308 keeps the method and is remembered by browsers.
    """

    path: str
    to: str
    status: Literal[301, 302, 303, 307, 308] = 308

    def check(self, name: str) -> None:
        super().check(name)
        if name == "path":
            Pattern(self.path)
        elif name == "to":
            url = urlsplit(self.to)
            if not (self.to.startswith("/") or (url.scheme in ("http", "https") and url.hostname)):
                raise ValueError(f"{self.to!r} is neither a path nor a URL")
            if re.search(r"[\x00-\x20\x7f-\U0010ffff\\]", self.to):
                raise ValueError(f"{self.to!r} has characters that a URL writes with %")
            if "{" in url.netloc:
                raise ValueError("a field in the host would let anybody choose it")
            if missing := set(fields_of(self.to)) - set(Pattern(self.path).fields):
                raise ValueError(f"the path has no field {{{min(missing)}}}")


class Cache(_Section, frozen=True, kw_only=True):
    """``[cache]``: answers of endpoints that allow it.

    Attributes:
        bytes: what one gateway process keeps; 0 keeps none.
    """

    bytes: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = CACHE_BYTES


_Rules = msgspec.Meta(max_length=MAX_RULES)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `gateway.toml`."""

    proxies: Proxies | None = None
    block: Block = Block()
    limits: Annotated[list[Limit], _Rules] = []
    static: Annotated[list[Static], _Rules] = []
    hosts: Annotated[list[Host], _Rules] = []
    routes: Annotated[list[Route], _Rules] = []
    redirects: Annotated[list[Redirect], _Rules] = []
    cache: Cache = Cache()


NONE = Settings()
"""What holds without a file."""


def read(path: Path) -> Settings:
    """The settings of a file.

    Raises:
        errors.BadRequest: it cannot be read or is wrong; one line that names the file and the key.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise _wrong(path, exc.strerror or str(exc)) from None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Settings:
    """The settings that these bytes of a file are.

    Raises:
        errors.BadRequest: see `read`.
    """
    try:
        settings = msgspec.toml.decode(data, type=Settings)
    except msgspec.ValidationError as exc:
        raise _wrong(path, _told(str(exc))) from None
    except RecursionError:
        raise _wrong(path, "nested too deeply") from None
    except codec.DECODE_ERRORS as exc:
        raise _wrong(path, codec.bad_input(NAME, exc).detail) from None
    return _with_folders(settings, path)


def _with_folders(settings: Settings, path: Path) -> Settings:
    """The settings with the folders of files as they are found from anywhere."""
    static = []
    for number, one in enumerate(settings.static):
        folder = path.absolute().parent / Path(one.folder).expanduser()
        if not folder.is_dir():
            raise _wrong(path, f"static[{number}].folder: there is no folder {folder}")
        static.append(msgspec.structs.replace(one, folder=str(folder)))
    _once(path, "static", [(one.host, one.path.rstrip("/")) for one in static])
    _once(path, "hosts", [one.host for one in settings.hosts])
    return msgspec.structs.replace(settings, static=static)


def _once(path: Path, section: str, keys: Iterable[object]) -> None:
    seen = set()
    for number, key in enumerate(keys):
        if key in seen:
            raise _wrong(path, f"{section}[{number}]: an entry before it is for the same")
        seen.add(key)


def _told(text: str) -> str:
    """What msgspec says, with the place first: ``limits[0].rate: …``."""
    problem, _, place = text.partition(" - at `$.")
    place = place.rstrip("`")
    known = re.match(r"Object contains unknown field `(.*)`", problem)
    if known:
        problem = f"there is no key {known[1]!r} here"
    elif missing := re.match(r"Object missing required field `(.*)`", problem):
        problem = f"the key {missing[1]!r} is missing"
    elif re.match(r"[a-z]+: ", problem):
        # One of our own, which begins with its key.
        return f"{place}.{problem}"
    else:
        problem = problem[:1].lower() + problem[1:]
    return f"{place}: {problem}" if place else problem


def _wrong(path: Path, problem: str) -> errors.BadRequest:
    return errors.BadRequest("gateway.settings", f"{path}: {problem}")
