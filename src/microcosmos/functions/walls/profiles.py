"""What a process of each kind may do within the walls."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import calls, landlock
from .calls import Calls
from .landlock import KEEP, LOOK, MAKE_SOCKET, READ, WRITE, Reach

DESCRIPTORS = 4096
"""Open files and connections of a process within the walls."""

ADDRESS_SPACE = 8 * 1024 * 1024 * 1024
"""Bytes of addresses of a worker whose engine compiles nothing: all its functions together."""

DATA = 8 * 1024 * 1024 * 1024
"""Bytes of memory that a worker may write to whose engine compiles, and so reserves far more."""

IMAGE = 1024 * 1024 * 1024
"""Bytes of a file in memory, which fresh realms begin with."""

WRITTEN = 1024 * 1024 * 1024
"""Bytes of a file that a bundler writes."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a process may still do.

    Attributes:
        name: of its kind.
        calls: to the system.
        reach: files, and TCP ports to connect to.
        limits: of resources, by their numbers.
        without: walls that are not for this kind.
    """

    name: str
    calls: Calls
    reach: Reach = field(default_factory=Reach)
    limits: Mapping[int, int] = field(default_factory=dict)
    without: frozenset[str] = frozenset()


_LIMITS: Mapping[int, int] = {
    # A core would have the secrets of functions in it.
    resource.RLIMIT_CORE: 0,
    # Pipes and sockets are no files.
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NOFILE: DESCRIPTORS,
    resource.RLIMIT_MEMLOCK: 0,
}

_ENGINE = calls.MEMORY | calls.TIME | calls.SELF | calls.STREAMS

_OWN: tuple[tuple[str, int], ...] = (
    ("/dev/null", READ | WRITE),
    ("/dev/urandom", READ),
    ("/proc/self", LOOK),
    ("/proc/meminfo", READ),
    ("/proc/sys/vm/overcommit_memory", READ),
    ("/proc/sys/kernel/osrelease", READ),
    ("/sys/kernel/mm/transparent_hugepage", LOOK),
)
"""What programs look at when they begin, of themselves and of the machine."""

_NETWORK: tuple[tuple[str, int], ...] = (
    *(("/etc/resolv.conf", READ), ("/etc/hosts", READ), ("/etc/nsswitch.conf", READ)),
    *(("/etc/host.conf", READ), ("/etc/gai.conf", READ), ("/etc/services", READ)),
    *(("/run/systemd/resolve", LOOK), ("/run/resolvconf", LOOK), ("/etc/resolvconf", LOOK)),
    *(("/etc/ssl", LOOK), ("/etc/pki", LOOK), ("/etc/ca-certificates", LOOK)),
    *(("/usr/share/ca-certificates", LOOK), ("/usr/local/share/ca-certificates", LOOK)),
    *(("/etc/localtime", READ), ("/usr/share/zoneinfo", LOOK)),
)
"""How names of hosts are found, and who signs certificates."""

_NOT_EXECUTED = frozenset({"undumpable"})
"""A program that is started is open to its user again: that is not kept over execve."""


def quickjs() -> Profile:
    """A worker on QuickJS: an interpreter of one thread, on what is open."""
    limits = {**_LIMITS, resource.RLIMIT_NPROC: 0, resource.RLIMIT_AS: ADDRESS_SPACE}
    return Profile("quickjs", _ENGINE, limits=limits)


def wasm() -> Profile:
    """A worker on QuickJS in WebAssembly, which was compiled before; a thread of it looks on."""
    limits = {**_LIMITS, resource.RLIMIT_DATA: DATA, resource.RLIMIT_FSIZE: IMAGE}
    return Profile("wasm", _ENGINE | calls.THREADS | calls.IMAGES, limits=limits)


def monty(program: str | Path) -> Profile:
    """A worker for Python: it starts one program, the sandbox, which is within these walls too.

    Raises:
        OSError: the program cannot be read.
    """
    may = _ENGINE | calls.THREADS | calls.FILES | calls.LOADING | calls.PROCESSES
    limits = {**_LIMITS, resource.RLIMIT_AS: ADDRESS_SPACE}
    reach = Reach((*landlock.program(program), *_OWN))
    return Profile("monty", may, reach, limits)


def looker() -> Profile:
    """What opens for a worker for Python what is told of its sandboxes' memory, and no more."""
    reach = Reach((("/proc", READ),))
    limits = {**_LIMITS, resource.RLIMIT_NPROC: 0, resource.RLIMIT_AS: ADDRESS_SPACE}
    return Profile("looker", _ENGINE | calls.FILES, reach, limits)


