"""Versions: what they are made of, their hashes, and the chain that these make."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import cbor2
import msgspec

from microcosmos.base import codec

from .interface import (
    API_VERSION,
    Draft,
    Engine,
    Form,
    Isolation,
    Language,
    Limits,
    Share,
    Version,
)
from .limits import DEFAULTS

T = TypeVar("T")

_SALT = 16
_KEY = 32
_DIGITS = 9


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A version as the store has it, without its sources and its program.

    Attributes:
        version: for everybody.
        env: values of variables, by name.
        salt: what their digest was made with, in hexadecimal.
        linked: whether its files were linked to one program, which is JavaScript then.
    """

    version: Version
    env: dict[str, str]
    salt: str
    linked: bool

    @property
    def language(self) -> Language:
        """Of the program."""
        return "javascript" if self.linked else self.version.language


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A draft that has been checked, and what was made of it.

    Attributes:
        draft: with what was left unsaid.
        main: the file that begins.
        language: of that file.
        form: how it answers.
        engine: what runs it.
        code: the whole program.
        linked: whether that was linked from the files.
        isolation: what it is kept apart by.
    """

    draft: Draft
    main: str
    language: Language
    form: Form
    engine: Engine
    code: str
    linked: bool = False
    isolation: Isolation = "isolate"


class Which(msgspec.Struct, frozen=True):
    """One function, and not one before it that had its name.

    Attributes:
        namespace: where it lives.
        name: of it.
        id: told from others of its name by this.
    """

    namespace: str
    name: str
    id: str = ""

    @property
    def key(self) -> str:
        """What its one record in a table is called."""
        return f"{self.namespace}/{self.name}"

    @property
    def prefix(self) -> str:
        """What the keys of its own records begin with, where it has many."""
        return f"{self.namespace}/{self.name}/{self.id}/"

    def version(self, number: int) -> str:
        """The key of the records of a version."""
        return f"{self.prefix}{number:0{_DIGITS}}"


def digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_salt() -> str:
    """Something that makes the digest of values tell nothing of them."""
    return secrets.token_hex(_SALT)


def digest_of_values(env: Mapping[str, str], salt: str) -> str:
    """The salted digest of the values of variables."""
    canonical = cbor2.dumps([salt, dict(env)], canonical=True)
    return hashlib.sha256(canonical).hexdigest()


def canonical(which: Which, version: Version, files: Mapping[str, str]) -> bytes:
    """What the hash of a version is of: one map in canonical CBOR (RFC 8949)."""
    # What came later is left out where nothing was said of it: the hashes of before stay true.
    later = {
        "isolation": "" if version.isolation == "isolate" else version.isolation,
        "limits": version.limits,
        "secret_uses": msgspec.to_builtins(version.secret_uses),
    }
    return cbor2.dumps(
        {
            **{name: value for name, value in later.items() if value},
            "api_version": version.api_version,
            "author": version.author,
            "code": version.code,
            "date": version.date,
            "engine": version.engine,
            "env": version.env,
            "files": dict(files),
            "form": version.form,
            "grants": version.grants,
            "hosts": version.hosts,
            "language": version.language,
            "main": version.main,
            "message": version.message,
            "name": which.name,
            "namespace": which.namespace,
            "number": version.number,
            "on": version.on,
            "parent": version.parent,
            "routes": version.routes,
            "secrets": version.secrets,
            "values": version.values,
        },
        canonical=True,
    )


def hash_of(which: Which, version: Version, files: Mapping[str, str]) -> str:
    """The hash of a version, in hexadecimal; that which it has already is no part of it."""
    return hashlib.sha256(canonical(which, version, files)).hexdigest()


def first_or_next(
    which: Which, made: Made, salt: str, *, number: int, parent: str, author: str, time: float
) -> Version:
    """The version that a draft becomes.

    Args:
        which: of what.
        made: of what.
        salt: for the digest of the values of variables.
        number: of the version.
        parent: the hash of the one before, empty of the first.
        author: the id of who deploys it.
        time: when, in seconds since the epoch.
    """
    draft = made.draft
    version = Version(
        number=number,
        hash="",
        parent=parent,
        language=made.language,
        form=made.form,
        engine=made.engine,
        api_version=API_VERSION,
        main=made.main,
        files={},
        env=sorted(draft.env),
        secrets=sorted(draft.secrets),
        hosts=draft.hosts,
        routes=draft.routes,
        grants=draft.grants,
        on=draft.on,
        author=author,
        message=draft.message,
        date=stamp(time),
        code=digest(made.code),
        values=digest_of_values(draft.env, salt),
        isolation=made.isolation,
        limits=draft.limits,
        secret_uses=draft.secret_uses,
    )
    return sealed(which, version, draft.files)


def sealed(which: Which, version: Version, files: Mapping[str, str]) -> Version:
    """A version with the digests of its files and its hash."""
    version = msgspec.structs.replace(
        version, files={path: digest(text) for path, text in sorted(files.items())}
    )
    return msgspec.structs.replace(version, hash=hash_of(which, version, files))


def stamp(time: float) -> str:
    """A time as versions have it: RFC 3339 in UTC with microseconds."""
    moment = datetime.fromtimestamp(time, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def share_of(
    kept: Kept, marks: Mapping[str, str], limits: Limits = DEFAULTS, weight: int = 100
) -> Share:
    """A version as those know it who run it.

    Args:
        kept: the version.
        marks: of the secrets that are kept, by name; a secret that is set anew has another.
        limits: what it may use.
        weight: hundredths of all requests.
    """
    version = kept.version
    return Share(
        number=version.number,
        key=key_of(version, marks, limits),
        engine=version.engine,
        weight=weight,
        routes=version.routes,
        on=version.on,
        wall=limits.wall,
    )


def key_of(version: Version, marks: Mapping[str, str], limits: Limits = DEFAULTS) -> str:
    """What names a version and the values that it runs with, and tells nothing of these."""
    parts = [version.hash, *(f"{name}={marks.get(name, '')}" for name in sorted(version.secrets))]
    if limits != DEFAULTS:
        parts.append(f"limits {msgspec.json.encode(limits).decode()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_KEY]


def missing(version: Version, marks: Mapping[str, str]) -> list[str]:
    """The secrets that a version needs and that are gone."""
    return [name for name in version.secrets if name not in marks]


class Link(msgspec.Struct, frozen=True):
    """The records of one version, as they are kept; None is one that is gone."""

    number: int
    record: bytes | None
    sources: bytes | None
    code: bytes | None


class Chain:
    """Looks whether versions are what they say, from the first to the newest.

    Args:
        which: whose.
    """

    def __init__(self, which: Which) -> None:
        self._which = which
        self.hash = ""
        self.number = 0

    def add(self, link: Link) -> Iterator[str]:
        """What is wrong with the next version."""
        while self.number + 1 < link.number:
            self.number += 1
            self.hash = ""
            yield f"v{self.number} is missing"
        self.number = link.number
        kept, files = _read(link.record, Kept), _read(link.sources, dict[str, str])
        before, self.hash = self.hash, kept.version.hash if kept else ""
        name = f"v{link.number}"
        if kept is None or files is None or link.code is None:
            what = "record" if kept is None else "sources" if files is None else "program"
            yield f"{name}: its {what} is missing or damaged"
            return
        version = kept.version
        if version.number != link.number:
            yield f"{name}: it says that it is v{version.number}"
        if version.parent != before and (before or link.number == 1):
            yield f"{name}: its parent is not the version before it"
        yield from (f"{name}: {what}" for what in self._wrong(kept, files, link.code))

    def _wrong(self, kept: Kept, files: dict[str, str], code: bytes) -> Iterator[str]:
        version = kept.version
        digests = {path: digest(text) for path, text in files.items()}
        for path in sorted(digests.keys() | version.files.keys()):
            if digests.get(path) != version.files.get(path):
                yield f"{path} is not what was deployed"
        if hashlib.sha256(code).hexdigest() != version.code:
            yield "its program is not what its files were made to"
        if kept.linked == (version.code == version.files.get(version.main)):
            yield "its program is said to be what it is not"
        if sorted(kept.env) != version.env or digest_of_values(kept.env, kept.salt) != (
            version.values
        ):
            yield "the values of its variables are not what was deployed"
        if hash_of(self._which, version, files) != version.hash:
            yield "its hash is not that of what it holds"


def _read(data: bytes | None, kind: type[T]) -> T | None:
    """A record, if it is to the byte as it was written."""
    if data is None:
        return None
    try:
        value: T = msgspec.json.decode(data, type=kind)
    except codec.DECODE_ERRORS:
        return None
    return value if codec.encode(value) == data else None
