"""What `micro run X` means: a local folder, a Git repository, or an example of the package."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from microcosmos.base import errors, names

SCHEMES = ("https", "ssh", "git", "file")
"""The ways in which a repository may be fetched."""

_ID = "runtime.source"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SCP = re.compile(r"([\w.-]+@[\w.-]+):(?!/)(.*)", re.DOTALL)
_HOST = re.compile(r"([\w.~-]+@)?[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_REF_MARK = re.compile(r"(?<=[^/@])@")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service's code comes from.

    Attributes:
        kind: ``folder`` is uploaded by the client, ``git`` fetched and ``example`` copied by the
            server.
        location: the folder's absolute path, the repository's URL, or the example's name.
        path: a folder inside the repository, empty for its top.
        ref: a branch, tag or commit, empty for the repository's default branch.
    """

    kind: Literal["folder", "git", "example"]
    location: str
    path: str = ""
    ref: str = ""

    def __str__(self) -> str:
        """What the SOURCE column shows: ``github.com/micro/services/helloworld``."""
        if self.kind == "example":
            return f"examples/{self.location}"
        place = self.location.removeprefix("https://").removesuffix(".git")
        return f"{place}/{self.path}" if self.path else place

    @property
    def version(self) -> str:
        """What the VERSION column shows: the ref, or ``latest``."""
        return self.ref or "latest"

    @property
    def names_a_commit(self) -> bool:
        """Whether the ref looks like a commit, so that fetching again gives the same."""
        return bool(_COMMIT.fullmatch(self.ref))


class Disk(Protocol):
    """What parsing asks of the file system."""

    def folder(self, path: str) -> bool:
        """Whether a folder is there."""

    def repository(self, path: str) -> bool:
        """Whether a Git repository, bare or not, is there."""


class LocalDisk:
    """This machine's file system."""

    def folder(self, path: str) -> bool:
        return Path(path).is_dir()

    def repository(self, path: str) -> bool:
        here = Path(path)
        return (here / ".git").exists() or (
            (here / "HEAD").is_file() and (here / "objects").is_dir()
        )


LOCAL_DISK = LocalDisk()


def parse(text: str, *, base_url: str = "", cwd: str = "", disk: Disk = LOCAL_DISK) -> Source:
    """Read what a user typed after `micro run`.

    Args:
        text: an existing folder, a Git URL, ``host/owner/repo[/path][@ref]``, or a bare name.
        base_url: where bare names are looked up (`git.baseurl`); by default the examples.
        cwd: what relative folders start from; the process's own by default.
        disk: what is there.

    Raises:
        errors.BadRequest: it means nothing; the detail says what to type.
    """
    if not text or "\0" in text:
        raise errors.BadRequest(_ID, "name a folder, a Git repository or an example")
    if url := _URL.fullmatch(text):
        return _repository(url[1].lower(), url[2], text, disk)
    path = str(Path(cwd or Path.cwd(), Path(text).expanduser()))
    if disk.folder(path):
        return Source(kind="folder", location=os.path.normpath(path))
    if text[0] in "./~":
        raise errors.BadRequest(_ID, f"there is no folder {text}")
    if scp := _SCP.fullmatch(text):
        return _repository("ssh", f"{scp[1]}/{scp[2]}", text, disk)
    first, slash, _ = text.partition("/")
    if slash and ("." in first or ":" in first) and "@" not in first:
        return _repository("https", text, text, disk)
    return _bare(text, base_url, disk)


def name_of(source: Source, chosen: str = "") -> str:
    """The service's name: the chosen one, else the base name of its folder.

    Raises:
        errors.BadRequest: it is no service name.
    """
    if chosen:
        return names.check_service(chosen)
    last = (source.path or source.location).rstrip("/").rpartition("/")[2]
    try:
        return names.check_service(last.removesuffix(".git"))
    except errors.BadRequest as exc:
        raise errors.BadRequest(exc.id, f"{exc.detail}; or choose one with --name") from None


def check(source: Source) -> Source:
    """Return a source that came over the wire when it is a good one.

    Raises:
        errors.BadRequest: a scheme, host, path or ref that is not allowed.
    """
    if source.kind == "git":
        url = _URL.fullmatch(source.location)
        if not url:
            raise errors.BadRequest(_ID, f"{source.location[:200]!r} is no URL of a repository")
        _check_url(url[1], url[2], source.location)
        _check_path(source.path)
    elif source.kind == "example":
        _check_path(source.location)
    elif not source.location.isprintable() or len(source.location) > 4096:
        raise errors.BadRequest(_ID, "the folder's path cannot be shown on one line")
    if source.ref and source.kind != "git":
        raise errors.BadRequest(_ID, f"only a Git repository has versions: leave @{source.ref} out")
    check_ref(source.ref)
    return source


