"""Names: of services and endpoints, of their HTTP paths, and of their ADR-32 announcements.

Services, functions, apps and infra roots share one namespace of first path segments. A name goes
into paths, NATS subjects, file names and command lines, so it is narrow on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache

from . import errors

MAX_LENGTH = 100
"""The longest service name, in characters."""

RPC = "rpc"
"""What the NATS subjects of services begin with."""

RESERVED = frozenset(
    {
        *(
            "api",
            "app",
            "apps",
            "asyncapi",
            "auth",
            "broker",
            "config",
            "core",
            "dashboard",
            "events",
        ),
        *("functions", "gateway", "healthz", "infra", "metrics", "monitor", "nats", "openapi"),
        *("platform", "proxy", "readyz", "registry", RPC, "runtime", "schemas", "server", "shared"),
        *("store", "supervisor", "workers"),
    }
)
"""Names that nothing deployed may take: they begin subjects and paths of the platform's own."""

_SERVICE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]|\.(?=[A-Za-z0-9]))*")
# The handler is named after the service, which may start with a digit.
_ENDPOINT = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z_][A-Za-z0-9_]*")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")
_VERSION_PART = re.compile(r"v[0-9]+", re.ASCII)
# https://semver.org, the shape that ADR-32 asks of versions.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_SUBJECT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


Taken = Callable[[str, str], Awaitable[str]]
"""Says of a namespace and a name whose that is already, for people; an empty text is nobody's."""


async def nobody(namespace: str, name: str) -> str:
    """Every name is free."""
    return ""


def check_service(name: str) -> str:
    """Return the name of a service when it is a good one.

    Raises:
        errors.BadRequest: empty, too long, or with anything but letters, digits, ``_ - .``.
    """
    if len(name) <= MAX_LENGTH and _SERVICE.fullmatch(name):
        return name
    shown = name if len(name) <= MAX_LENGTH else name[:40] + "…"
    raise errors.BadRequest(
        "names",
        f"{shown!r} is no service name: use up to {MAX_LENGTH} letters, digits, '-', '_' and "
        "single dots, starting with a letter or digit",
    )


def is_namespace(name: str) -> bool:
    """Whether a text is a good name of a namespace."""
    return _NAMESPACE.fullmatch(name) is not None


def check_namespace(name: str) -> str:
    """Return the name of a namespace when it is a good one.

    Raises:
        errors.BadRequest: it is not 1 to 50 small letters, digits and ``-`` between them.
    """
    if isinstance(name, str) and _NAMESPACE.fullmatch(name):
        return name
    raise errors.BadRequest(
        "names",
        f"{name!r:.80} is no namespace: use up to 50 small letters, digits and '-' between them",
    )


def check_endpoint(name: str) -> str:
    """Return the name of an endpoint, ``Handler.Method``, when it is a good one.

    Raises:
        errors.BadRequest: it is not two identifiers with a dot between them.
    """
    if len(name) <= 2 * MAX_LENGTH and _ENDPOINT.fullmatch(name):
        return name
    raise errors.BadRequest("names", f"{name[:80]!r} is no endpoint name: use Handler.Method")


def camel(word: str) -> str:
    """``list_users``, ``list-users`` and ``listUsers`` are all ``ListUsers``."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_]", word) if part)


def lower_camel(word: str) -> str:
    """``ListUsers`` as people type it in paths and commands: ``listUsers``."""
    return word[:1].lower() + word[1:]


def handler_of(service: str) -> str:
    """The handler that a service's endpoints belong to: ``Foo`` of ``v1.foo``."""
    return camel(service.rpartition(".")[2])


def default_endpoint(service: str) -> str:
    """The endpoint that a bare service name means: ``Helloworld.Call``."""
    return f"{handler_of(service)}.Call"


def endpoint_name(service: str, word: str) -> str:
    """``call`` of helloworld is ``Helloworld.Call``; ``Other.thing`` is ``Other.Thing``."""
    handler, dot, method = word.rpartition(".")
    return f"{camel(handler) if dot else handler_of(service)}.{camel(method)}"


@lru_cache(maxsize=4096)
def from_path(path: str) -> tuple[str, str]:
    """The (service, endpoint) that an HTTP path means, by Micro's mapping.

    ``/foo`` is foo ``Foo.Call``, ``/foo/bar`` foo ``Foo.Bar``, ``/foo/bar/baz`` foo ``Bar.Baz``,
    ``/v1/foo/bar`` v1.foo ``Foo.Bar``; of longer paths the last two parts are the endpoint and
    the rest, joined by dots, is the service.

    Raises:
        errors.BadRequest: a part cannot be a name.
    """
    parts = [part for part in path.split("/") if part]
    if not parts:
        raise errors.NotFound("gateway", "the path names no service")
    if len(parts) == 3 and _VERSION_PART.fullmatch(parts[0]):
        service, words = f"{parts[0]}.{parts[1]}", parts[2:]
    elif len(parts) <= 2:
        service, words = parts[0], parts[1:]
    else:
        service, words = ".".join(parts[:-2]), parts[-2:]
    check_service(service)
    if not words:
        return service, default_endpoint(service)
    endpoint = endpoint_name(service, ".".join(words))
    return service, check_endpoint(endpoint)


def to_path(service: str, endpoint: str) -> str:
    """The HTTP path of an endpoint, the inverse of `from_path`."""
    handler, _, method = endpoint.partition(".")
    parts = service.split(".")
    prefix = "/" + "/".join(parts)
    versioned = _VERSION_PART.fullmatch(parts[0]) is not None
    if handler == handler_of(service) and len(parts) == 1 + (versioned and len(parts) > 1):
        return f"{prefix}/{lower_camel(method)}"
    if versioned and len(parts) == 1:
        # `/v1/foo/bar` would be the service v1.foo.
        return f"{prefix}/{lower_camel(handler)}.{lower_camel(method)}"
    return f"{prefix}/{lower_camel(handler)}/{lower_camel(method)}"


@lru_cache(maxsize=4096)
def subject(service: str, endpoint: str) -> str:
    """The NATS subject that serves an endpoint.

    Raises:
        errors.NotFound: a wildcard, a blank or anything else that no subject of ours has.
    """
    if not (_SERVICE.fullmatch(service) and _SUBJECT.fullmatch(endpoint)):
        raise errors.NotFound("names", f"there is no endpoint {endpoint!r} of {service!r}")
    return f"{prefix(service)}{endpoint}"


def prefix(service: str) -> str:
    """What the NATS subjects of a service begin with: ``rpc.foo.``, of v1.foo ``rpc.v1~foo.``.

    The name is one token, so that no service's subjects are below another's.
    """
    return f"{RPC}.{service.replace('.', '~')}."


def announced(name: str) -> str:
    """A name in ADR-32's narrower alphabet, ``[A-Za-z0-9_-]``: ``v1.foo`` is ``v1-foo``."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def announced_endpoint(name: str) -> str:
    """An endpoint in ADR-32's alphabet: ``Helloworld.Call`` is ``Helloworld_Call``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def announced_version(version: str) -> str:
    """A version in the SemVer shape that ADR-32 asks for: ``latest`` is ``0.0.0-latest``."""
    if _SEMVER.fullmatch(version):
        return version
    tail = re.sub(r"[^0-9A-Za-z-]", "-", version).strip("-") or "unknown"
    # SemVer has no numbers with leading zeros; a commit may look like one.
    return f"0.0.0-v{tail}" if tail.isdigit() and tail[0] == "0" else f"0.0.0-{tail}"
