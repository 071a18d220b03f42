"""Drafts: all that can be wrong with one but its sources, told before anything is done."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from microcosmos.base import errors, names, topics
from microcosmos.base.patterns import Pattern, parts_of
from microcosmos.events.interface import Draft as EventDraft
from microcosmos.events.interface import Schedule
from microcosmos.events.schedule import check_schedule

from . import forms, limits, placeholders
from .egress.headers import NAME, OURS
from .interface import (
    GRANTS,
    MAX_ENV,
    MAX_FILES,
    MAX_MESSAGE,
    MAX_ROUTES,
    MAX_SOURCE,
    MAX_VALUE,
    Draft,
    Language,
    SecretUse,
)

MAX_PATH = 255
"""The most bytes of the path of a function's file."""

MAX_HOSTS = 100
"""The most hosts that a function may be allowed."""

MAX_GRANTS = 50
"""The most grants of a function."""

MAX_TRIGGERS = 20
"""The most topics and schedules that a function is run by."""

MAX_PATTERN = 500
"""The most characters of a route."""

MAX_USES = 20
"""The most places where one secret is filled in."""

T = TypeVar("T")

EVENTS = "events:"
CRON = "cron:"

_ID = "functions"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_HOST = re.compile(
    r"(\*\.)?(?=.{1,253}(:|$))[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*"
    r"(:\d{1,5})?"
)
_HOST6 = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_NO_PATH = re.compile(r"[?#]|%[0-9A-Fa-f]{2}")
# What engines give a meaning of their own.
_NO_VARIABLES = frozenset({"__proto__", "constructor", "prototype"})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A draft that is well said, and what it begins with.

    Attributes:
        draft: with what was left unsaid.
        main: the file that begins.
        language: of that file.
    """

    draft: Draft
    main: str
    language: Language


def check(draft: Draft) -> Plan:
    """What a draft is to be.

    Raises:
        errors.BadRequest: something about it is wrong; the detail says what, in one line.
        errors.TooLarge: it has too much of something.
        errors.Conflict: the name is the platform's own.
    """
    check_name(draft.name)
    _check_files(draft.files)
    main = forms.main_of(draft.files, draft.name, draft.main)
    language = forms.language_of(main, draft.language)
    forms.check_engine(draft.engine)
    forms.check_isolation(draft.isolation)
    _check_text("message", draft.message)
    if len(draft.message) > MAX_MESSAGE:
        raise errors.TooLarge(
            _ID, f"message: it has {len(draft.message)} characters; at most {MAX_MESSAGE}"
        )
    grants = _grants(draft.grants)
    _check_values("env", draft.env, grants)
    _check_values("secrets", draft.secrets, grants)
    if both := sorted(set(draft.env) & set(draft.secrets)):
        raise _bad("secrets", f"{both[0]} is a variable already; it is one or the other")
    hosts = _hosts(draft.hosts)
    uses = _secret_uses(draft.secret_uses, draft.secrets, hosts)
    _check_useful(draft.secrets, uses, grants)
    planned = msgspec.structs.replace(
        draft,
        main=main,
        hosts=hosts,
        secret_uses=uses,
        routes=_routes(draft.routes),
        grants=grants,
        on=_triggers(draft.on),
        limits=limits.check("limits", draft.limits),
    )
    return Plan(draft=planned, main=main, language=language)


def check_name(name: str) -> str:
    """Return the name of a function when it is one that can be deployed.

    Raises:
        errors.BadRequest: it is none.
        errors.Conflict: it is the platform's own.
    """
    names.check_service(name)
    if family(name) in names.RESERVED:
        raise errors.Conflict(_ID, f"/{family(name)} is the platform's own; choose another name")
    return name


def family(name: str) -> str:
    """The first part of the paths of a function."""
    return name.partition(".")[0]


def check_secret(name: str) -> str:
    """Return the name of a secret when it is a good one.

    Raises:
        errors.BadRequest: it is none.
    """
    if _VARIABLE.fullmatch(name) and name not in _NO_VARIABLES:
        return name
    raise _bad("secrets", f"{name!r:.60} is no name; use up to 100 letters, digits and _")


# Files.


def _check_files(files: Mapping[str, str]) -> None:
    if not files:
        raise _bad("files", "there are none")
    if len(files) > MAX_FILES:
        raise errors.TooLarge(_ID, f"files: there are {len(files)}; at most {MAX_FILES}")
    for path, text in files.items():
        _check_path(path)
        _check_text(path, text)
    folders = {parent for path in files for parent in _parents(path)}
    if both := sorted(folders & set(files)):
        raise _bad("files", f"{both[0]} is a file and a folder")
    size = sum(len(text) if text.isascii() else len(text.encode()) for text in files.values())
    if size > MAX_SOURCE:
        limit = MAX_SOURCE // (1024 * 1024)
        raise errors.TooLarge(_ID, f"files: they have {size:,} bytes; at most {limit} MiB")


def _check_path(path: str) -> None:
    parts = path.split("/")
    good = not {"", ".", ".."}.intersection(parts) and path.isprintable() and "\\" not in path
    if not good or len(path.encode("utf-8", "replace")) > MAX_PATH:
        detail = f"{path!r:.80} is no path; use names with / between them, at most {MAX_PATH} bytes"
        raise _bad("files", detail)


def _parents(path: str) -> Iterable[str]:
    while (path := path.rpartition("/")[0]) != "":
        yield path


def _check_text(what: str, text: str) -> None:
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        raise errors.BadRequest(_ID, f"{what}: it is no valid Unicode") from None


# Variables, secrets and what they may clash with.


def _check_values(what: str, values: Mapping[str, str | None], grants: Collection[str]) -> None:
    if len(values) > MAX_ENV:
        raise errors.TooLarge(_ID, f"{what}: there are {len(values)}; at most {MAX_ENV}")
    bindings = {grant.partition(":")[0] for grant in grants} - {placeholders.GRANT}
    for name, value in values.items():
        if not _VARIABLE.fullmatch(name) or name in _NO_VARIABLES:
            raise _bad(what, f"{name!r:.60} is no name; use up to 100 letters, digits and _")
        if name in bindings:
            raise _bad(what, f"{name} is what --grant {name} gives; choose another name")
        if value is None:
            continue
        _check_text(f"{what}.{name}", value)
        if (size := len(value.encode())) > MAX_VALUE:
            detail = f"{what}.{name}: its value has {size:,} bytes; at most {MAX_VALUE:,}"
            raise errors.TooLarge(_ID, detail)


def _grants(grants: list[str]) -> list[str]:
    _few("grants", grants, MAX_GRANTS)
    for grant in grants:
        word, colon, rest = grant.partition(":")
        if word not in GRANTS:
            raise _bad("grants", f"{grant!r:.60} is none; one of {', '.join(GRANTS)}")
        if colon and word == placeholders.GRANT:
            _check_variable("grants", rest)
        elif colon and word != "call":
            raise _bad("grants", f"{grant!r:.60}: only call is narrowed, as in call:users.read")
        elif colon:
            try:
                names.check_service(rest)
            except errors.BadRequest as exc:
                raise _bad("grants", f"{grant!r:.60}: {exc.detail}") from None
    return _once("grants", grants)


def _check_variable(what: str, name: str) -> None:
    if not _VARIABLE.fullmatch(name) or name in _NO_VARIABLES:
        raise _bad(what, f"{name!r:.60} is no name; use up to 100 letters, digits and _")


# Secrets: where they are filled in, and which may be read.


def _secret_uses(
    uses: Mapping[str, list[SecretUse]], secrets: Collection[str], hosts: list[str]
) -> dict[str, list[SecretUse]]:
    found: dict[str, list[SecretUse]] = {}
    for name, places in uses.items():
        if name not in secrets:
            raise _bad(
                "secret_uses", f"there is no secret {name:.60} with it; add --secret {name:.60}"
            )
        _few(f"secret_uses.{name}", places, MAX_USES)
        told = [_secret_use(name, use, hosts) for use in places]
        if told:
            found[name] = _once(f"secret_uses.{name}", told)
    return found


def _secret_use(name: str, use: SecretUse, hosts: list[str]) -> SecretUse:
    what = f"secret_uses.{name}"
    host, header = _host(what, use.host), use.header.lower()
    if not NAME.fullmatch(header) or len(header) > 100:
        raise _bad(what, f"{use.header!r:.60} is no name of a header")
    if header in OURS:
        raise _bad(what, f"{header} is of the connection, and no secret is filled in there")
    if hosts and not any(_covers(one, host) for one in hosts):
        raise _bad(what, f"{host} is not among its hosts; add --allow-host {host}")
    return SecretUse(host, header)


def _covers(allowed: str, host: str) -> bool:
    """Whether who may fetch from the one may fetch from all of the other."""
    if allowed == host:
        return True
    name, colon, port = _cut(allowed)
    other, _, at = _cut(host)
    if colon and port != at:
        return False
    return other == name or (name.startswith("*.") and other.endswith(name[1:]))


def _cut(host: str) -> tuple[str, str, str]:
    """A host, and its port if it has one."""
    name, colon, port = host.rpartition(":")
    return (name, colon, port) if port.isdecimal() and name[-1:] != ":" else (host, "", "")


def _check_useful(
    secrets: Collection[str], uses: Mapping[str, list[SecretUse]], grants: Collection[str]
) -> None:
    """Refuse a secret with which a function could do nothing."""
    for grant in grants:
        word, _, name = grant.partition(":")
        if word == placeholders.GRANT and name and name not in secrets:
            raise _bad("grants", f"{grant}: there is no secret {name} with it; add --secret {name}")
    if useless := placeholders.useless(secrets, uses, grants):
        name = useless[0]
        detail = f"nothing says what {name} is for: --secret-use {name}=HOST[/HEADER] has it filled"
        raise _bad("secrets", f"{detail} in there, --grant secret:{name} lets the code read it")


# What it may reach, what reaches it, what runs it.


def _hosts(hosts: list[str]) -> list[str]:
    _few("hosts", hosts, MAX_HOSTS)
    return _once("hosts", [_host("hosts", host) for host in hosts])


def _host(what: str, host: str) -> str:
    found = _HOST.fullmatch(host) or _HOST6.fullmatch(host)
    port = found.groups()[-1] if found else None
    if not found or (port and not 0 < int(port[1:]) < 65536):
        detail = f"{host!r:.80} is none; write example.org, *.example.org or 127.0.0.1:8000"
        raise _bad(what, detail)
    return host.lower()


def _routes(routes: list[str]) -> list[str]:
    _few("routes", routes, MAX_ROUTES)
    for route in routes:
        _check_text("routes", route)
        if len(route) > MAX_PATTERN:
            raise errors.TooLarge(_ID, f"routes: {route[:40]}… is over {MAX_PATTERN} characters")
        try:
            Pattern(route)
        except ValueError as exc:
            raise _bad("routes", f"{exc}; write /users/{{id}}") from None
        if {".", ".."}.intersection(parts_of(route)):
            raise _bad("routes", f"{route!r:.80} has . or .. in it")
        if not route.isprintable() or _NO_PATH.search(route):
            detail = f"{route!r:.80} is no path: it is told decoded, and without a query"
            raise _bad("routes", detail)
    once = _once("routes", routes)
    # One that is the family itself is all of it.
    return [] if not all(map(parts_of, once)) else once


def _triggers(on: list[str]) -> list[str]:
    _few("on", on, MAX_TRIGGERS)
    found = []
    for trigger in on:
        if trigger.startswith(EVENTS):
            found.append(f"{EVENTS}{_topic(trigger.removeprefix(EVENTS).strip())}")
        elif trigger.startswith(CRON):
            found.append(f"{CRON}{_schedule(trigger.removeprefix(CRON))}")
        else:
            detail = f"{trigger!r:.60} is none; write events:orders or cron:*/5 * * * *"
            raise _bad("on", detail)
    return _once("on", found)


def _topic(text: str) -> str:
    try:
        return topics.check_pattern(text)
    except errors.BadRequest as exc:
        raise _bad("on", exc.detail) from None


def _schedule(text: str) -> str:
    when = " ".join(text.split())
    if when.startswith("@at"):
        raise _bad("on", "@at is once; a function is run by what comes again")
    try:
        check_schedule(Schedule("function", EventDraft("function", b"{}"), when))
    except errors.BadRequest as exc:
        raise _bad("on", exc.detail) from None
    return when


def _few(what: str, found: Sequence[object], most: int) -> None:
    if len(found) > most:
        raise errors.TooLarge(_ID, f"{what}: there are {len(found)}; at most {most}")


def _once(what: str, found: list[T]) -> list[T]:
    """The same, if nothing is said twice."""
    for at, one in enumerate(found):
        if one in found[:at]:
            shown = f"{one.host}/{one.header}" if isinstance(one, SecretUse) else one
            raise _bad(what, f"{shown} is said twice")
    return found


def _bad(what: str, detail: str) -> errors.BadRequest:
    return errors.BadRequest(_ID, f"{what}: {detail}")