def deno(program: str | Path, scripts: Iterable[str | Path], folder: str | Path) -> Profile:
    """A worker on Deno: a program that compiles, by threads, and listens in a folder of its own.

    Args:
        program: Deno.
        scripts: folders with what it runs first.
        folder: where it makes its socket.

    Raises:
        OSError: the program cannot be read.
    """
    may = _ENGINE | calls.COMPILING | calls.THREADS | calls.FILES | calls.LOADING | calls.LISTENING
    own = (*((str(path), LOOK) for path in scripts), (str(folder), LOOK | MAKE_SOCKET))
    reach = Reach((*landlock.program(program), *_OWN, *own))
    limits = {**_LIMITS, resource.RLIMIT_DATA: DATA}
    return Profile("deno", may, reach, limits, _NOT_EXECUTED)


def bundler(
    program: str | Path,
    keep: Iterable[str | Path],
    execute: Iterable[str | Path],
    read: Iterable[str | Path],
    ports: Iterable[int],
) -> Profile:
    """What makes bundles: it keeps files in its folders, runs what it keeps, and asks registries.

    Args:
        program: Deno.
        keep: folders where it keeps files.
        execute: folders where it keeps programs that it runs, too.
        read: what it only reads.
        ports: of the registries.

    Raises:
        OSError: the program cannot be read.
    """
    may = (
        _ENGINE
        | calls.COMPILING
        | calls.THREADS
        | calls.FILES
        | calls.FOLDERS
        | calls.LOADING
        | calls.PROCESSES
        | calls.INTERNET
    )
    own = (
        *((str(path), KEEP) for path in keep),
        *((str(path), KEEP | landlock.EXECUTE) for path in execute),
        *((str(path), LOOK) for path in read),
    )
    files = (*landlock.program(program), *_OWN, *_NETWORK, *own)
    limits = {**_LIMITS, resource.RLIMIT_FSIZE: WRITTEN}
    without = _NOT_EXECUTED | {"environment", "descriptors"}
    return Profile("bundler", may, Reach(files, frozenset(ports)), limits, without)


def egress(sockets: Iterable[str | Path] = ()) -> Profile:
    """The process that fetches: it connects to wherever it is told to, and keeps nothing.

    Args:
        sockets: folders in which it may still make a socket.
    """
    may = (
        _ENGINE
        | calls.THREADS
        | calls.FILES
        | calls.CUTTING
        | calls.LIBRARIES
        | calls.INTERNET
        | calls.LOCAL
        | calls.LISTENING
    )
    own = tuple((str(path), MAKE_SOCKET | landlock.REMOVE_FILE) for path in sockets)
    files = (*landlock.LIBRARIES, *_OWN, *_NETWORK, *_certificates(), *own)
    # Its log is a file.
    limits = {kind: most for kind, most in _LIMITS.items() if kind != resource.RLIMIT_FSIZE}
    limits[resource.RLIMIT_NOFILE] = 4 * DESCRIPTORS
    # What it is told, and what it listens on, is its own.
    without = frozenset({"environment", "descriptors"})
    return Profile("egress", may, Reach(files, None), limits, without)


def _certificates() -> Iterable[tuple[str, int]]:
    """Where Python looks for those who sign certificates."""
    import ssl

    paths = ssl.get_default_verify_paths()
    found = (paths.cafile, paths.capath, paths.openssl_cafile, paths.openssl_capath)
    return [(path, LOOK) for path in found if path]