def check_ref(ref: str) -> None:
    """Refuse what Git would not take as a branch, tag or commit, or would take as an option.

    Raises:
        errors.BadRequest: it is none.
    """
    good = not ref or (_REF.fullmatch(ref) and len(ref) <= 200 and ".." not in ref)
    if not good or ref.endswith((".lock", "/", ".")) or "//" in ref:
        raise errors.BadRequest(_ID, f"{ref[:80]!r} is no branch, tag or commit")


def examples_folder() -> Path:
    """Where the examples are: inside the installed package, or beside an editable one."""
    package = Path(__file__).parents[1]
    inside = package / "examples"
    return inside if inside.is_dir() else package.parents[1] / "examples"


def _bare(text: str, base_url: str, disk: Disk) -> Source:
    name, ref = _split_ref(text)
    if base_url:
        joined = f"{base_url.rstrip('/')}/{name}" + (f"@{ref}" if ref else "")
        found = parse(joined, disk=disk, cwd="/")
        if found.kind == "git":
            return found
        raise errors.BadRequest(_ID, f"git.baseurl {base_url!r} is no place of Git repositories")
    if ref:
        raise errors.BadRequest(
            _ID,
            f"examples have no versions: leave @{ref} out, or say where {name} is with "
            "`micro user config set git.baseurl URL`",
        )
    return check(Source(kind="example", location=name))


def _repository(scheme: str, rest: str, text: str, disk: Disk) -> Source:
    host, _, tail = rest.partition("/")
    path, ref = _split_ref(tail)
    parts = [part for part in path.split("/") if part]
    if scheme == "file":
        length = _file_length(host, parts, text, disk)
    else:
        length = _hosted_length(parts, text)
    location = f"{scheme}://{host}/{'/'.join(parts[:length])}"
    source = Source(kind="git", location=location, path="/".join(parts[length:]), ref=ref)
    return check(source)


def _hosted_length(parts: list[str], text: str) -> int:
    """How many parts name the repository: up to one that ends in .git, else owner and name."""
    for length, part in enumerate(parts, 1):
        if part.endswith(".git"):
            return length
    if len(parts) < 2:
        raise errors.BadRequest(_ID, f"{text} names no repository: use host/owner/repository")
    return 2


def _file_length(host: str, parts: list[str], text: str, disk: Disk) -> int:
    if host not in ("", "localhost"):
        raise errors.BadRequest(_ID, f"{text}: use three slashes, file:///path/to/repository")
    for length in range(len(parts), 0, -1):
        if disk.repository("/" + "/".join(parts[:length])):
            return length
    raise errors.BadRequest(_ID, f"{text}: there is no Git repository")


def _split_ref(text: str) -> tuple[str, str]:
    mark = _REF_MARK.search(text)
    if mark is None:
        return text, ""
    if mark.end() == len(text):
        raise errors.BadRequest(_ID, f"{text}: a branch, tag or commit should follow the @")
    return text[: mark.start()], text[mark.end() :]


def _check_url(scheme: str, rest: str, text: str) -> None:
    if scheme not in SCHEMES:
        allowed = ", ".join(SCHEMES)
        raise errors.BadRequest(_ID, f"{scheme}:// is not fetched from; use one of {allowed}")
    host, _, path = rest.partition("/")
    user = host.rpartition("@")[0]
    if ":" in user or (user and scheme == "https"):
        raise errors.BadRequest(
            _ID, "leave user and password out of the URL; Git's own credential helper gives them"
        )
    if scheme != "file" and (host.startswith("-") or not _HOST.fullmatch(host)):
        raise errors.BadRequest(_ID, f"{host[:80]!r} is no host")
    bad = [part for part in path.split("/") if part == ".." or part.startswith("-")]
    if bad or not path or any(ord(letter) <= 32 for letter in text):
        raise errors.BadRequest(_ID, f"{text[:200]!r} is no URL of a repository")


def _check_path(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or any(ord(letter) < 32 for letter in path):
        raise errors.BadRequest(_ID, f"{path[:200]!r} is no folder inside it")
